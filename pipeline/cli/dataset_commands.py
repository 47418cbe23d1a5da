"""Commands about this machine and its datasets: doctor, catalog, synthesize.

A command imports what it does in its body: the heavy libraries take seconds that ``--help`` does not need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.pipeline.cli import options
from densereid.pipeline.cli.command import Command, command
from densereid.pipeline.console import print_next_commands, print_table
from densereid.pipeline.exit import EXIT_ERROR
from densereid.pipeline.invocation import next_command

if TYPE_CHECKING:
    from densereid.data_catalog.files.paths import AnyPath

_Command = TypeVar("_Command", bound=Callable[..., Any])


@command("doctor")
@options.data_root
@options.store_root
def doctor_command(data_root: Path, store_root: AnyPath) -> None:
    """What this machine has and lacks: versions, GPU, disk, estimators, weights, datasets."""
    from densereid.pipeline.commands.doctor import findings, findings_table

    print_table(findings_table(list(findings(data_root, store_root))))


@click.group("catalog")
def catalog_command() -> None:
    """The known datasets: list them, check a copy on disk."""


@catalog_command.command("list", cls=Command)
@options.catalog
@options.data_root
def list_command(catalog: Path | None, data_root: Path) -> None:
    """List the known datasets, and which of them are on disk."""
    from densereid.pipeline.commands.catalog import dataset_lines

    for line in dataset_lines(catalog, data_root):
        click.echo(line)


@catalog_command.command("check", cls=Command)
@click.argument("dataset")
@options.catalog
@options.data_root
def check_command(dataset: str, catalog: Path | None, data_root: Path) -> None:
    """Compare a dataset on disk with its grammar and published counts; name every difference.

    For CUHK03 also with the released .mat files, name by name and pixel by pixel, where they are under DATA_ROOT.
    """
    from densereid.pipeline.commands.catalog import check_dataset

    lines, is_whole = check_dataset(dataset, data_root, catalog)
    for line in lines:
        click.echo(line)
    if not is_whole:
        sys.exit(EXIT_ERROR)


@catalog_command.command("extract", cls=Command)
@click.argument("dataset")
@options.data_root
def extract_command(dataset: str, data_root: Path) -> None:
    """Make the cuhk03-np folders from CUHK03's release: cuhk-03.mat and the new protocol's .mat files.

    DATASET is cuhk03-labeled, cuhk03-detected, or cuhk03 for both.
    """
    from densereid.pipeline.commands.catalog import extract_dataset

    for name, target in extract_dataset(dataset, data_root).items():
        click.echo(target)
        print_next_commands(next_command("catalog check", dataset=name))


def _number(name: str, text: str) -> Callable[[_Command], _Command]:
    """An option that is a field of SyntheticConfig, with its default."""
    default = getattr(SyntheticConfig, name.replace("-", "_"))
    return click.option(f"--{name}", type=int, default=default, show_default=True, help=text)


@command("synthesize")
@options.data_root
@options.workers
@options.seed
@_number("train-identities", "Identities to train on.")
@_number("test-identities", "Identities to test on.")
@_number("images-per-identity", "Images of each identity.")
@_number("cameras", "Cameras, 2 to 6.")
@_number("distractors", "Gallery images of nobody (0000).")
@_number("junk", "Junk gallery images (-1).")
@_number("iuv-errors", "Errors of DensePose's kinds in the IUV maps, percent of a modelled estimator's; 0 is exact.")
def synthesize_command(
    data_root: Path, workers: int, seed: int, train_identities: int, test_identities: int, images_per_identity: int,
    cameras: int, distractors: int, junk: int, iuv_errors: int,
) -> None:  # fmt: skip
    """Render the synthetic pedestrians, with exact IUV maps or with errors, in Market-1501's layout."""
    from densereid.pipeline.stores import synthesize

    config = SyntheticConfig(
        train_identities, test_identities, images_per_identity, cameras, distractors, junk,
        seed=seed, iuv_errors=iuv_errors,
    )  # fmt: skip
    synthesize(data_root / "synthetic", config, workers=workers)
    click.echo(data_root / "synthetic")
    print_next_commands(next_command("preprocess", dataset="synthetic"))
