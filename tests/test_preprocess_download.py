"""Downloads: whole and read or not there, continued where they broke off, one at a time; against a server of ours."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from file_server import LOGIN, FileServer, serving
from helpers import ROOT

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.download import download

CONTENT = bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densereid.preprocess.densepose.download._BLOCK", 100)


def read(path: Path) -> bytes:
    """Accepts what was published and nothing else."""
    content = path.read_bytes()
    if content != CONTENT:
        raise UserError(f"{path} ({len(content)} bytes) is something else")
    return content


def fetch(files: FileServer, target: Path, told: list[str] | None = None) -> bytes:
    notes: list[str] = [] if told is None else told
    return download(f"{files.address}/model.pkl", target, read=read, notify=notes.append)


def test_a_file_arrives_whole_and_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new" / ".downloading-x").mkdir(parents=True)  # an earlier version's, which was killed
    with serving(FileServer(CONTENT)) as files:
        assert fetch(files, tmp_path / "new" / "model.pkl") == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pkl"]
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with serving(FileServer(CONTENT)) as files:
        fetch(files, tmp_path / "model.pkl")
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        FileServer(LOGIN),
        FileServer(LOGIN, moved="/login"),
        FileServer(CONTENT[:700], length=-1),
        FileServer(CONTENT, length=100),
        FileServer(b""),
    ],
    ids=["a login page", "redirected to one", "cut off, without a length", "too small a length", "nothing"],
)
def test_what_is_not_the_file_is_deleted_and_the_next_try_is_good(tmp_path: Path, wrong: FileServer) -> None:
    target = tmp_path / "model.pkl"
    with serving(wrong) as files, pytest.raises(UserError, match=r"is not the file that was asked for") as caught:
        fetch(files, target)
    assert f"{files.address}{wrong.moved or '/model.pkl'} sent (" in caught.value.problem
    assert "A login or a proxy may be in the way" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    with serving(FileServer(CONTENT)) as files:
        assert fetch(files, target) == CONTENT


@pytest.mark.parametrize("validator", [{"etag": '"a"'}, {"etag": "", "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_what_broke_off_is_continued(tmp_path: Path, validator: dict[str, str]) -> None:
    target, told = tmp_path / "model.pkl", []
    with serving(FileServer(CONTENT, most=900, **validator)) as files:
        with pytest.raises(requests.RequestException, match="900 bytes read, 1148 more expected"):
            fetch(files, target, told)
        assert not target.exists()
        files.most = None
        assert fetch(files, target, told) == CONTENT
    assert files.asked[1]["Range"] == "bytes=900-"
    assert files.asked[1]["If-Range"] == (validator["etag"] or validator["last_modified"])
    assert told == ["continuing what broke off after 900 bytes"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]


@pytest.mark.parametrize("change", ["another file", "no ranges", "another address"])
def test_what_cannot_be_continued_is_fetched_again(tmp_path: Path, change: str) -> None:
    target = tmp_path / "model.pkl"
    broken = FileServer(b"x" * 2048 if change == "another file" else CONTENT, most=900)
    with serving(broken) as files:
        with pytest.raises(requests.RequestException):
            fetch(files, target)
        files.content, files.most = CONTENT, None
        files.etag = '"2"' if change == "another file" else files.etag
        files.ranges = change != "no ranges"
        address = f"{files.address}/{'other' if change == 'another address' else 'model'}.pkl"
        assert download(address, target, read=read, notify=print) == CONTENT
    assert ("Range" in files.asked[1]) == (change != "another address")


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_what_no_server_can_continue_does_not_stay(tmp_path: Path, etag: str) -> None:
    with serving(FileServer(CONTENT, etag=etag, most=900)) as files, pytest.raises(requests.RequestException):
        fetch(files, tmp_path / "model.pkl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [(206, 3), (416, 0)])
def test_a_server_that_sends_another_part_or_none_is_asked_for_all(tmp_path: Path, part: tuple[int, int]) -> None:
    target = tmp_path / "model.pkl"
    with serving(FileServer(CONTENT, most=900, part=part)) as files:
        with pytest.raises(requests.RequestException):
            fetch(files, target)
        files.most = None
        assert fetch(files, target) == CONTENT
    assert ["Range" in headers for headers in files.asked] == [False, True, False]


def test_a_file_that_a_server_packs_on_its_way_is_unpacked_and_never_continued(tmp_path: Path) -> None:
    with serving(FileServer(gzip.compress(CONTENT), encoding="gzip", most=200)) as files:
        with pytest.raises(requests.RequestException):
            fetch(files, tmp_path / "model.pkl")
        assert list(tmp_path.iterdir()) == []
        files.most = None
        assert fetch(files, tmp_path / "model.pkl") == CONTENT


def test_an_answer_of_no_file_is_an_error_and_leaves_what_was_there(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, most=900)) as files:
        with pytest.raises(requests.RequestException):
            fetch(files, tmp_path / "model.pkl")
        files.part, files.most = (503, 0), None
        with pytest.raises(requests.HTTPError, match="503"):
            fetch(files, tmp_path / "model.pkl")
        files.part = (206, 0)
        assert fetch(files, tmp_path / "model.pkl") == CONTENT
    assert files.asked[-1]["Range"] == "bytes=900-"


def test_a_whole_file_that_was_not_renamed_yet_is_used(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, most=900)) as files:
        with pytest.raises(requests.RequestException):
            fetch(files, tmp_path / "model.pkl")
        files.most = None
        (tmp_path / "model.pkl.partial").write_bytes(CONTENT)
        assert fetch(files, tmp_path / "model.pkl") == CONTENT
    assert len(files.asked) == 1


def test_a_killed_download_is_continued(tmp_path: Path) -> None:
    target = tmp_path / "model.pkl"
    with serving(FileServer(CONTENT, held=threading.Event())) as files:
        code = (
            "from pathlib import Path\n"
            "from densereid.preprocess.densepose import download as module\n"
            "module._BLOCK = 256\n"
            f"module.download('{files.address}/model.pkl', Path({str(target)!r}), read=print, notify=print)"
        )
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
        partial = tmp_path / "model.pkl.partial"
        while not partial.is_file() or not partial.stat().st_size:
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert files.held is not None
        files.held.set()
        have = partial.stat().st_size
        assert fetch(files, target) == CONTENT
    assert files.asked[-1].get("Range") == f"bytes={have}-"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]


def test_two_at_once_fetch_it_once(tmp_path: Path) -> None:
    target, told = tmp_path / "model.pkl", []
    with serving(FileServer(CONTENT, held=threading.Event())) as files, ThreadPoolExecutor(3) as pool:
        running = [pool.submit(fetch, files, target, told) for _ in range(3)]
        while len(told) < 2:
            time.sleep(0.02)
        assert files.held is not None
        files.held.set()
        assert [future.result() for future in running] == [CONTENT] * 3
    assert len(files.asked) == 1
    assert told == ["another process is fetching model.pkl; waiting for it"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]


def test_the_second_fetches_where_the_first_fails(tmp_path: Path) -> None:
    target, told = tmp_path / "model.pkl", []
    with (
        serving(FileServer(CONTENT, etag="", held=threading.Event(), length=4000)) as files,
        ThreadPoolExecutor() as pool,
    ):
        running = [pool.submit(fetch, files, target, told) for _ in range(2)]
        while not told or not (tmp_path / "model.pkl.partial").stat().st_size:
            time.sleep(0.02)
        files.length = None
        assert files.held is not None
        files.held.set()
        outcomes = sorted(type(future.exception()).__name__ for future in running)
    assert outcomes == ["ChunkedEncodingError", "NoneType"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]
