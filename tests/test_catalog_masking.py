"""Secrets in URLs: used, and neither shown nor recorded."""

from __future__ import annotations

import pickle
from pathlib import Path
from uuid import uuid4

import pytest
from helpers import run

from densereid.data_catalog.errors import UserError, masked
from densereid.data_catalog.files.paths import parse_path
from densereid.pipeline.invocation import Invocation, next_command, set_running, this_command

SECRETS = [
    "s3://AKIAEXAMPLE:S3CRET@bucket/stores",
    "s3://AKIAEXAMPLE:S3C/RET+x@bucket/stores",
    "https://user:S3CRET@host:8080/a",
    "https://user:p@S3CRET@host/a",
    "https://S3CRET-S3CRET-S3CRET@host/a",
    "https://host/a?token=S3CRET",
    "https://host/a?X-Amz-Signature=S3CRET&part=1",
    "https://host/a?version=2&sig=S3CRET#x",
    "abfs://box@account/a?sv=S3CRET",
    "http://host/a#access_token=S3CRET",
    "sftp://me:'S3CRET'@host/a",
]
PLAIN = ["sftp://user@host:22/a", "s3://bucket/a b/c@d", "gs://bucket/a=b", "memory://a", "PATTERN='(?P<person>\\d+)'",
         "a@b.c: x?y", "tcp://127.0.0.1:8786", "/data/a:b@c", "--set key=value"]  # fmt: skip


def hides(text: str) -> bool:
    return "***" in text and not any(part in text for part in ("S3CRET", "S3C", "RET+x"))


@pytest.mark.parametrize("url", SECRETS)
def test_no_secret_of_a_url_is_shown(url: str) -> None:
    assert all(hides(masked(text)) for text in (url, f"no store at {url}: gone", f"make x STORE_ROOT='{url}' SEED=1"))
    assert str(UserError(f"{url} is gone", f"look at {url}")).count("***") >= 2
    assert hides(str(UserError(f"{url} is gone", f"look at {url}")))


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_addresses_that_libraries_quote_without_their_beginning() -> None:
    assert masked("with url: /a?part=1&api_key=S3CRET (refused)") == "with url: /a?part=1&api_key=*** (refused)"


@pytest.mark.parametrize("url", [url for url in SECRETS if url.startswith(("s3", "https", "abfs"))])
def test_a_path_is_shown_masked_and_used_whole(url: str) -> None:
    path = parse_path(url) / "a.zarr"
    assert path.url == f"{url}/a.zarr"  # type: ignore[union-attr]
    assert pickle.loads(pickle.dumps(path)) == path
    assert hides(str(path) + repr(path))


def test_commands_that_are_shown_or_recorded_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["densereid", "train", "--store-root", SECRETS[0]])
    set_running(Invocation("train", {"STORE_ROOT": (SECRETS[0],)}))
    try:
        assert hides(this_command())
        assert hides(next_command("evaluate", store_root=SECRETS[1]))
        monkeypatch.setenv("DENSEREID_MAKE_GOALS", "train")
        monkeypatch.setenv("DENSEREID_MAKE_VARIABLES", "STORE_ROOT")
        monkeypatch.setenv("DENSEREID_STORE_ROOT", SECRETS[0])
        assert hides(this_command())
        assert hides(next_command("evaluate", store_root=SECRETS[1]))
    finally:
        set_running(Invocation())


def test_a_run_says_and_records_no_secret(crops: Path) -> None:
    """Into fsspec's memory, in which the name of a host is a folder."""
    place = f"memory://name:S3CRET@{uuid4().hex}"
    options = {"DATASET": "folder", "DATA_ROOT": crops, "STORE_ROOT": place, "SIZE": "32x16", "DEVICE": "cpu"}
    ended = run("preprocess", **options)
    assert ended.returncode == 0, ended.stderr
    store = parse_path(place) / "folder-crops-32x16.zarr"
    said = [ended.stdout, ended.stderr]
    said += [(store / name).read_text("utf-8") for name in ("provenance.json", "inputs.json", "zarr.json")]
    said += [run(command, **options).stderr for command in ("preprocess", "derive", "train", "inspect")]
    assert "***" in "".join(said)
    assert "S3CRET" not in "".join(said)
