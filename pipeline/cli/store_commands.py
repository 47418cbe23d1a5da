"""Commands about stores: how one is made, looked at, checked and copied.

A command imports what it does in its body: the heavy libraries take seconds that ``--help`` does not need.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from densereid.pipeline.cli import options
from densereid.pipeline.cli.command import command
from densereid.pipeline.cli.parameter_types import LOCATION, LocalPath
from densereid.pipeline.console import print_dry_run, print_next_commands, print_table
from densereid.pipeline.exit import EXIT_SOME_FAILED
from densereid.pipeline.invocation import next_command
from densereid.pipeline.settings import MASK_LAYOUTS

if TYPE_CHECKING:
    from densereid.data_catalog.files.paths import AnyPath
    from densereid.pipeline.store_request import StoreRequest
    from densereid.preprocess.densepose.precision import AskedPrecision


@command("preprocess")
@options.store_options
@options.dry_run
def preprocess_command(request: StoreRequest, dry_run: bool) -> None:
    """Images to masks and DSAP images in a store; continues what was interrupted."""
    if dry_run:
        from densereid.pipeline.commands.dry_run import dry_run_report

        print_dry_run(dry_run_report(request))
        return
    from densereid.pipeline.commands.next_steps import print_next
    from densereid.pipeline.stores import make_store

    store, failed = make_store(request)
    click.echo(store.path)
    print_next(store, **request.naming_options())
    if failed:
        sys.exit(EXIT_SOME_FAILED)


@command("derive")
@options.derive_options
@options.source
def derive_command(request: StoreRequest, source: AnyPath | None) -> None:
    """Other masks and DSAP images (DSAP_SIZE, COLLISION) for a store's images and IUV maps, as a store beside it."""
    from densereid.pipeline.commands.next_steps import print_next
    from densereid.pipeline.store_request import NAMING
    from densereid.pipeline.stores import derive_store

    store = derive_store(request, source)
    click.echo(store.path)
    print_next(store, without=NAMING, store_path=store.path)


@command("densepose-sizes")
@options.dataset
@options.catalog
@options.data_root
@options.pattern
@options.size
@options.weights
@options.short_edges
@options.compared_images
@options.precision
@options.device
@options.run_root
def densepose_sizes_command(
    dataset: str,
    catalog: Path | None,
    data_root: Path,
    pattern: str | None,
    size: tuple[int, int],
    weights: str,
    short_edges: list[int],
    images: int,
    precision: AskedPrecision,
    device: str,
    run_root: Path,
) -> None:
    """DensePose at several input sizes and in bf16, against short edge 800 and fp32: agreement and images a second."""
    from densereid.data_catalog.datasets.lookup import find_dataset
    from densereid.pipeline.commands.dense_pose.densepose_sizes import compare_densepose_sizes

    found = find_dataset(dataset, data_root, pattern=pattern, catalog=catalog)
    path = compare_densepose_sizes(
        found, size, short_edges, images=images, weights=weights, precision=precision, device=device, run_root=run_root
    )
    click.echo(path)


@command("inspect")
@options.naming_options
@options.store_path
@options.run_root
@options.images
@options.seed
def inspect_command(request: StoreRequest, store_path: AnyPath | None, run_root: Path, images: int, seed: int) -> None:
    """Write a contact sheet of a store, and count how often each body part is seen."""
    from densereid.pipeline.commands.inspect import inspect_store
    from densereid.pipeline.store_choice import find_store
    from densereid.pipeline.stores import compare_with_dataset

    store = find_store(request, store_path)
    if store_path is None:
        compare_with_dataset(request, store)
    inspect_store(store, run_root / "inspect", images=images, seed=seed)


@command("status")
@options.store_root
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def status_command(store_root: AnyPath, as_json: bool) -> None:
    """A table of all stores: what they hold, how much of them is written."""
    from densereid.pipeline.commands.status import find_stores, stores_table

    if as_json:
        click.echo(json.dumps(find_stores(store_root), indent=1))
    else:
        print_table(stores_table(store_root))


@command("verify")
@click.argument("store_path", metavar="[STORE_PATH]", type=LOCATION, required=False)
@options.naming_options
@click.option("--sample", type=click.IntRange(0, 10_000), default=256, show_default=True, help="Rows to compute again.")
@options.seed
def verify_command(request: StoreRequest, store_path: AnyPath | None, sample: int, seed: int) -> None:
    """Check a store: every byte against its checksum, a sample of rows against a fresh computation.

    Without STORE_PATH, the store that the other options name.
    """
    from densereid.pipeline.commands.status import verify_store
    from densereid.pipeline.store_choice import find_store
    from densereid.pipeline.stores import compare_with_dataset
    from densereid.preprocess.writing.verify import damaged_records

    store = find_store(request, store_path)
    if store_path is None and not damaged_records(store):
        compare_with_dataset(request, store)
    verify_store(store, sample=sample, seed=seed)


@command("convert")
@click.argument("source", metavar="SOURCE", type=LOCATION)
@click.argument("target", metavar="TARGET", type=LOCATION)
def convert_command(source: AnyPath, target: AnyPath) -> None:
    """Copy a store into the other format without loss; the target's suffix (.zarr, .hdf5) names it."""
    from densereid.data_catalog.store.store import open_store
    from densereid.pipeline.commands.convert import convert_by_suffix

    convert_by_suffix(open_store(source), target)
    click.echo(target)
    print_next_commands(next_command("verify", store_path=target))


@command("export-masks")
@click.argument("store_path", metavar="[STORE_PATH]", type=LOCATION, required=False)
@options.naming_options
@click.option(
    "--layout",
    type=click.Choice(MASK_LAYOUTS),
    required=True,
    help=(
        "Whose files: bpbreid (BPBReID and KPR; .npy of 7 planes), label-png (EANet; labels 0..7), npy (labels 0..7)."
    ),
)
@click.option(
    "--to", "target", type=LocalPath(), help="Their folder; for bpbreid, the dataset's. In RUN_ROOT unless given."
)
@options.run_root
def export_masks_command(
    request: StoreRequest, store_path: AnyPath | None, layout: str, target: Path | None, run_root: Path
) -> None:
    """Write the 7-part mask of every image of a store as a file that other code reads.

    Without STORE_PATH, the store that the other options name.
    """
    from densereid.pipeline.commands.export_masks import export_masks
    from densereid.pipeline.store_choice import find_store
    from densereid.pipeline.stores import compare_with_dataset

    store = find_store(request, store_path)
    if store_path is None:
        compare_with_dataset(request, store)
    click.echo(export_masks(store, layout, target or run_root / "masks" / f"{store.path.name}-{layout}"))


@command("schema")
def schema_command() -> None:
    """Print the store's schema as a Markdown table."""
    from densereid.data_catalog.store.schema import schema_table

    click.echo(schema_table())
