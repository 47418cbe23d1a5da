"""How a command ends: exit codes, the words of a mistake, Ctrl-C once and twice."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType

import click

from densereid.pipeline.console import print_status
from densereid.pipeline.invocation import this_command

EXIT_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 3, 130


def failed(problem: str, remedy: str) -> int:
    """Print what is wrong and what to do; the exit code."""
    print_status(click.style("error: ", fg="red", bold=True) + problem)
    if remedy:
        print_status(remedy)
    return EXIT_ERROR


def explained(error: OSError) -> tuple[str, str]:
    """What is wrong and what to do where the system refused something, in its own words."""
    where = f": {error.filename}" if error.filename else ""
    problem = f"{error.strerror or error}{where}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return problem, (
            "you have no permission to write or read there: change that (`ls -ld` shows who has), or choose another "
            "folder with STORE_ROOT, RUN_ROOT or DATA_ROOT; what is finished is kept"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return problem, "make room on that disk, then run the same command again; what is finished is kept"
    return problem, "what is finished is kept; run the same command again when that is mended"


def interrupted() -> int:
    """Print the command that continues; the exit code."""
    print_status(_interruption())
    return EXIT_INTERRUPTED


def _interruption() -> str:
    return f"\ninterrupted; what is finished is kept. To continue: {this_command()}"


def stop_at_once_when_interrupted_twice() -> None:
    """The first Ctrl-C raises KeyboardInterrupt, so that what is under way can end; the second does not wait."""

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, second)
        # Not print_status(): a signal may come in the middle of one.
        os.write(sys.stderr.fileno(), b"\nstopping what is under way; Ctrl-C again stops at once\n")
        raise KeyboardInterrupt

    def second(_number: int, _frame: FrameType | None) -> None:
        os.write(sys.stderr.fileno(), f"{_interruption()}\n".encode())
        os._exit(EXIT_INTERRUPTED)

    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # a job in the background ignores it, and stays so
        signal.signal(signal.SIGINT, first)
