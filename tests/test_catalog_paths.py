"""Stores at a URL: the same bytes as in a folder, the same protocol of markers, errors that name the place."""

from __future__ import annotations

import http.server
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers import GEOMETRY, contents, random_rows, write_random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import UrlPath, folder_bytes, free_bytes, parse_path
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.schema import ARRAYS
from densereid.data_catalog.store.store import (
    INPUTS,
    MARKER_CACHE_SECONDS,
    create_store,
    exists,
    open_store,
    write_shard,
)
from densereid.data_catalog.store.zarr_format import object_driver
from densereid.pipeline.commands.status import find_stores, verify_store
from densereid.preprocess.writing.fill import fill_shard, fill_store
from densereid.preprocess.writing.plan import Plan, prepare


@pytest.fixture
def bucket() -> Iterator[UrlPath]:
    """A folder in fsspec's memory filesystem, which lives in this process only."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    place = parse_path("memory://bucket/stores")
    assert isinstance(place, UrlPath)
    yield place
    memory.store.clear()


def objects(place: UrlPath) -> dict[str, bytes]:
    system, path = fsspec.url_to_fs(place.url)
    return {name.removeprefix(f"{path}/"): system.cat_file(name) for name in system.find(path)}


def test_a_path_is_local_a_url_is_not_and_a_file_url_is_local_again(tmp_path: Path) -> None:
    assert parse_path("stores/a.zarr") == Path("stores/a.zarr")
    assert parse_path(f"file://{tmp_path}/with%20space") == tmp_path / "with space"
    place = parse_path("s3://bucket/stores/")
    assert place == UrlPath("s3://bucket/stores")
    assert str(place / "a.zarr") == "s3://bucket/stores/a.zarr"
    assert ((place / "a.zarr").name, (place / "a.zarr").stem, (place / "a.zarr").suffix) == ("a.zarr", "a", ".zarr")
    assert pickle.loads(pickle.dumps(place)) == place
    assert free_bytes(place) is None
    assert free_bytes(tmp_path / "not" / "there" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(UserError, match=r"s4://bucket: 's4' is no protocol(.|\n)*s3://BUCKET/FOLDER"):
        parse_path("s4://bucket")


def test_objects_are_put_listed_and_deleted(bucket: UrlPath) -> None:
    (bucket / "a.json").write_bytes("früh".encode())
    (bucket / "below" / "b.json").write_bytes(b"12345")
    assert (bucket / "a.json").read_text(encoding="utf-8") == "früh"
    assert (bucket / "a.json").is_file()
    assert not (bucket / "below").is_file()
    assert not (bucket / "c.json").is_file()
    assert bucket.glob("*") == [bucket / "a.json", bucket / "below"]
    assert bucket.glob("*.json") == [bucket / "a.json"]
    assert (bucket / "nowhere").glob("*") == []
    assert folder_bytes(bucket) == 10
    (bucket / "a.json").unlink()
    (bucket / "a.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"memory://bucket/stores/a.json is not there"):
        (bucket / "a.json").unlink()


def test_a_store_at_a_url_has_the_bytes_of_a_local_one(tmp_path: Path, bucket: UrlPath) -> None:
    write_random_store(tmp_path / "store.zarr", "zarr")
    write_random_store(bucket / "store.zarr", "zarr")  # type: ignore[arg-type]
    local = {
        file.relative_to(tmp_path / "store.zarr").as_posix(): file.read_bytes()
        for file in (tmp_path / "store.zarr").rglob("*")
        if file.is_file()
    }
    assert objects(bucket / "store.zarr") == local


def test_every_array_of_a_store_at_a_url_comes_back_in_any_order(
    bucket: UrlPath, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    written = write_random_store(bucket / "store.zarr", "zarr")  # type: ignore[arg-type]
    store = pickle.loads(pickle.dumps(open_store(f"{bucket}/store.zarr")))
    rows = np.random.default_rng(1).permutation(75)
    for name, values in written.items():
        np.testing.assert_array_equal(store.read(name), values, err_msg=name)
        np.testing.assert_array_equal(store.read(name, rows), values[rows], err_msg=name)
        np.testing.assert_array_equal(store.read(name, slice(30, 40)), values[30:40], err_msg=name)
    assert "memory://bucket/stores/store.zarr/image: tensorstore has no driver for it" in caplog.text


def test_a_shard_at_a_url_counts_only_with_its_marker_and_is_replaced_whole(bucket: UrlPath) -> None:
    place = bucket / "store.zarr"
    written = write_random_store(place, "zarr")  # type: ignore[arg-type]
    (place / "shards" / "00001.json").unlink()
    (place / "image" / "c" / "1" / "0" / "0" / "0").write_bytes(b"torn")
    with pytest.raises(UserError, match="half-written: 1 of 3 shards"):
        open_store(place)
    covered = GEOMETRY.shard_slice(1)
    write_shard(place, shard=1, rows={name: values[covered] for name, values in random_rows(GEOMETRY, "shard").items()})
    np.testing.assert_array_equal(open_store(place).read("image"), written["image"])


def test_a_whole_store_at_a_url_is_asked_for_its_markers_now_and_then(
    bucket: UrlPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_random_store(bucket / "store.zarr", "zarr")  # type: ignore[arg-type]
    store = open_store(bucket / "store.zarr")
    (bucket / "store.zarr" / "shards" / "00001.json").unlink()
    assert store.missing_shards() == []
    later = time.monotonic() + MARKER_CACHE_SECONDS
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert store.missing_shards() == [1]


def test_a_store_whose_making_stopped_before_its_last_object_is_not_there(
    bucket: UrlPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[str] = []
    plain = UrlPath.write_bytes

    def stopping(self: UrlPath, content: bytes) -> None:
        if self.name == "zarr.json" and self == bucket / "store.zarr" / "zarr.json":
            raise KeyboardInterrupt
        put.append(str(self))
        plain(self, content)

    created = random_rows(GEOMETRY, "create")
    monkeypatch.setattr(UrlPath, "write_bytes", stopping)
    with pytest.raises(KeyboardInterrupt):
        create_store(bucket / "store.zarr", format="zarr", geometry=GEOMETRY, attributes={}, rows=created)
    assert len(put) > 10
    assert not exists(bucket / "store.zarr")
    monkeypatch.undo()
    create_store(bucket / "store.zarr", format="zarr", geometry=GEOMETRY, attributes={}, rows=created)
    assert open_store(bucket / "store.zarr", incomplete=True).missing_shards() == [0, 1, 2]


def test_an_interrupted_run_at_a_url_goes_on_to_the_same_store(
    synthetic_root: Path, bucket: UrlPath, stores: dict[str, Path], make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan(synthetic_root, bucket / "synthetic.zarr")
    fill_shard(plan.task(prepare(plan, format="zarr")[1]))
    rest = prepare(plan, format="zarr")
    assert rest == [0, 2]
    fill_store(plan, rest)
    names = {*contents(stores["zarr"]), INPUTS} - {"failures.csv"}
    local = {name: (stores["zarr"] / name).read_bytes() for name in names}
    assert objects(bucket / "synthetic.zarr") == local
    verify_store(open_store(bucket / "synthetic.zarr"), sample=5, seed=0)
    (facts,) = find_stores(bucket)
    assert (facts["images"], facts["shards_done"], facts["bytes"]) == (77, 3, sum(map(len, local.values())))


def test_conversion_goes_to_a_url_and_back(bucket: UrlPath, tmp_path: Path, stores: dict[str, Path]) -> None:
    convert_store(open_store(stores["hdf5"]), bucket / "copy.zarr", format="zarr")
    convert_store(open_store(bucket / "copy.zarr"), tmp_path / "back.hdf5", format="hdf5")
    first, last = open_store(stores["hdf5"]), open_store(tmp_path / "back.hdf5")
    assert (last.attributes, last.markers()) == (first.attributes, first.markers())
    for spec in ARRAYS:
        np.testing.assert_array_equal(last.read(spec.name), first.read(spec.name), err_msg=spec.name)


def test_hdf5_needs_a_local_folder(bucket: UrlPath, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"an hdf5 store cannot live at memory://.*local folder(.|\n)*STORE=zarr"):
        write_random_store(bucket / "store.hdf5", "hdf5")  # type: ignore[arg-type]
    (bucket / "copied.hdf5" / "index.h5").write_bytes(b"as copied by hand")
    with pytest.raises(UserError, match="an hdf5 store cannot live at"):
        open_store(bucket / "copied.hdf5")
    local = parse_path(f"file://{tmp_path}/store.hdf5")
    write_random_store(local, "hdf5")  # type: ignore[arg-type]
    assert (tmp_path / "store.hdf5" / "index.h5").is_file()


@pytest.fixture
def served(stores: dict[str, Path]) -> Iterator[str]:
    """The URL at which a web server of this process shows the folder of the stores."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(stores["zarr"].parent))
    handler.log_message = lambda *arguments: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def test_tensorstore_reads_a_store_from_a_web_server(
    served: str, stores: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """By its own driver, at the same URL as everything else."""
    caplog.set_level(logging.INFO)
    store, local = open_store(f"{served}/{stores['zarr'].name}"), open_store(stores["zarr"])
    rows = np.random.default_rng(2).permutation(77)
    for name in ("mask", "score", "person_id", "path"):
        np.testing.assert_array_equal(store.read(name, rows), local.read(name, rows), err_msg=name)
    assert "no driver" not in caplog.text


def test_the_drivers_are_given_bucket_folder_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    at_s3 = {"driver": "s3", "bucket": "b", "path": "folder/a"}
    assert object_driver(UrlPath("s3://b/folder/a")) == at_s3
    assert object_driver(UrlPath("gs://b/folder/a")) == {"driver": "gcs", "bucket": "b", "path": "folder/a"}
    assert object_driver(UrlPath("sftp://host/folder")) is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    endpoint = {"endpoint": "http://127.0.0.1:9000", "aws_region": "eu-west-1"}
    assert object_driver(UrlPath("s3://b/folder/a")) == {**at_s3, **endpoint}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "own")
    assert object_driver(UrlPath("s3://b/folder/a")) == {
        **at_s3, **endpoint, "aws_credentials": {"type": "environment"},
    }  # fmt: skip


class _NoCredentialsError(Exception):
    """Named as botocore's, which is no OSError."""


_NoCredentialsError.__module__ = "botocore.exceptions"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("Install s3fs to access S3"), r"s3://b/s needs a package .*: s3fs\npip install s3fs"),
        (FileNotFoundError("The specified bucket does not exist"), r"s3://b/s is not there: .*\nmake the bucket first"),
        (PermissionError("Access Denied"), r"may not be used with the credentials .*: Access Denied\n.*AWS_PROFILE"),
        (_NoCredentialsError("Unable to locate credentials"), r"may not be used with the credentials .*AWS_PROFILE"),
        (ConnectionError("refused"), r"s3://b/s cannot be reached: ConnectionError: refused\n.*same command again"),
    ],
)
def test_what_hinders_reaching_a_place_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def hindered(self: UrlPath) -> object:
        raise error

    monkeypatch.setattr(UrlPath, "_system", hindered)
    with pytest.raises(UserError, match=f"(?s){message}"):
        UrlPath("s3://b/s").write_bytes(b"")


@pytest.mark.parametrize(
    "ask", [UrlPath.is_file, lambda path: path.glob("*"), lambda path: path.unlink(missing_ok=True)]
)
def test_what_cannot_be_asked_is_not_answered_with_no(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[UrlPath], object]
) -> None:
    """A store whose shards cannot be listed would be computed again."""

    class Denied:
        def info(self, path: str) -> object:
            raise PermissionError("Access Denied")

        ls = rm_file = lambda self, path, **options: self.info(path)

    monkeypatch.setattr(UrlPath, "_system", lambda self: (Denied(), "b/s"))
    with pytest.raises(UserError, match="may not be used with the credentials"):
        ask(UrlPath("s3://b/s"))


@pytest.mark.parametrize("url", ["sftp://user@host:22/a", "s3://bucket", "https://host/a", "memory://a", "oss://b/c"])
def test_a_url_stays_as_it_was_typed(url: str) -> None:
    """It is told to users, passed to zarr and typed again."""
    path = parse_path(url)
    assert str(path) == url
    assert str(path / "b.zarr") == f"{url}/b.zarr"
    assert parse_path(str(path / "b.zarr")) == path / "b.zarr"


def test_our_own_mistakes_are_not_explained_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: UrlPath) -> object:
        raise AttributeError("a mistake in the code")

    monkeypatch.setattr(UrlPath, "_system", broken)
    with pytest.raises(AttributeError):
        UrlPath("s3://b/s").is_file()
