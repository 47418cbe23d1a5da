"""How long the mean of one part takes with xarray over a store of 2,000 images, by rows per chunk of dask."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import xarray

from bench.report import fastest, print_markdown_table
from bench.stores.readers import make

ROWS = (64, 256, 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder))["zarr"].path

        def mean(dataset: xarray.Dataset) -> float:
            return float(dataset["dsap"].sel(part="torso front").mean())

        actions: dict[str, Callable[[], object]] = {"as stored: 1": lambda: mean(xarray.open_zarr(path))}
        for rows in ROWS:
            actions[str(rows)] = lambda rows=rows: mean(xarray.open_zarr(path, chunks=None).chunk(sample=rows))
        measured = fastest(actions, rounds=2)
    slowest = measured["as stored: 1"][0]
    table = [(name, f"{took:.1f}", f"{cpu:.1f}", f"{slowest / took:.1f}x") for name, (took, cpu) in measured.items()]
    columns = ("images in a chunk", "seconds", "CPU seconds", "against one image")
    print_markdown_table("`dsap.sel(part=...).mean()` over 2,000 images", columns, table, ("xarray", "dask", "zarr"))


if __name__ == "__main__":
    main()
