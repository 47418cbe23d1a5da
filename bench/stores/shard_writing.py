"""How long a finished shard takes to be compressed and written as zarr, by writer.

``--former FILE`` adds a third writer: a module with ``encode_chunk`` and ``encode_shard``, as the repository had until
it left encoding to tensorstore.

    git show 4710790:data_catalog/store/zarr_shards.py > /tmp/zarr_shards.py
    python -m bench.stores.shard_writing --former /tmp/zarr_shards.py
"""

from __future__ import annotations

import runpy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import zarr

from bench.report import fastest, print_markdown_table
from bench.stores.readers import make
from densereid.data_catalog.files.atomic import write_bytes
from densereid.data_catalog.store.schema import ARRAY_BY_NAME, arrays_written
from densereid.data_catalog.store.store import Store, create_store, open_store
from densereid.data_catalog.store.zarr_format import shard_key, write_shard_arrays

Rows = Mapping[str, np.ndarray]


def write_with_zarr_python(path: Path, rows: Rows) -> None:
    group = zarr.open_group(path)
    for name, values in rows.items():
        group[name][: len(values)] = values


def write_ours(path: Path, rows: Rows) -> None:
    write_shard_arrays(path, 0, rows)


def former_writer(file: Path) -> Callable[[Path, Rows], None]:
    """A writer that encodes with the functions of a Python file."""
    module = runpy.run_path(str(file))

    def write(path: Path, rows: Rows) -> None:
        group = zarr.open_group(path, mode="r")
        for name, values in rows.items():
            array, spec = group[name], ARRAY_BY_NAME[name]
            settings: dict[str, Any] = {"fill": spec.fill, "level": spec.level}
            if array.shards is None:
                encoded = module["encode_chunk"](values, rows=array.chunks[0], **settings)
            else:
                sizes = {"shard_rows": array.shards[0], "chunk_rows": array.chunks[0]}
                encoded = module["encode_shard"](values, **sizes, **settings)
            if encoded is not None:
                write_bytes(path / name / shard_key(array, 0), encoded)

    return write


def measure(
    folder: Path, writers: Mapping[str, Callable[[Path, Rows], None]], images: int, rounds: int
) -> list[list[str]]:
    """The table's rows; every writer fills the one shard of a store of its own, again and again."""
    store = make(folder)["zarr"]
    rows = {spec.name: store.read(spec.name, slice(images)) for spec in arrays_written("shard")}
    paths = {name: empty_store(folder / f"{number}.zarr", store, images) for number, name in enumerate(writers)}
    found = fastest({name: partial(writer, paths[name], rows) for name, writer in writers.items()}, rounds)
    slowest = found["zarr-python"][0]
    table = []
    for name, (wall, cpu) in found.items():
        check_written(paths[name], rows)
        size = sum(file.stat().st_size for file in paths[name].glob("*/c/**/*") if file.is_file())
        numbers = (f"{images / wall:.0f}", f"{1000 * cpu / images:.2f}", f"{size / 1e6:.2f}", f"{slowest / wall:.2f}x")
        table.append([name, *numbers])
    return table


def empty_store(path: Path, store: Store, images: int) -> Path:
    """A store for the first images of another one, which are one shard of it."""
    created = {spec.name: store.read(spec.name, slice(images)) for spec in arrays_written("create")}
    geometry = replace(store.geometry, num_samples=images, shard_rows=images)
    create_store(path, format="zarr", geometry=geometry, attributes={}, rows=created)
    return path


def check_written(path: Path, rows: Rows) -> None:
    store = open_store(path, incomplete=True)
    for name, values in rows.items():
        np.testing.assert_array_equal(store.read(name), values, err_msg=name)


@click.command(help=__doc__)
@click.option("--former", type=click.Path(exists=True, path_type=Path), help="A module that encodes shards.")
@click.option("--images", default=1024, show_default=True, help="Of the shard, a multiple of 32.")
@click.option("--rounds", default=8, show_default=True)
def main(former: Path | None, images: int, rounds: int) -> None:
    writers: dict[str, Callable[[Path, Rows], None]] = {
        "zarr-python": write_with_zarr_python,
        "ours (tensorstore encodes)": write_ours,
    }
    if former is not None:
        writers["former"] = former_writer(former)
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder), writers, images, rounds)
    columns = ("writer", "images/s", "CPU ms an image", "MB", "against zarr-python")
    print_markdown_table(
        f"A shard of {images:,} images, compressed and written", columns, table, ("zarr", "tensorstore", "numcodecs")
    )


if __name__ == "__main__":
    main()
