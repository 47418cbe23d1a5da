"""A disk that is full or read-only: a message, nothing lost, and the same store once there is room."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import run_forked
from helpers import failed

from densereid.data_catalog.store.store import FORMATS, open_store
from densereid.pipeline.cli import main
from densereid.preprocess.writing.fill import fill_store, write_store
from densereid.preprocess.writing.plan import Plan, prepare


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 8 MB; it needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_full_disk_stops_the_run_and_with_room_it_goes_on_to_the_same_store(
    synthetic_root: Path, stores: dict[str, Path], small_disk: Path, make_plan: Callable[..., Plan], format: str
) -> None:
    """The disk fills up between the first shard and the last; what is finished by then stays."""
    plan = make_plan(synthetic_root, small_disk / "store")
    shards = prepare(plan, format=format)
    fill_store(plan, shards[:1])
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(OSError, match="No space left on device"):
        fill_store(plan, shards[1:])
    assert open_store(plan.path, incomplete=True).missing_shards() == shards[1:]
    filler.unlink()
    write_store(plan, format=format)
    assert contents(plan.path) == contents(stores[format])


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def command(data_root: Path, store_root: Path, format: str) -> list[str]:
    options = {"dataset": "synthetic", "data-root": data_root, "store-root": store_root, "store": format}
    options |= {"size": "64x32", "shard-rows": 32, "device": "cpu", "estimator": "iuv"}
    return ["preprocess", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_read_only_disk_ends_in_a_message(
    synthetic_root: Path,
    small_disk: Path,
    format: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    monkeypatch.setattr(sys, "argv", ["pipeline", *command(synthetic_root, small_disk / "stores", format)])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err
    assert caught.value.code == 1
    assert "Read-only file system" in said
    assert "what is finished is kept" in said
    assert str(small_disk) in said


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))
sys.argv[0] = "pipeline"
from densereid.pipeline.cli import main
main()
"""


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_write_that_fails_ends_in_a_message_and_not_in_a_store(
    synthetic_root: Path, tmp_path: Path, format: str
) -> None:
    """A limit on the size of files, which needs no rights: every shard is larger."""
    words = command(synthetic_root, tmp_path / "stores", format)
    ended = run_forked(_LIMITED.format(bytes=100_000), words, output=tmp_path / "said")
    failed(ended, "File too large", "0 of ", "run the same command again; it continues")
    store = open_store(next((tmp_path / "stores").glob("[!.]*")), incomplete=True)
    assert store.missing_shards() == list(range(store.geometry.num_shards))


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_finished_store_needs_no_writing_where_its_images_were_moved(
    synthetic_root: Path, stores: dict[str, Path], tmp_path: Path, make_plan: Callable[..., Plan], format: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    moved = Path(shutil.copytree(synthetic_root, tmp_path / "data"))
    plan = make_plan(moved, Path(shutil.copytree(stores[format], tmp_path / "store")))

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("densereid.preprocess.writing.inputs.write_json", read_only)
    assert prepare(plan, format=format) == []
    next((plan.path / "shards").glob("*.json")).unlink()
    with pytest.raises(OSError, match="Read-only"):
        prepare(plan, format=format)


def test_an_index_that_cannot_be_written_ends_in_a_message(synthetic_root: Path, tmp_path: Path) -> None:
    """HDF5 itself ends the process when it cannot write a file."""
    words = command(synthetic_root, tmp_path / "stores", "hdf5")
    ended = run_forked(_LIMITED.format(bytes=8_000), words, output=tmp_path / "said")
    failed(ended, "File too large", "run the same command again")
    assert list((tmp_path / "stores").glob("[!.]*")) == []
