"""Names of codes for xarray, in a store that is not finished and with any chunks of dask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray
from helpers import GEOMETRY, write_random_store

from densereid.data_catalog.store.named_codes import with_named_codes
from densereid.data_catalog.store.schema import arrays_written
from densereid.data_catalog.store.store import create_store, write_shard


@pytest.mark.parametrize("chunk_rows", [None, 32])
def test_xarray_selects_by_the_names_of_split_and_status(tmp_path: Path, chunk_rows: int | None) -> None:
    path, written = tmp_path / "store.zarr", write_random_store(tmp_path / "first.zarr", "zarr")
    split, status = written["split"] % 3, (written["status"] % 3).astype(np.uint8)
    rows = {name: written[name] for name in ("person_id", "camera_id", "path")}
    create_store(path, format="zarr", geometry=GEOMETRY, attributes={}, rows={**rows, "split": split.astype(np.uint8)})
    for shard in (0, 1):  # and one that is not written: its status is 255
        covered = GEOMETRY.shard_slice(shard)
        shards = {spec.name: written[spec.name][covered] for spec in arrays_written("shard")}
        write_shard(path, shard=shard, rows={**shards, "status": status[covered]})
    opened = xarray.open_zarr(path, chunks=None)
    dataset = with_named_codes(opened if chunk_rows is None else opened.chunk(sample=chunk_rows))
    assert dataset["mask"].chunks is None or len(dataset["mask"].chunks[0]) == 3  # still lazy
    for name, code in (("train", 0), ("query", 1), ("gallery", 2)):
        chosen = dataset.sel(split=name)
        np.testing.assert_array_equal(chosen["path"], written["path"][split == code])
        usable = dataset["mask"].where(dataset["split"] == name, drop=True)
        assert usable.sizes["sample"] == (split == code).sum()
    for name, code in (("ok", 0), ("no_person", 1), ("failed", 2)):
        np.testing.assert_array_equal(dataset.sel(status=name)["path"], written["path"][:64][status[:64] == code])
    both = dataset.sel(split="train").sel(status="ok")
    np.testing.assert_array_equal(both["path"], written["path"][:64][(split[:64] == 0) & (status[:64] == 0)])
    assert dataset.sel(status="255").sizes["sample"] == 11
    assert dataset["split"].attrs == {"description": "role in the dataset's protocol"}
