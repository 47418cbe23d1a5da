"""The commands about datasets on disk: which are known and there, whether a copy is whole, CUHK03 from its release."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from densereid.data_catalog.datasets.cuhk03 import KINDS
from densereid.data_catalog.datasets.lookup import FOLDER, find_dataset, locate
from densereid.data_catalog.datasets.specs import known_datasets
from densereid.pipeline import options
from densereid.pipeline.console import print_status
from densereid.pipeline.exit import EXIT_ERROR


@click.group()
def catalog() -> None:
    """The known datasets: list them, check a copy on disk."""


@catalog.command("list")
@options.catalog
@options.data_root
def list_datasets(catalog: Path | None, data_root: Path) -> None:
    """List the known datasets, and which of them are on disk."""
    for name, spec in known_datasets(catalog).items():
        found = locate(spec, data_root)
        click.echo(f"{name:<16} {spec.title}: {found if found else 'not under ' + str(data_root)}")
    click.echo(f"{FOLDER:<16} any folder of person crops: DATA_ROOT=FOLDER, PATTERN=... for identities and cameras")


@catalog.command()
@click.argument("dataset", envvar="DATASET")
@options.catalog
@options.data_root
def check(dataset: str, catalog: Path | None, data_root: Path) -> None:
    """Compare a dataset on disk with its grammar and published counts; name every difference.

    For CUHK03 also with the released .mat files, name by name and pixel by pixel, where they are under DATA_ROOT.
    """
    from densereid.pipeline.commands.cataloguing import dataset_differences, shortened

    found = find_dataset(dataset, data_root, catalog=catalog)
    differences = dataset_differences(found, data_root)
    for difference in shortened(differences):
        click.echo(difference)
    if differences:
        sys.exit(EXIT_ERROR)
    counts = "exactly the published counts" if found.spec and found.spec.counts else "no published counts to compare"
    click.echo(f"{found.root}: {len(found.records)} images, {counts}")


@catalog.command("extract")
@click.argument("dataset", envvar="DATASET", type=click.Choice(["cuhk03", *KINDS]))
@options.data_root
def extract_command(dataset: str, data_root: Path) -> None:
    """Make the cuhk03-np folders from CUHK03's release: cuhk-03.mat and the new protocol's .mat files."""
    from densereid.pipeline.commands.cataloguing import extract_dataset

    for target in extract_dataset(dataset, data_root):
        click.echo(target)
    print_status(f"next: make check DATASET={dataset if dataset in KINDS else ' or '.join(KINDS)}")
