"""Processes that read batches ahead: how many the shared memory has room for, and what ends a wait for them."""

from __future__ import annotations

import re
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich import filesize

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.plural import plural

SHARED_MEMORY = Path("/dev/shm")
"""Where processes hand over batches; a container has 64 MB of it unless it is told otherwise."""

PATIENCE = 60.0
"""Seconds without a batch after which the workers count as lost."""

_SHARE = 0.9
"""Of the free shared memory, what batches may take."""

_BATCHES_OF_A_WORKER, _BATCHES_IN_USE = 2, 2
"""What a worker has ready (DataLoader's prefetch_factor), and what a step and the way to it hold."""

_LOST = re.compile(
    r"DataLoader .*(exited unexpectedly|killed by signal|timed out)|bus error|No space left|shared memory"
)


@dataclass(frozen=True)
class ReadAhead:
    """How many processes read ahead, and why it is not the number that was asked for; empty where it is."""

    workers: int
    reason: str = ""


def choose_workers(mode: str, workers: int, *, batch_bytes: int, split_bytes: int, processes: int = 1) -> ReadAhead:
    """As many of the ``workers`` as find room in the shared memory for their batches of ``batch_bytes``.

    That changes no batch. In the mode ``memory`` the whole split, ``split_bytes``, lies there too; ``device`` has no
    workers. ``processes`` of one machine share the memory. Without room a worker waits for ever or is killed.
    """
    free = shared_memory_free()
    if mode == "device" or free is None:
        return ReadAhead(0 if mode == "device" else workers)

    def needed(number: int) -> int:
        batches = (_BATCHES_OF_A_WORKER * number + _BATCHES_IN_USE) * batch_bytes if number else 0
        return int(processes * (batches + (split_bytes if mode == "memory" and number else 0)) / _SHARE)

    fits = next(number for number in range(workers, -1, -1) if needed(number) <= free or not number)
    if fits == workers:
        return ReadAhead(workers)
    wanted = -(-needed(workers) // 10**9)
    return ReadAhead(
        fits,
        f"{fits} of {plural(workers, 'worker')}: {workers} need {filesize.decimal(needed(workers))} of shared memory "
        f"for what they read ahead, and {filesize.decimal(free)} are free in {SHARED_MEMORY}. docker's "
        f"--shm-size={wanted}g or more makes room; WORKERS=0 needs none, and FEED=memory reads nothing again",
    )


def shared_memory_free() -> int | None:
    """Bytes that are free for batches on their way between processes; None where the system has no such folder."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def lost_worker(error: Exception) -> UserError | None:
    """The UserError for a worker that was killed, found no memory or gave nothing; None for any other error.

    A worker that dies after it has announced a batch, and before that is fetched, closes a connection.
    """
    is_connection = isinstance(error, (ConnectionError, EOFError))
    is_socket_gone = isinstance(error, FileNotFoundError) and error.filename is None
    if not (is_connection or is_socket_gone or _LOST.search(str(error))):
        return None
    free = shared_memory_free()
    found = "" if free is None else f"; {filesize.decimal(free)} are free in {SHARED_MEMORY}"
    return UserError(
        f"a worker that reads batches ahead was lost: {first_line(error)}{found}",
        "Something killed it, memory ran out, or the store gives nothing. Use fewer WORKERS, or WORKERS=0 with "
        "FEED=memory; in a container give more --shm-size. Finished epochs are kept: the same command continues.",
    )


def hear_no_more_of_workers() -> Callable[[], object]:
    """Let torch tell of a killed worker no second time: it does so by a signal, in whatever is under way by then.

    For the rest of the process, unless what is returned is called. A DataLoader that is made later notices a lost
    worker by :data:`PATIENCE`.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    heard = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return partial(signal.signal, signal.SIGCHLD, heard)
