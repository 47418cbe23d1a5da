"""Moments at which a process asks the system to change a folder: counted, and one of them made its last or refused.

Everything that writes goes through a handful of calls: files opened, written, flushed, renamed, linked, removed,
folders made. Python tells of most of them (audit events); the others are replaced. What HDF5's own code writes is seen
when it is flushed; limits of the system (:mod:`faults.test_disk`) reach it, too.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")
GROWING = ("open", "write", "fsync", "os.rename", "os.link", "os.mkdir")
"""The calls that take room."""


@dataclass(frozen=True)
class Fault:
    """What happens at the call number ``at`` below ``root``: a kill, or the system's refusal ``errno``."""

    root: str
    at: int = 0
    """From 1; 0 counts only."""
    errno: int = 0
    """0 kills the process."""
    lasting: bool = False
    """Whether all later calls that take room are refused, too, as on a full disk."""


class Points:
    """Counts the calls of this process."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.count, self._lock = fault, 0, threading.Lock()

    def reach(self, kind: str, path: object, *, torn: Callable[[], object] = lambda: None) -> None:
        """One call; ``torn`` does half of it, for a process that is killed in its middle."""
        try:
            name = os.fsdecode(path)  # type: ignore[arg-type]
        except TypeError:  # a file's number
            return
        if not name.startswith(self.fault.root):
            return
        with self._lock:
            self.count += 1
            now, later = self.count == self.fault.at, 0 < self.fault.at < self.count
        if not now and not (later and self.fault.lasting and kind in GROWING):
            return
        if self.fault.errno:
            raise OSError(self.fault.errno, os.strerror(self.fault.errno), name)
        torn()
        os.kill(os.getpid(), signal.SIGKILL)


def install(fault: Fault) -> Points:
    """Watch this process from now on; there is no way back."""
    points = Points(fault)
    _watch_events(points)
    _watch_files(points)
    flush = os.fsync

    def fsync(handle: Any) -> None:
        points.reach(
            "fsync", Path(f"/proc/self/fd/{handle if isinstance(handle, int) else handle.fileno()}").readlink()
        )
        flush(handle)

    os.fsync = fsync
    return points


def _watch_events(points: Points) -> None:
    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            points.reach("open", arguments[0])
        elif event in _EVENTS:
            inside = (
                len(arguments) > 1 and isinstance(arguments[-1], int) and arguments[-1] != -1 and event != "os.mkdir"
            )
            points.reach(event, points.fault.root if inside else arguments[0])  # shutil.rmtree goes by open folders

    sys.addaudithook(on_event)


def _watch_files(points: Points) -> None:
    plain = io.open

    class Watched(io.FileIO):
        def write(self, data: Any) -> int:
            points.reach("write", self.name, torn=lambda: super(Watched, self).write(bytes(data)[: len(data) // 2]))
            return super().write(data)

    def watched(
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        named = isinstance(file, str | bytes | os.PathLike) and os.fsdecode(file).startswith(points.fault.root)
        if not named or not set(mode) & set("wax") or "+" in mode:
            return plain(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Watched(os.fsdecode(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffer = io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    io.open = watched  # type: ignore[assignment]
    builtins.open = watched
