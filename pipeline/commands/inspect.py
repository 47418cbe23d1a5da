"""Looking at a store: a contact sheet, how often each part is seen, a page; the only module that imports dask."""

from __future__ import annotations

from pathlib import Path

import click
import dask.array as da
import numpy as np
from rich.table import Table

from densereid.data_catalog.parts import MASK_LABELS, NUM_MASK_LABELS
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store
from densereid.pipeline.console import print_status, print_table
from densereid.pipeline.reports.contact_sheet import choose_rows, contact_sheet
from densereid.pipeline.reports.pages.stores.findings import read_store
from densereid.pipeline.reports.pages.stores.page import write_store_page


def inspect_store(store: Store, folder: Path, *, images: int, seed: int) -> Path:
    """Write the contact sheet of ``images`` rows into ``folder``, print the visibility table; the sheet's path."""
    sheet = write_sheet(store, folder, images=images, seed=seed)
    with store.library_errors_as_user_errors("mask"):
        table = visibility_table(store)
    print_table(table)
    click.echo(f"contact sheet: {sheet}")
    return sheet


def write_sheet(store: Store, folder: Path, *, images: int, seed: int) -> Path:
    """Write ``<folder>/<store's file name>.png`` and return its path."""
    rows = choose_rows(store, images, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{store.path.name}.png"
    contact_sheet(store, rows).save(path)
    print_status(f"wrote {len(rows)} of {plural(store.geometry.num_samples, 'image')} to {path}")
    return path


def report_store(store: Store, path: Path, images: int, *, seed: int) -> Path:
    """Write a page about a store to ``path``, with ``images`` of it; the path. Raises UserError as a store does."""
    write_store_page(path, read_store(store), images=images, seed=seed)
    print_status(f"the report has {path.stat().st_size / 1e6:.1f} MB and opens in any browser")
    return path


def visibility_table(store: Store) -> Table:
    """Share of images in which each part of the mask occurs."""
    table = Table(title=plural(store.geometry.num_samples, "image"), title_justify="left")
    table.add_column("part of the mask")
    table.add_column("seen in", justify="right")
    for name, share in list(zip(MASK_LABELS, visible_share(masks(store)), strict=True))[1:]:
        table.add_row(name, f"{share:.1%}")
    return table


def masks(store: Store) -> da.Array:
    """The store's 7-part masks as a lazy dask array, uint8 (sample, height, width), one block a shard."""
    array = store.array("mask")
    return da.from_array(array, chunks=(store.geometry.shard_rows, *array.shape[1:]))


def visible_share(masks: da.Array) -> np.ndarray:
    """Share of the images in which each mask label occurs, float (8,), of masks (sample, height, width)."""
    shares = [(masks == label).any(axis=(1, 2)).mean() for label in range(NUM_MASK_LABELS)]
    return np.asarray(da.stack(shares).compute())
