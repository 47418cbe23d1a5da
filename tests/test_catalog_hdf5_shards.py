"""Chunks of HDF5 shards read without HDF5: the same as it reads them, and damage noticed as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from helpers import GEOMETRY, write_random_store
from numcodecs.fletcher32 import Fletcher32

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import arrays_written
from densereid.data_catalog.store.shards.hdf5 import Piece, ShardFile, grouped, side_by_side
from densereid.data_catalog.store.store import open_store

SHARD = "shard-00001.h5"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An HDF5 store of 75 rows in three shards."""
    write_random_store(tmp_path / "store.hdf5", "hdf5")
    return tmp_path / "store.hdf5"


def store_again(path: Path, name: str, **how: Any) -> None:
    """Replace an array of the shard by an equal one that is stored in another way."""
    with h5py.File(path, "r+") as file:
        values = file[name][...]
        del file[name]
        file.create_dataset(name, data=values, **how)


@pytest.mark.parametrize("name", [spec.name for spec in arrays_written("shard")])
def test_rows_are_those_that_hdf5_reads(store: Path, name: str) -> None:
    """Chunks of many lengths, even and odd: the checksum takes bytes in pairs."""
    opened, generator = open_store(store), np.random.default_rng(0)
    expected = opened.array(name)[...]
    drawn: list[slice | np.ndarray] = [generator.integers(0, 75, size) for size in (0, 1, 20, 200)]
    for rows in (*drawn, slice(20, 70), slice(None)):
        np.testing.assert_array_equal(opened.read(name, rows), expected[rows])
        assert opened.read(name, rows).dtype == expected.dtype


PICTURE = (GEOMETRY.height, GEOMETRY.width, 3)
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "gzip": {"chunks": (1, *PICTURE), "compression": "gzip"},
    "not whole rows": {"chunks": (3, 7, *PICTURE[1:]), "fletcher32": True, **hdf5plugin.Zstd(clevel=3)},
    "as in version 1": {"chunks": (1, *PICTURE), **hdf5plugin.Zstd(clevel=3)},
    "of several rows": {"chunks": (5, *PICTURE), "fletcher32": True, **hdf5plugin.Zstd(clevel=3)},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_shard_that_was_stored_in_another_way_reads_the_same(store: Path, way: str) -> None:
    expected = open_store(store).read("image")
    store_again(store / SHARD, "image", **WAYS[way])
    with h5py.File(store / SHARD) as file:
        assert file["image"].chunks == WAYS[way].get("chunks")
    rows = np.array([70, 40, 33, 40, 0])
    np.testing.assert_array_equal(open_store(store).read("image", rows), expected[rows])


def flip(file: h5py.File, path: Path) -> None:
    place = file["image"].id.get_chunk_info(3).byte_offset + 9
    file.close()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(file: h5py.File, path: Path) -> None:
    last = max(file["image"].id.get_chunk_info(index).byte_offset for index in range(32))
    file.close()
    path.write_bytes(path.read_bytes()[: last + 1])


def lose(file: h5py.File, path: Path) -> None:
    """The chunk of a row was never written."""
    values, shape = file["image"][...], file["image"].shape
    file.close()
    with h5py.File(path, "r+") as again:
        del again["image"]
        made = again.create_dataset("image", shape, np.uint8, chunks=(1, *shape[1:]), **hdf5plugin.Zstd(clevel=3))
        for row in (0, 1, 2, *range(4, len(values))):
            made[row] = values[row]


def bomb(file: h5py.File, path: Path) -> None:
    """A chunk that says it holds 64 GB, with a checksum that is right."""
    dataset = file["image"]
    shape = dataset.shape
    frame = bytearray(dataset.id.read_direct_chunk((3, 0, 0, 0))[1][:-4])
    file.close()
    with h5py.File(path, "r+") as again:
        frame = frame[:4] + bytes([0b11100000]) + (64 << 30).to_bytes(8, "little") + frame[7:]
        again["image"].id.write_direct_chunk((3, *[0] * (len(shape) - 1)), Fletcher32().encode(bytes(frame)))


def shorten(file: h5py.File, path: Path) -> None:
    file.close()
    with h5py.File(path, "r+") as again:
        values = again["image"][:5]
        del again["image"]
        again["image"] = values


DAMAGES = [
    (flip, "does not have its checksum"), (cut, r"shard-00001\.h5|truncated"), (lose, "is missing"),
    (bomb, "a compressed chunk does not hold"), (shorten, "image in .* is uint8 .5, .* expected"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_damage_is_an_error_in_words(store: Path, damage: Callable[[h5py.File, Path], None], words: str) -> None:
    path = store / SHARD
    damage(h5py.File(path), path)
    with pytest.raises(UserError, match=words):
        open_store(store).read("image", np.array([0, 35, 70]))


def test_a_file_is_closed_with_its_reader(store: Path) -> None:
    rows = {spec.name: (32, *spec.shape(GEOMETRY)[1:]) for spec in arrays_written("shard")}
    file = ShardFile(store / SHARD, rows)
    closed = file._closed
    del file
    assert not closed.alive


def test_groups_are_in_order_and_whole() -> None:
    keys = np.array([3, 1, 3, 2, 1])
    assert [(key, places.tolist()) for key, places in grouped(keys)] == [(1, [1, 4]), (2, [3]), (3, [0, 2])]
    assert not list(grouped(keys[:0]))


def test_what_a_piece_raises_is_raised() -> None:
    done: list[int] = []
    pieces: list[Piece] = [partial(done.append, number) for number in range(9)]
    side_by_side(pieces)
    assert sorted(done) == list(range(9))
    with pytest.raises(ValueError, match="cannot reshape"):
        side_by_side([*pieces, lambda: np.zeros(3).reshape(2)])
