"""One writer at a time: a lock that ends with the process that holds it, and says who that is.

On a local disk, or a network's that has locks, it is the operating system's (filelock). Object stores have none: there
the writer puts an object beside the store and renews it, and one that is not renewed any more counts for nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.atomic import remove_partial, write_json
from densereid.data_catalog.files.paths import AnyPath, UrlPath
from densereid.data_catalog.files.sealed_json import parsed_json

log = logging.getLogger(__name__)

LOCKS = ".locks"
"""The folder of the locks, beside what they are for; its files stay, and say nothing when nobody holds them."""

RENEWED_EVERY = 60.0
"""Seconds between two renewals of the object that claims a store at a URL."""

CLAIM_LASTS = 5 * RENEWED_EVERY
"""Seconds after its last renewal for which it counts: a writer that was killed is in the way for so long."""


@contextmanager
def only_writer(path: AnyPath, what: str) -> Iterator[None]:
    """Hold the lock of ``path``, a store or another folder of results, which need not exist, during the block.

    Raises UserError that names its holder where another process, or another thread, has it. ``what`` is the thing in
    words. Where the folder above cannot be written in, nothing is locked: nothing can be written either.
    """
    name = path.name
    if isinstance(path, UrlPath):
        with _claimed(path.parent / f".{name}.writer.json", path, what):
            yield
        return
    folder = path.absolute().parent / LOCKS
    lock = FileLock(folder / name, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise _in_use(path, what, _holder(folder / f"{name}.json")) from None
    except OSError as error:
        log.warning("%s is not locked against a second writer: %s", path, first_line(error))
        yield
        return
    try:
        remove_partial(folder, f"{name}.json")  # of a writer that was killed while it wrote who it is
        write_json(folder / f"{name}.json", _myself())
        yield
    finally:
        with suppress(OSError):
            (folder / f"{name}.json").unlink()
        lock.release()


@contextmanager
def in_turn(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of ``path`` during the block; where another process has it, say so by ``on_wait`` and wait."""
    folder = path.absolute().parent / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / path.name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _myself() -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": now}


def _holder(note: AnyPath) -> dict[str, Any]:
    """Who holds a lock; nothing where that cannot be read, because it was taken or given back a moment ago."""
    try:
        content = parsed_json(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, UserError):
        return {}
    return content if isinstance(content, dict) else {}


def _in_use(path: AnyPath, what: str, holder: dict[str, Any]) -> UserError:
    who = f" (process {holder['process']} on {holder['host']}, since {holder['since']})" if len(holder) >= 3 else ""
    return UserError(
        f"{what} {path} is being written by another run{who}",
        "wait until that has finished, or end it, and run this again",
    )


@contextmanager
def _claimed(note: UrlPath, path: UrlPath, what: str) -> Iterator[None]:
    mine = {**_myself(), "claim": uuid4().hex}
    holder = _holder(note) if note.is_file() else {}
    if time.time() - float(holder.get("renewed", 0.0)) < CLAIM_LASTS:
        raise _in_use(path, what, holder)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEWED_EVERY):
            with suppress(UserError):  # what is written next says why it cannot be reached
                write_json(note, {**mine, "renewed": time.time()})

    write_json(note, {**mine, "renewed": time.time()})
    holder = _holder(note)
    if holder.get("claim") != mine["claim"]:  # two came at once, and the other was the later
        raise _in_use(path, what, holder)
    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        note.unlink(missing_ok=True)
