"""What preprocessing without a network costs beyond what it must do: decode, resize, warp, compress, sum.

The floor does those steps alone, one after the other in one thread, on files and arrays that are in memory: JPEG and
PNG decoded by Pillow, both resized, masks and DSAP images by the compiled kernel, Zstandard at the schema's levels,
CRC-32C of each chunk and CRC-32 of each array. The whole is `write_store` with ESTIMATOR=iuv. Both in CPU seconds, by
turns.

    python -m bench.stores.preprocessing_floor --folder FOLDER   # renders there, or takes what is there
"""

from __future__ import annotations

import io
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import google_crc32c
import numpy as np
import torch
from numcodecs import zstd
from PIL import Image

from bench.report import print_markdown_table
from densereid.data_catalog.datasets.iuv_files import iuv_path
from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.store.schema import arrays_written
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.semantics.derive import derive
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig

SIZE = (256, 128)
_BATCH = 64


class Floor:
    """The steps, each over all images; what one gives is what the next takes."""

    def __init__(self, dataset: Dataset) -> None:
        assert dataset.iuv_root is not None, "rendered images have maps"
        paths = [dataset.root / record.path for record in dataset.records]
        maps = [iuv_path(dataset.iuv_root, record.path) for record in dataset.records]
        self.files = [path.read_bytes() for path in paths]
        self.maps = [path.read_bytes() for path in maps if path is not None]
        shape = (len(paths), *SIZE, 3)
        self.arrays = {name: np.zeros(shape, np.uint8) for name in ("image", "iuv")}
        self.chunks: list[bytes] = []

    def steps(self) -> dict[str, Callable[[], object]]:
        return {
            "JPEG decoded": self.decode, "image resized": self.resize, "PNG of the IUV map decoded": self.decode_maps,
            "IUV map resized": self.resize_maps, "mask and DSAP images": self.warp, "Zstandard": self.compress,
            "checksums": self.sum,
        }  # fmt: skip

    def decode(self) -> None:
        self.images = [Image.open(io.BytesIO(content)).convert("RGB") for content in self.files]

    def resize(self) -> None:
        for row, each in zip(self.arrays["image"], self.images, strict=True):
            row[...] = np.asarray(each.resize(SIZE[::-1], Image.Resampling.BILINEAR))

    def decode_maps(self) -> None:
        self.decoded = [Image.open(io.BytesIO(content)) for content in self.maps]
        for each in self.decoded:
            each.load()
        self.decoded = [Image.merge("RGB", each.split()[::-1]) for each in self.decoded]  # V, U, I as they are stored

    def resize_maps(self) -> None:
        for row, each in zip(self.arrays["iuv"], self.decoded, strict=True):
            row[...] = np.asarray(each.resize(SIZE[::-1], Image.Resampling.NEAREST))

    def warp(self) -> None:
        image, iuv = (torch.from_numpy(self.arrays[name]) for name in ("image", "iuv"))
        for start in range(0, len(image), _BATCH):
            rows = slice(start, start + _BATCH)
            found = derive(image[rows], iuv[rows], size=32, collision="last", device="cpu")
            for name, values in found.items():
                whole = self.arrays.setdefault(name, np.empty((len(image), *values.shape[1:]), values.dtype))
                whole[rows] = values

    def compress(self) -> None:
        self.chunks = []
        for spec in arrays_written("shard"):
            if spec.chunk_rows is not None:
                values, step = self.arrays[spec.name], spec.chunk_rows
                for start in range(0, len(values), step):
                    self.chunks.append(zstd.compress(values[start : start + step], spec.level))

    def sum(self) -> None:
        for chunk in self.chunks:
            google_crc32c.value(chunk)
        for values in self.arrays.values():
            zlib.crc32(np.ascontiguousarray(values).data)


def cpu_seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--rounds", default=3, show_default=True)
def main(folder: Path, rounds: int) -> None:
    """Print the table."""
    write_dataset(folder / "synthetic", SyntheticConfig(), workers=2)
    dataset = find_dataset("synthetic", folder)
    floor, store = Floor(dataset), folder / "preprocessed.zarr"
    config = PreprocessConfig(size=SIZE, dsap_size=32, collision="last")
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, step in floor.steps().items():
            found.setdefault(name, []).append(cpu_seconds(step))
        plan = Plan(dataset, store, open_iuv(dataset), config)
        found.setdefault("write_store", []).append(cpu_seconds(lambda plan=plan: write_store(plan, format="zarr")))
        shutil.rmtree(store)
    each = {name: 1000 * min(times) / len(dataset.records) for name, times in found.items()}
    whole = each.pop("write_store")
    rows = [(name, f"{value:.3f}") for name, value in each.items()]
    rows += [("**the floor**", f"{sum(each.values()):.3f}"), ("write_store", f"{whole:.3f}")]
    rows += [("the floor's share", f"{sum(each.values()) / whole:.0%}")]
    title = f"`python -m bench.stores.preprocessing_floor`: {len(dataset.records)} images, 128x64 to 256x128"
    print_markdown_table(title, ("step", "CPU ms an image"), rows, ("pillow", "numcodecs", "tensorstore", "torch"))


if __name__ == "__main__":
    main()
