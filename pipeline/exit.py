"""How a command ends: exit codes, the words of a mistake, Ctrl-C once and twice."""

from __future__ import annotations

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
    click.echo(click.style("error: ", fg="red", bold=True), err=True, nl=False)
    print_status(problem)
    if remedy:
        print_status(remedy)
    return EXIT_ERROR


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
