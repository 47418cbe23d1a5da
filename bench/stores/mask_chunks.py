"""How long the dask computation of docs/store.md takes on the masks of a Market-sized store, by rows per chunk."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import tensorstore
import zarr
from zarr.codecs import ZstdCodec

from bench.report import print_markdown_table, seconds
from densereid.data_catalog.parts import PART_TO_LABEL
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.sample import render_sample
from densereid.pipeline.commands.inspect import visible_share

NUM_IMAGES = 32_668
SHARD_ROWS = 1024
BATCH = 64


def rendered_masks(count: int) -> np.ndarray:
    """Masks of rendered pedestrians at 256x128, uint8 (count, 256, 128)."""
    config = SyntheticConfig(height=256, width=128)
    iuv = [render_sample(config, 1 + index, 0, 1 + index % 4, junk=False).iuv for index in range(count)]
    return PART_TO_LABEL[np.stack(iuv)[..., 0]]


def write(path: Path, masks: np.ndarray, chunk_rows: int) -> None:
    array = zarr.create_group(path).create_array(
        "mask",
        shape=(NUM_IMAGES, 256, 128),
        chunks=(chunk_rows, 256, 128),
        shards=(SHARD_ROWS, 256, 128),
        dtype="uint8",
        compressors=[ZstdCodec(level=9)],
        fill_value=255,
    )
    generator = np.random.default_rng(0)
    for start in range(0, NUM_IMAGES, SHARD_ROWS):
        stop = min(start + SHARD_ROWS, NUM_IMAGES)
        array[start:stop] = masks[generator.integers(0, len(masks), stop - start)]


def main() -> None:
    masks = rendered_masks(256)
    generator = np.random.default_rng(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for chunk_rows in (1, 8, 16, 32, 64):
            path = Path(folder) / f"{chunk_rows}.zarr"
            write(path, masks, chunk_rows)
            start = time.perf_counter()
            visible_share(da.from_zarr(str(path), component="mask"))
            took = time.perf_counter() - start
            store = {"driver": "file", "path": str(path / "mask")}
            array = tensorstore.open({"driver": "zarr3", "kvstore": store}, read=True, open=True).result()
            step = seconds(lambda array=array: array[generator.integers(0, NUM_IMAGES, BATCH)].read().result())
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            rows.append((chunk_rows, f"{took:.1f} s", f"{1000 * step:.1f} ms", f"{size / NUM_IMAGES:.0f} B"))
    columns = ("rows in a chunk", "plain from_zarr, share of images per part", f"{BATCH} scattered masks", "per mask")
    print_markdown_table(f"Masks of {NUM_IMAGES} images", columns, rows, ("zarr", "dask", "tensorstore"))


if __name__ == "__main__":
    main()
