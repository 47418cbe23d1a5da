"""What is printed while a command works: lines, results of a dry run, tables."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from densereid.data_catalog.errors import printable

if TYPE_CHECKING:
    from rich.table import Table


def is_first_process() -> bool:
    """Whether this is the first of the processes that torchrun started, which speaks for all; or the only one."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


def print_status(text: str) -> None:
    """A line for the person at the terminal, by the first process; results go to standard output, this does not.

    It goes through ``sys.stderr`` as it is at this moment: while a bar is drawn, rich puts its own there, which writes
    lines above the bar instead of at its end.
    """
    if is_first_process():
        print_problem(text)


def print_problem(text: str) -> None:
    """A line for the person at the terminal, by whichever process meets it."""
    click.echo(printable(text), file=sys.stderr)


def close_output() -> None:
    """What this process prints goes nowhere from here on; of several that train together the first one prints."""
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process


class StatusHandler(logging.StreamHandler[TextIO]):
    """Logged lines beside those of :func:`print_status`, and as they."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's text."""
        print_status(self.format(record))


def print_dry_run(report: Mapping[str, str]) -> None:
    """Print each subject of a dry run with its sentence."""
    for subject, sentence in report.items():
        click.echo(printable(f"{subject:<10} {sentence}"))
    print_status("dry run: nothing was written")


def print_table(table: Table) -> None:
    """Print a table to standard output; into a file or a pipe it is as wide as it needs to be."""
    from rich.console import Console  # here: --help does not need it

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
