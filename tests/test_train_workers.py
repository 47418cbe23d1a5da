"""Workers that read ahead: no more than shared memory has room for, and none is waited for in vain."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children, parent_process
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reference_train import TINY, MemoryStore, random_store

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import load_config
from densereid.train.data import loading, workers
from densereid.train.data.workers import ReadAhead, choose_workers, lost_worker, shared_memory_free
from densereid.train.engine import loop
from densereid.train.engine.checkpoint import load_checkpoint
from densereid.train.engine.events import Event, StepsDone
from densereid.train.engine.loop import fit

MB = 10**6


def _free(patch: pytest.MonkeyPatch, number: int) -> None:
    patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=number))


@pytest.mark.parametrize(
    ("mode", "free", "processes", "expected"),
    [
        ("disk", 1000 * MB, 1, 4),  # (2 x 4 + 2) batches of 11 MB in 9 tenths of it
        ("disk", 64 * MB, 1, 1),  # what docker gives
        ("disk", 100 * MB, 1, 3),
        ("disk", 100 * MB, 2, 1),
        ("disk", 1 * MB, 1, 0),
        ("memory", 1000 * MB, 1, 4),
        ("memory", 400 * MB, 1, 0),
        ("device", 1 * MB, 1, 0),
    ],
)
def test_as_many_workers_as_the_shared_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch, mode: str, free: int, processes: int, expected: int
) -> None:
    _free(monkeypatch, free)
    chosen = choose_workers(mode, 4, batch_bytes=11 * MB, split_bytes=500 * MB, processes=processes)
    assert chosen.workers == expected
    assert bool(chosen.reason) == (expected < 4 and mode != "device")
    assert choose_workers(mode, 0, batch_bytes=11 * MB, split_bytes=500 * MB) == ReadAhead(0)


def test_a_system_without_that_folder_takes_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHARED_MEMORY", Path("/nowhere"))
    assert shared_memory_free() is None
    assert choose_workers("disk", 4, batch_bytes=10**12, split_bytes=1) == ReadAhead(4)


def test_a_training_in_a_small_container_says_what_it_found_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "shared_memory_free", lambda: 1000)
    config = load_config("dsa-reid-small", {**TINY, "epochs": 1, "evaluate_every": 0})
    fit(config, random_store(), tmp_path / "run", device="cpu", feed="disk", workers=4, on_event=lambda event: None)
    assert load_checkpoint(tmp_path / "run" / "last.pt").epoch == 1
    assert "Reading ahead with 0 of 4 workers: 4 need " in caplog.text
    assert "1.0 kB are free in /dev/shm. docker's --shm-size=1g or more makes room; WORKERS=0 needs" in caplog.text


class _SlowInWorkers(MemoryStore):
    def read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        if parent_process() is not None:
            time.sleep(3)
        return super().read(name, rows)


def _message_of_a_lost_worker(folder: Path, store: MemoryStore, on_event: Callable[[Event], None]) -> str:
    config = load_config("dsa-reid-small", {**TINY, "epochs": 50, "evaluate_every": 0})
    with pytest.raises(UserError) as error:
        fit(config, store, folder, device="cpu", feed="disk", workers=1, on_event=on_event)
    return str(error.value)


@pytest.fixture
def no_worker_left() -> Iterator[None]:
    """What the error's traceback holds goes now: torch tells of a killed worker as long as its DataLoader lives."""
    yield
    gc.collect()


def test_a_killed_worker_ends_in_a_sentence_and_keeps_finished_epochs(tmp_path: Path, no_worker_left: None) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, StepsDone) and (event.epoch, event.step) == (2, 1):
            for child in active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    message = _message_of_a_lost_worker(tmp_path / "run", random_store(), kill)
    # or, where it had announced a batch that nobody had fetched, the words of a connection that was closed
    assert re.match(r"a worker that reads batches ahead was lost: (DataLoader worker .*pid|.*Errno|EOFError)", message)
    assert "Finished epochs are kept: the same command continues." in message
    assert load_checkpoint(tmp_path / "run" / "last.pt").epoch >= 1


def test_a_worker_that_gives_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_worker_left: None
) -> None:
    assert workers.PATIENCE <= 60
    monkeypatch.setattr(loading, "PATIENCE", 0.2)
    store = random_store()
    slow = _SlowInWorkers(store.arrays, store.geometry)
    message = _message_of_a_lost_worker(tmp_path / "run", slow, lambda event: None)
    assert re.search(r"was lost: DataLoader timed out after 0\.2 seconds; .* are free in /dev/shm", message)


def test_a_signal_that_comes_while_the_sentence_is_made_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's connection is closed first, and torch tells by a signal a moment later."""

    def tell(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    def signalled(error: Exception) -> UserError | None:
        os.kill(os.getpid(), signal.SIGCHLD)
        return lost_worker(error)

    monkeypatch.setattr(loop, "lost_worker", signalled)
    run: Any = None
    before = signal.signal(signal.SIGCHLD, tell)
    try:
        with pytest.raises(RuntimeError, match="mat1 and mat2"), loop._in_words(run):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        assert signal.getsignal(signal.SIGCHLD) is tell, "an error of another kind leaves torch's signal as it was"
        with pytest.raises(UserError, match=r"reads batches ahead was lost: .*reset by peer"), loop._in_words(run):
            raise ConnectionResetError(104, "Connection reset by peer")
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_another_error_stays_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert lost_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    for closed in (ConnectionResetError(104, "Connection reset by peer"), EOFError(), FileNotFoundError(2, "No such")):
        assert lost_worker(closed) is not None
    assert lost_worker(FileNotFoundError(2, "No such file or directory", "a.json")) is None
    assert lost_worker(RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)")) is not None
