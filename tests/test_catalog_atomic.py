"""Files and folders are whole or absent: an error, Ctrl-C or SIGKILL in the middle leaves what was there before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from densereid.data_catalog.files.atomic import make_folder, remove_partial, replacing, write_bytes, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("flushed", [True, False])
def test_a_file_takes_the_place_of_the_old_one_at_the_end(tmp_path: Path, flushed: bool) -> None:
    path = tmp_path / "below" / "file.txt"
    for content in ("first", "second"):
        before = path.read_text() if path.exists() else None
        with replacing(path, flushed=flushed) as temporary:
            temporary.write_text(content)
            assert temporary.parent == path.parent  # on the same disk, or it could not be renamed
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == content
    assert names(tmp_path) == ["below", "below/file.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("torn")])
def test_where_it_fails_the_old_content_stays_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise error

    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(type(error)), replacing(tmp_path / "file") as temporary:
        fail(temporary)
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass  # nothing was made
    with pytest.raises(TypeError):
        write_json(tmp_path / "file", {"no JSON": object()})
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_folder_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        assert not (tmp_path / "store").exists()
        (folder / "inner").mkdir(parents=True)
        write_json(folder / "inner" / "a.json", [1, 2])

    def broken(folder: Path) -> None:
        build(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        make_folder(tmp_path / "store", broken, last="inner/a.json")
    assert names(tmp_path) == []
    make_folder(tmp_path / "store", build, last="inner/a.json")
    assert names(tmp_path) == ["store", "store/inner", "store/inner/a.json"]


_KILLED = """
import sys, time
from pathlib import Path
from densereid.data_catalog.files.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.mkdir() if sys.argv[2] == "folder" else None
    (temporary / "inner" if sys.argv[2] == "folder" else temporary).write_text("half")
    print("half-way", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_leaves_is_not_the_file_and_can_be_deleted(tmp_path: Path, kind: str) -> None:
    for name in ("one.x", "other.x"):
        command = [sys.executable, "-c", _KILLED, str(tmp_path / name), kind]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "half-way\n"
            process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "one.x").exists()
    (tmp_path / "kept").write_text("of the user")
    assert len(list(tmp_path.iterdir())) == 3
    remove_partial(tmp_path, "one.x")
    assert [name.split(".")[1] for name in names(tmp_path) if "partial" in name and "/" not in name] == ["other"]
    remove_partial(tmp_path)
    assert names(tmp_path) == ["kept"]
