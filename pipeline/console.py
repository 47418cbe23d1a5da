"""What is printed while a command works: lines, results of a dry run, tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from densereid.data_catalog.errors import printable

if TYPE_CHECKING:
    from rich.table import Table


def print_status(text: str) -> None:
    """A line for the person at the terminal; results go to standard output, this does not."""
    click.echo(printable(text), err=True)


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
