"""How fast are a training step's scattered reads: image, DSAP and validity of 64 random rows, by reader and format?

All readers take turns. The ceiling is the codec: the same chunks, compressed as the store has them, decompressed from
memory by as many threads as there are cores, with nothing else done.

    python -m bench.stores.readers --folder FOLDER    # makes the stores there, or takes those that are there
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import h5py
import numpy as np
import zarr
from numcodecs import zstd

from bench.report import fastest, print_markdown_table
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.store.shards.hdf5 import side_by_side
from densereid.data_catalog.store.store import FORMATS, Store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig

ARRAYS = ("image", "dsap", "dsap_valid")
BATCH = 64


def make(folder: Path) -> dict[str, Store]:
    """A store of 2,000 rendered pedestrians at 256x128 in each format."""
    write_dataset(folder / "synthetic", SyntheticConfig(), workers=2)
    dataset = find_dataset("synthetic", folder)
    stores = {}
    for name, module in FORMATS.items():
        config = PreprocessConfig(size=(256, 128), dsap_size=32, collision="last")
        plan = Plan(dataset, folder / f"store{module.SUFFIX}", open_iuv(dataset), config)
        stores[name] = write_store(plan, format=name)
    return stores


def shard_files(store: Store) -> list[Path]:
    return sorted(Path(str(store.path)).glob("shard-*.h5"))


def compressed(store: Store) -> dict[str, list[bytes]]:
    """Every chunk of an HDF5 store's large arrays, without its checksum."""
    chunks: dict[str, list[bytes]] = {name: [] for name in ARRAYS}
    for path in shard_files(store):
        with h5py.File(path) as file:
            for name in ARRAYS:
                dataset = file[name]
                places = [(row, *[0] * (dataset.ndim - 1)) for row in range(len(dataset))]
                chunks[name] += [dataset.id.read_direct_chunk(place)[1][:-4] for place in places]
    return chunks


def _memmap(path: Path, values: np.ndarray) -> np.ndarray:
    np.save(path, values)
    return np.load(path, mmap_mode="r")


def readers(folder: Path, stores: dict[str, Store]) -> dict[str, Callable[[], object]]:
    """What reads one step's rows, by name."""
    generator = np.random.default_rng(0)
    memory = {name: _memmap(folder / f"{name}.npy", stores["zarr"].read(name)) for name in ARRAYS}
    chunks = compressed(stores["hdf5"])
    files = [h5py.File(path) for path in shard_files(stores["hdf5"])]
    shard_rows = stores["hdf5"].geometry.shard_rows

    def by_h5py(name: str, rows: np.ndarray) -> np.ndarray:
        return np.stack([files[row // shard_rows][name][row % shard_rows] for row in rows])

    group = zarr.open_group(stores["zarr"].path, mode="r")

    def step(read: Callable[[str, np.ndarray], object]) -> Callable[[], object]:
        def act() -> list[object]:
            rows = generator.integers(0, stores["zarr"].geometry.num_samples, BATCH)
            return [read(name, rows) for name in ARRAYS]

        return act

    def decompress(name: str, rows: np.ndarray) -> None:
        side_by_side([lambda row=row: zstd.decompress(chunks[name][row]) for row in rows])  # type: ignore[misc]

    return {
        "the codec alone, from memory": step(decompress),
        "zarr": step(stores["zarr"].read),
        "HDF5": step(stores["hdf5"].read),
        "h5py, row by row (ours before)": step(by_h5py),
        "raw memmap": step(lambda name, rows: memory[name][rows]),
        "zarr-python, row by row": step(lambda name, rows: np.stack([group[name][row] for row in rows])),
    }


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--rounds", default=20, show_default=True)
def main(folder: Path, rounds: int) -> None:
    """Print the table."""
    measured = fastest(readers(folder, make(folder)), rounds)
    codec, codec_cpu = measured["the codec alone, from memory"]
    table = [
        (name, f"{1 / wall:.1f}", f"{codec / wall:.0%}", f"{1000 * cpu:.1f}", f"{codec_cpu / cpu:.0%}")
        for name, (wall, cpu) in measured.items()
    ]
    title = f"`python -m bench.stores.readers`: {BATCH} scattered rows of image, DSAP and validity at 256x128"
    columns = ("reader", "steps/s", "of the codec", "CPU ms a step", "of the codec's")
    print_markdown_table(title, columns, table, ("zarr", "tensorstore", "h5py", "numcodecs"))


if __name__ == "__main__":
    main()
