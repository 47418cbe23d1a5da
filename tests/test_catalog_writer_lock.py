"""One writer at a time, who is named, and who is no hindrance once it is gone."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import pytest

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files import writer_lock
from densereid.data_catalog.files.atomic import write_json
from densereid.data_catalog.files.paths import AnyPath, UrlPath
from densereid.data_catalog.files.writer_lock import in_turn, only_writer


@pytest.fixture(params=["local", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    return tmp_path / "store" if request.param == "local" else UrlPath(f"memory://densereid-{uuid4().hex}/store")


def test_a_second_writer_is_refused_and_told_who_the_first_is(place: AnyPath) -> None:
    with only_writer(place, "the store"):
        for _ in range(2):
            with pytest.raises(UserError) as error, only_writer(place, "the store"):
                raise AssertionError("two writers at once")
            assert f"the store {place} is being written by another run" in error.value.problem
            assert f"(process {os.getpid()} on {socket.gethostname()}, since 20" in error.value.problem
        with only_writer(place.parent / "another", "the store"):
            pass
    with only_writer(place, "the store"):
        pass


def test_a_writer_that_fails_gives_the_lock_back(place: AnyPath) -> None:
    with pytest.raises(ZeroDivisionError), only_writer(place, "the store"):
        raise ZeroDivisionError
    with only_writer(place, "the store"):
        pass


def hold(path: Path, ready: Connection) -> None:
    with only_writer(path, "the store"):
        ready.send(os.getpid())
        time.sleep(60)


def test_a_writer_that_is_killed_is_not_in_the_way(tmp_path: Path) -> None:
    ours, theirs = get_context("fork").Pipe()
    process = get_context("fork").Process(target=hold, args=(tmp_path / "store", theirs))
    process.start()
    holder = ours.recv()
    with pytest.raises(UserError, match=rf"process {holder} on "), only_writer(tmp_path / "store", "the store"):
        pass
    os.kill(holder, signal.SIGKILL)
    process.join()
    with only_writer(tmp_path / "store", "the store"):
        pass


def test_what_a_writer_that_was_killed_left_of_its_name_goes(tmp_path: Path) -> None:
    left = tmp_path / writer_lock.LOCKS / ".store.json.123.partial"
    left.parent.mkdir()
    left.write_text("{")
    with only_writer(tmp_path / "store", "the store"):
        assert not left.exists()


def test_a_claim_at_a_url_counts_as_long_as_it_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    place = UrlPath(f"memory://densereid-{uuid4().hex}/store")
    note = place.parent / ".store.writer.json"
    monkeypatch.setattr(writer_lock, "RENEWED_EVERY", 0.05)
    monkeypatch.setattr(writer_lock, "CLAIM_LASTS", 0.5)
    write_json(note, {"host": "gone", "process": 1, "since": "2026", "claim": "", "renewed": time.time()})
    with pytest.raises(UserError, match="process 1 on gone"), only_writer(place, "the store"):
        pass
    time.sleep(0.6)  # it was killed
    with only_writer(place, "the store"):
        time.sleep(0.7)
        with pytest.raises(UserError, match=rf"process {os.getpid()} on"), only_writer(place, "the store"):
            pass
    assert not note.is_file()


def test_of_two_claims_at_once_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    place = UrlPath(f"memory://densereid-{uuid4().hex}/store")

    def write_before_another(note: AnyPath, content: object) -> None:
        write_json(note, content)
        write_json(note, {"host": "other", "process": 1, "since": "2026", "claim": "b", "renewed": time.time()})

    monkeypatch.setattr(writer_lock, "write_json", write_before_another)
    with pytest.raises(UserError, match="process 1 on other"), only_writer(place, "the store"):
        pass


def test_where_nothing_can_be_written_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with only_writer(tmp_path / "store", "the store"):
        pass


def test_who_takes_turns_waits_and_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with in_turn(tmp_path / "file", lambda: told.append("first")):
            second = pool.submit(lambda: _turn(tmp_path / "file", told))
            while not told:
                time.sleep(0.01)
            assert not second.done()
        assert second.result(timeout=30) == "had its turn"
    assert told == ["waits"]


def _turn(path: Path, told: list[str]) -> str:
    with in_turn(path, lambda: told.append("waits")):
        return "had its turn"
