"""What cannot be read for the moment, what is another program's and what is damaged are three things to the reader."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from helpers import write_random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.refusals import read_text, read_whole, refusal
from densereid.data_catalog.files.sealed_json import parsed_json
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.store import FORMATS, open_store
from densereid.pipeline.commands.convert import convert_by_suffix
from densereid.pipeline.commands.status import find_stores, verify_store
from densereid.preprocess.writing.fill import write_failures
from densereid.preprocess.writing.inputs import read_inputs
from densereid.preprocess.writing.provenance import recorded_runs
from densereid.train.data.dataset import read_rows

SMALL = Geometry(40, 16, 8, dsap_size=8, shard_rows=32)
REFUSED = ["EACCES", "EPERM", "EIO", "ESTALE", "EMFILE", "EAGAIN", "ETIMEDOUT"]


@pytest.fixture(params=list(FORMATS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"store.{request.param}"
    write_random_store(path, request.param, SMALL)
    for name in ("provenance.json", "inputs.json"):
        (path / name).write_text("[]")
    return path


def is_for_the_moment(error: UserError, name: str) -> None:
    assert name in error.problem
    assert "cannot be read for the moment" in error.problem
    assert "leave it as it is" in error.remedy
    assert not any(word in error.remedy for word in ("delete", "remove", "move it", "again:"))


@pytest.mark.parametrize("fault", REFUSED)
def test_what_the_system_refuses_is_never_called_damaged(
    store: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, opened, sound = getattr(errno, fault), open_store(store), Path.read_bytes
    readers: dict[str, Callable[[], object]] = {
        "manifest.json": lambda: open_store(store),
        "00001.json": lambda: open_store(store),
        "failures.csv": lambda: write_failures(opened),
        "inputs.json": lambda: read_inputs(store),
        "provenance.json": lambda: recorded_runs(store),
    }
    write_failures(opened)
    for name, read in readers.items():

        def read_bytes(self: Path, name: str = name) -> bytes:
            if self.name == name:
                raise OSError(number, os.strerror(number), str(self))
            return sound(self)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", read_bytes)
            with pytest.raises(UserError) as told:
                read()
        is_for_the_moment(told.value, name)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        ValueError('Error reading "image/c/0": [OS error 5: EIO Input/output error] [source locations=...]'),
        RuntimeError("Can't synchronously read data (file read failed: time = ..., errno = 116, error message = ...)"),
    ],
)
def test_an_array_that_cannot_be_read_is_no_damaged_shard(
    store: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(store)

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(opened._reader, "read", refuse)
    for read in (
        lambda: verify_store(opened, sample=1, seed=0),
        lambda: opened.read("image"),
        lambda: read_rows(opened, "image", slice(0, 3)),
    ):
        with pytest.raises(UserError) as told:
            read()
        is_for_the_moment(told.value, "'image' of" if "rows" in str(read) else str(store))


@pytest.mark.parametrize("name", ["index.h5", "shard-00000.h5"])
def test_a_locked_hdf5_file_is_waited_for(tmp_path: Path, name: str) -> None:
    write_random_store(tmp_path / "store.hdf5", "hdf5", SMALL)
    with (tmp_path / "store.hdf5" / name).open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as another process that writes does
        with pytest.raises(UserError) as told:
            open_store(tmp_path / "store.hdf5").read("image")
        is_for_the_moment(told.value, "store.hdf5")
        assert "another process has it open" in told.value.remedy
        [facts] = find_stores(tmp_path)
        assert name != "index.h5" or "cannot be read for the moment" in facts["problem"]
    assert len(open_store(tmp_path / "store.hdf5").read("image")) == 40


def foreign(path: Path, kind: str) -> None:
    path.mkdir()
    if kind == "zarr group":
        zarr.create_group(path, attributes={"made": "elsewhere"})
    elif kind == "zarr array":
        path.rmdir()
        zarr.save_array(path, np.zeros(3))
    elif kind == "hdf5":
        with h5py.File(path / "index.h5", "w") as file:
            file.attrs["title"] = "not JSON"
            file["data"] = np.zeros(3)
    else:
        (path / "zarr.json").write_text(kind)


@pytest.mark.parametrize("kind", ["zarr group", "zarr array", "hdf5", "", "null", "7", "[1]", "[" * 100_000, "{}"])
def test_what_another_program_wrote_is_left_to_it(tmp_path: Path, kind: str) -> None:
    foreign(tmp_path / "other", kind)
    with pytest.raises(UserError) as told:
        open_store(tmp_path / "other")
    assert "DenseReID" in told.value.problem
    assert "another program's, leave it" in told.value.remedy
    assert "delete" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"null", b"7", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_store_of_ours_whose_description_is_damaged_is_moved_away_and_not_deleted(
    store: Path, content: bytes
) -> None:
    file = next(store / form.MARKER for form in FORMATS.values() if (store / form.MARKER).is_file())
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"is damaged: {file.name} is not as it was written") as told:
        open_store(store)
    assert "restore it from a copy" in told.value.remedy
    assert "delete" not in told.value.remedy


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_new_store_does_not_take_the_place_of_anything(tmp_path: Path, format: str) -> None:
    (tmp_path / "file").write_text("notes")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_text("notes")
    (tmp_path / "link").symlink_to("nowhere")
    for name, words in (("file", "is a file"), ("folder", "is no store"), ("link", "link to nothing")):
        with pytest.raises(UserError, match=words):
            write_random_store(tmp_path / name, format, SMALL)
    assert (tmp_path / "folder" / "notes").read_text() == "notes"
    (tmp_path / "empty").mkdir()
    write_random_store(tmp_path / "empty", format, SMALL)


def test_one_bad_store_is_one_line_of_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_random_store(tmp_path / "good.zarr", "zarr", SMALL)
    for name in ("pipe.zarr", "marker.hdf5", "closed.zarr"):
        write_random_store(tmp_path / name, name.rpartition(".")[2], SMALL)
    os.mkfifo(tmp_path / "pipe.zarr" / "image" / "c" / "pipe")
    (tmp_path / "marker.hdf5" / "shards" / "00000.json").write_text("[1, 2]")
    sound = Path.is_file

    def is_file(self: Path) -> bool:
        if self.parent.name == "closed.zarr":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return sound(self)

    monkeypatch.setattr(Path, "is_file", is_file)
    found = {facts["store"]: facts.get("problem", "") for facts in find_stores(tmp_path)}
    assert "cannot be read for the moment: Permission denied" in found["closed.zarr"]
    assert "it holds list" in found["marker.hdf5"]
    assert "pipe is a pipe or device" in found["pipe.zarr"]
    assert sorted(found) == ["closed.zarr", "good.zarr", "marker.hdf5", "pipe.zarr"]


@pytest.mark.parametrize("name", ["manifest.json", "failures.csv", "provenance.json", "inputs.json", "00000.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_folder_in_a_files_place_ends_in_a_sentence(tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / name
    os.mkfifo(file) if kind == "pipe" else file.mkdir()
    with pytest.raises(UserError, match=f"{name} is a {kind}(.|\n)*move it away"):
        read_whole(file)
    with pytest.raises(UserError, match=f"{name} is a {kind}"):
        read_text(file, "list")


def test_what_is_no_text_and_no_json_is_said(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"the list .*list is no UTF-8 text"):
        read_text(tmp_path / "list", "the list")
    with pytest.raises(UserError, match=r"the list .*none is not there"):
        read_text(tmp_path / "none", "the list")
    for content in (b"", b"\xff", b"[" * 100_000, b"{"):
        with pytest.raises(ValueError, match=r"."):
            parsed_json(content)
    assert read_whole(tmp_path / "none") is None
    assert refusal(OSError(errno.ENOENT, "gone")) is refusal(KeyError("x")) is None


def test_verify_says_what_makes_only_the_damaged_again(store: Path) -> None:
    (store / "provenance.json").unlink()
    (store / "failures.csv").write_text("path,reason\nother,reason\n")
    with pytest.raises(UserError, match=r"failures.csv is not what the markers") as told:
        verify_store(open_store(store), sample=0, seed=0)
    assert told.value.remedy.startswith("move the damaged notes away")
    assert "store" not in told.value.remedy.replace("stored", "")
    (store / "failures.csv").unlink()
    content = json.loads((store / "shards" / "00000.json").read_text())
    assert content["shard"] == 0


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_store_may_lie_in_a_folder_whose_name_is_no_text(tmp_path: Path, format: str) -> None:
    path = tmp_path / "\udcff" / "store"
    values = write_random_store(path, format, SMALL)
    opened = open_store(path)
    for name in ("image", "dsap", "person_id", "path", "score"):
        np.testing.assert_array_equal(opened.read(name), values[name])


def test_a_copy_needs_a_name_that_leaves_room_for_what_is_added(tmp_path: Path) -> None:
    write_random_store(tmp_path / "store.zarr", "zarr", SMALL)
    with pytest.raises(UserError, match="cannot name a store\nexpected a name of at most 200 bytes"):
        convert_by_suffix(open_store(tmp_path / "store.zarr"), tmp_path / f"{'n' * 245}.hdf5")
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]
