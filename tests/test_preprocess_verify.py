"""Verification finds a flipped byte, a lost shard file and a row that does not follow from its image; nothing else."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import edit_marker

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.commands.status import stores_table, verify_store
from densereid.preprocess.writing.verify import damaged_shards, differing_rows


@pytest.fixture
def copies(stores: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {name: Path(shutil.copytree(path, tmp_path / path.name)) for name, path in stores.items()}


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_a_whole_store_passes(stores: dict[str, Path], format: str) -> None:
    store = open_store(stores[format])
    assert [names for _, names in damaged_shards(store)] == [[], [], []]
    rows = np.arange(store.geometry.num_samples)
    assert {name: len(wrong) for name, wrong in differing_rows(store, rows).items()} == dict.fromkeys(
        ("mask", "dsap", "dsap_valid"), 0
    )
    verify_store(store, sample=20, seed=0)


def test_a_flipped_byte_and_a_lost_file_are_named(copies: dict[str, Path]) -> None:
    path = copies["zarr"]
    shard = path / "image" / "c" / "1" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    (path / "dsap" / "c" / "2" / "0" / "0" / "0" / "0").unlink()
    with pytest.raises(UserError, match=r"shard 1: image is damaged\n  shard 2: dsap is damaged"):
        verify_store(open_store(path), sample=5, seed=0)


def test_a_torn_hdf5_shard_is_named(copies: dict[str, Path]) -> None:
    shard = copies["hdf5"] / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(UserError, match="shard 1: box is damaged"):
        verify_store(open_store(copies["hdf5"]), sample=5, seed=0)


def test_a_mask_that_does_not_follow_from_its_iuv_map_is_named(copies: dict[str, Path]) -> None:
    """Even where its checksum agrees."""
    path = copies["zarr"]
    array = zarr.open_array(path / "mask", mode="r+")
    array[40] = (array[40] + 1) % 8
    own = zlib.crc32(np.ascontiguousarray(array[32:64]).data)
    edit_marker(path, 1, lambda marker: marker["crc32"].update(mask=own))
    with pytest.raises(UserError, match=r"damaged:\n  row 40: mask does not follow from image and iuv\n"):
        verify_store(open_store(path), sample=77, seed=0)


def test_status_lists_whole_half_and_unreadable_stores(copies: dict[str, Path]) -> None:
    (copies["hdf5"] / "shards" / "00002.json").unlink()
    broken = copies["zarr"].parent / "broken.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text("{")
    table = stores_table(copies["zarr"].parent)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["store"] == ["broken.zarr", "synthetic-64x32.hdf5", "synthetic-64x32.zarr"]
    assert columns["shards"] == ["", "2/3", "3/3"]
    assert "is not a store of DenseReID's" in str(columns["dataset"][0])
