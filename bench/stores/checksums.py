"""What a store costs: processor time of writing a shard, of reading scattered rows and of opening, and its size.

Run it in two checkouts by turns, such as the commits before and after a change of the format; it uses nothing that
changed with format version 2.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.report import print_markdown_table
from bench.stores.readers import make
from densereid.data_catalog.store.schema import Geometry, arrays_written
from densereid.data_catalog.store.store import create_store, open_store, write_shard

IMAGES, PICKED, BATCHES, ROUNDS = 1024, 64, 20, 4
READ = ("image", "dsap", "dsap_valid", "mask")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = make(Path(folder))["zarr"]
        geometry = Geometry(IMAGES, source.geometry.height, source.geometry.width, source.geometry.dsap_size)
        rows = slice(0, IMAGES)
        known, shard = (
            {spec.name: source.read(spec.name, rows) for spec in arrays_written(kind)} for kind in ("create", "shard")
        )
        table = []
        for format in ("zarr", "hdf5"):
            path = Path(folder) / f"measured.{format}"

            def write(path: Path = path, format: str = format) -> None:
                shutil.rmtree(path, ignore_errors=True)
                create_store(path, format=format, geometry=geometry, attributes={"dataset": "x"}, rows=known)
                write_shard(path, shard=0, rows=shard)

            seconds = _fewest(write)
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            read, opened = _fewest(lambda path=path: _read(path)), _fewest(lambda path=path: _open(path)) / BATCHES
            table.append((format, f"{seconds:.2f}", f"{read:.2f}", f"{1e3 * opened:.1f}", f"{size / 1e6:.2f}"))
    columns = ("format", "write a shard, CPU s", f"read {BATCHES} x {PICKED} rows, CPU s", "open, CPU ms", "MB")
    print_markdown_table(f"A shard of {IMAGES} rendered images", columns, table, ("tensorstore", "h5py", "zarr"))


def _fewest(action: Callable[[], object]) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        action()
        took.append(time.process_time() - began)
    return min(took)


def _read(path: Path) -> None:
    store, generator = open_store(path), np.random.default_rng(0)
    for _ in range(BATCHES):
        picked = np.sort(generator.choice(IMAGES, PICKED, replace=False))
        for name in READ:
            store.read(name, picked)


def _open(path: Path) -> None:
    for _ in range(BATCHES):
        open_store(path)


if __name__ == "__main__":
    main()
