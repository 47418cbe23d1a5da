"""One attacked call: in a process of its own, watched from outside, and how it ended."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from faults.points import Fault, install
from forked import server
from helpers import ROOT

from densereid.data_catalog.errors import UserError
from densereid.pipeline.cli import main

_TRACEBACK = "Traceback (most recent call last)"
_IGNORED = re.compile(rf"Exception ignored in[^\n]*\n{re.escape(_TRACEBACK)}")
"""What Python prints of a library's destructor that failed, as asyncio's without a free file number."""

HANGS_AFTER = 90.0
"""Seconds; the slowest of the calls takes three on an idle core."""


@dataclass(frozen=True)
class Ended:
    """How a call ended: it returned, was refused (UserError, or a command's code 1), was killed, hung or broke."""

    how: str
    value: Any = None
    said: str = ""

    @property
    def code(self) -> int:
        """Of a command; -1 where it has none."""
        return self.value[0] if self.how == "returned" else -1


@dataclass
class Call:
    """A call in progress."""

    process: ForkServerProcess
    answers: Connection
    said: Path
    seconds: float = HANGS_AFTER

    def ended(self) -> Ended:
        """Wait for its end, which is brought about where it hangs."""
        answer = self._answer()
        self.process.join(5)
        hung = answer is None and self.process.exitcode is None
        self.process.kill()
        self.process.join()
        said = self.said.read_text(encoding="utf-8", errors="replace") if self.said.exists() else ""
        if hung:
            return Ended("hung", said=said)
        if answer is None:
            how = "killed" if self.process.exitcode == -signal.SIGKILL else "broke"
            return Ended(how, said=f"ended by {self.process.exitcode}\n{said}")
        if _TRACEBACK in _IGNORED.sub("", said):
            return Ended("broke", said=said)
        return Ended(answer[0], answer[1], said + (str(answer[1]) if answer[0] in ("broke", "refused") else ""))

    def _answer(self) -> tuple[str, Any] | None:
        try:
            return self.answers.recv() if self.answers.poll(self.seconds) else None
        except (EOFError, OSError):
            return None


def start(
    function: Callable[..., Any], *arguments: Any, said: Path, fault: Fault | None = None,
    limits: Mapping[int, int] | None = None, seconds: float = HANGS_AFTER,
) -> Call:  # fmt: skip
    """Begin ``function(*arguments)`` in a process of its own, with a fault or with limits of the system."""
    ours, theirs = server().Pipe(duplex=False)
    process = server().Process(target=_execute, args=(function, arguments, theirs, said, fault, dict(limits or {})))
    process.start()
    theirs.close()
    return Call(process, ours, said, seconds)


def call(function: Callable[..., Any], *arguments: Any, said: Path, **given: Any) -> Ended:
    """:func:`start`, to its end."""
    return start(function, *arguments, said=said, **given).ended()


def _execute(
    function: Callable[..., Any], arguments: Sequence[Any], answers: Connection, said: Path, fault: Fault | None,
    limits: Mapping[int, int],
) -> None:  # fmt: skip
    os.chdir(ROOT)
    _as_for_a_test(said)
    points = install(fault) if fault is not None else None
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name, limit in limits.items():
        resource.setrlimit(name, (limit, limit))
    try:
        value = function(*arguments)
        answer = ("returned", (value, points.count if points else 0) if isinstance(value, int) else value)
    except UserError as error:
        answer = ("refused", str(error))
    except BaseException:
        answer = ("broke", traceback.format_exc())
    sys.stdout.flush()
    answers.send(answer)
    os._exit(0)  # its threads and buffers are of no interest


def _as_for_a_test(said: Path) -> None:
    """Without variables from outside, with a cache of its own, and with what is printed in a file."""
    for name in list(os.environ):
        if name.startswith("DENSEREID_"):
            del os.environ[name]
    os.environ["DENSEREID_CACHE"] = str(said.parent / "cache")
    with said.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)  # type: ignore[attr-defined]


def command(words: Sequence[str]) -> int:
    """Run a command; its exit code."""
    sys.argv = ["pipeline", *words]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@dataclass
class Tally:
    """What came out of the cases of one test."""

    kind: str
    cases: int = 0
    noticed: int = 0
    harmless: int = 0
    silent: int = 0
    hangs: int = 0
    tracebacks: int = 0
    wrong: list[str] = field(default_factory=list)

    def count(self, outcome: str, what: str = "", cases: int = 1) -> None:
        """Add cases of one outcome, a field of this class; ``what`` tells of one that must not be."""
        self.cases += cases
        setattr(self, outcome, getattr(self, outcome) + cases)
        if outcome not in ("noticed", "harmless"):
            self.wrong.append(f"{outcome}: {what}")

    def ended(self, ended: Ended, what: str) -> bool:
        """Count a call that hung or broke; whether it did."""
        outcome = {"hung": "hangs", "broke": "tracebacks"}.get(ended.how)
        if outcome is not None:
            self.count(outcome, f"{what}\n{ended.said[-3000:]}")
        return outcome is not None
