"""How fast a training step's scattered reads are: image, DSAP and validity of 64 random rows, by reader."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr

from bench.report import print_markdown_table, seconds
from densereid.data_catalog.datasets.lookup import find_dataset
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


def _memmap(path: Path, values: np.ndarray) -> np.ndarray:
    np.save(path, values)
    return np.load(path, mmap_mode="r")


def main() -> None:
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stores = make(folder)
        num_samples = stores["zarr"].geometry.num_samples
        memory = {name: _memmap(folder / f"{name}.npy", stores["zarr"].read(name)) for name in ARRAYS}
        group = zarr.open_group(stores["zarr"].path, mode="r")

        def draw() -> np.ndarray:
            return generator.integers(0, num_samples, BATCH)

        readers = {
            "raw memmap (the ceiling)": lambda: [memory[name][rows] for rows in [draw()] for name in ARRAYS],
            "our zarr (tensorstore)": lambda: [stores["zarr"].read(name, rows) for rows in [draw()] for name in ARRAYS],
            "our HDF5 (shard files)": lambda: [stores["hdf5"].read(name, rows) for rows in [draw()] for name in ARRAYS],
            "zarr-python, row by row": lambda: [
                np.stack([group[name][row] for row in rows]) for rows in [draw()] for name in ARRAYS
            ],
        }
        measured = {name: seconds(read) for name, read in readers.items()}
    slowest = measured["zarr-python, row by row"]
    table = [(name, f"{1 / took:.1f}", f"{slowest / took:.1f}x") for name, took in measured.items()]
    title = f"{BATCH} scattered rows of image, DSAP and validity at 256x128"
    print_markdown_table(title, ("reader", "steps/s", "against zarr-python"), table, ("zarr", "tensorstore", "h5py"))


if __name__ == "__main__":
    main()
