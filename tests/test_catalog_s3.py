"""The S3 protocol itself, spoken with moto's server; skipped with one line where s3fs and moto are not installed."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers import as_environment, contents

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import UrlPath
from densereid.data_catalog.store.store import exists, open_store
from densereid.pipeline.commands.status import find_stores, verify_store
from densereid.preprocess.writing.fill import fill_shard, fill_store, write_failures
from densereid.preprocess.writing.plan import Plan, prepare

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[UrlPath]:
    """A folder in a bucket of an S3 server in this process."""
    reason = "S3 is tested where s3fs and moto are installed: pip install s3fs 'moto[server]'"
    pytest.importorskip("s3fs", reason=reason)
    moto_server = pytest.importorskip("moto.server", reason=reason)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
    yield UrlPath("s3://bucket/stores")
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    server.stop()
    _forget_connections()


def _forget_connections() -> None:
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_an_interrupted_run_in_a_bucket_goes_on_to_the_same_store(
    synthetic_root: Path,
    bucket: UrlPath,
    stores: dict[str, Path],
    make_plan: Callable[..., Plan],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And tensorstore's own S3 driver reads it."""
    caplog.set_level(logging.INFO)
    plan = make_plan(synthetic_root, bucket / "synthetic.zarr")
    fill_shard(plan.task(prepare(plan, format="zarr")[1]))
    rest = prepare(plan, format="zarr")
    assert rest == [0, 2]
    fill_store(plan, rest)
    write_failures(open_store(plan.path))
    system = fsspec.filesystem("s3", use_listings_cache=False)
    found = {name.removeprefix("bucket/stores/synthetic.zarr/") for name in system.find("bucket/stores/synthetic.zarr")}
    assert found == set(contents(stores["zarr"]))
    for name in found:
        assert system.cat_file(f"bucket/stores/synthetic.zarr/{name}") == (stores["zarr"] / name).read_bytes(), name
    store, local = open_store(str(plan.path)), open_store(stores["zarr"])
    rows = np.random.default_rng(2).permutation(77)
    for name in ("image", "mask", "dsap", "score", "path"):
        np.testing.assert_array_equal(store.read(name, rows), local.read(name, rows), err_msg=name)
    assert "no driver" not in caplog.text
    verify_store(store, sample=10, seed=0)
    assert [facts["shards_done"] for facts in find_stores(bucket)] == [3]


def test_commands_take_a_bucket(bucket: UrlPath, crops: Path, tmp_path: Path) -> None:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=ROOT, env={**os.environ, **as_environment(variables)}, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    variables = {"DATASET": "folder", "DATA_ROOT": str(crops), "STORE_ROOT": str(bucket), "SIZE": "64x32"}
    made = run("preprocess", **variables)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "s3://bucket/stores/folder-crops-64x32.zarr\n"
    assert "credentials" not in made.stderr  # botocore tells where it found them
    assert "s3://bucket/stores" in run("status", **variables).stdout
    assert run("inspect", **variables, RUN_ROOT=str(tmp_path)).returncode == 0
    assert run("verify", "s3://bucket/stores/folder-crops-64x32.zarr").returncode == 0
    assert run("convert", "s3://bucket/stores/folder-crops-64x32.zarr", str(tmp_path / "a.hdf5")).returncode == 0
    assert open_store(tmp_path / "a.hdf5").geometry.num_samples == 5
    refused = run("preprocess", **variables, STORE="hdf5")
    assert refused.returncode == 1
    assert "an hdf5 store cannot live at s3://bucket/stores/folder-crops-64x32.hdf5" in refused.stderr


def test_a_path_that_was_used_crosses_a_fork(bucket: UrlPath) -> None:
    path = bucket / "a.json"
    path.write_bytes(b"{}")
    child = os.fork()
    if child == 0:
        os._exit(0 if path.read_text(encoding="utf-8") == "{}" and path.is_file() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_missing_bucket_and_a_server_that_is_not_there_are_told(
    synthetic_root: Path, bucket: UrlPath, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(synthetic_root, UrlPath("s3://no-bucket/synthetic.zarr"))
    with pytest.raises(UserError, match=r"s3://no-bucket/synthetic.zarr\S* is not there: (.|\n)*make the bucket first"):
        prepare(plan, format="zarr")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        _forget_connections()
        with pytest.raises(UserError, match=r"s3://bucket/stores\S* cannot be reached: "):
            exists(bucket / "synthetic.zarr")
