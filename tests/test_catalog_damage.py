"""Damage is never read silently: a flipped bit or a lost file of any kind is an error, or verify names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import dask.array as da
import h5py
import hdf5plugin  # noqa: F401  users of index.h5 import it to read Zstandard
import numpy as np
import pytest
from helpers import write_random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.sealed_json import SEAL, is_sealed, sealed
from densereid.data_catalog.store.manifest import MANIFEST
from densereid.data_catalog.store.schema import ARRAYS, Geometry
from densereid.data_catalog.store.store import open_store
from densereid.preprocess.writing.verify import damaged_records, damaged_shards

FLIPS = 60
SMALL = Geometry(40, 4, 2, dsap_size=8, shard_rows=32)


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("whole") / f"store.{request.param}"
    write_random_store(path, request.param, SMALL)
    return path


def everything(path: Path) -> dict[str, np.ndarray]:
    """All that a reader can get of a store; raises what reading raises."""
    store = open_store(path)
    return {spec.name: store.read(spec.name) for spec in ARRAYS}


def is_noticed(path: Path, sound: dict[str, np.ndarray]) -> bool:
    """Whether reading fails, or gives what it gave; False for other values without a word."""
    try:
        read = everything(path)
    except (UserError, OSError, ValueError, KeyError, RuntimeError):
        return True
    return all(np.array_equal(read[name], sound[name]) for name in sound)


def is_named(path: Path) -> bool:
    """Whether verify's checks, or opening the store, find something."""
    try:
        store = open_store(path)
        return bool(damaged_records(store)) or any(names for _, names in damaged_shards(store))
    except UserError:
        return True


def test_a_flipped_bit_anywhere_is_noticed_and_named(whole: Path, tmp_path: Path) -> None:
    sound, generator = everything(whole), np.random.default_rng(5)
    files = sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())
    for flip in range(FLIPS):
        path = Path(shutil.copytree(whole, tmp_path / str(flip)))
        file = path / files[flip % len(files)]
        content = bytearray(file.read_bytes())
        content[generator.integers(len(content))] ^= 1 << generator.integers(8)
        file.write_bytes(content)
        assert is_noticed(path, sound), file
        assert is_named(path) or file.suffix == ".h5", file  # HDF5 has a few bytes that mean nothing
        shutil.rmtree(path)


def test_a_lost_file_is_noticed_and_named(whole: Path, tmp_path: Path) -> None:
    sound = everything(whole)
    for number, file in enumerate(sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())):
        path = Path(shutil.copytree(whole, tmp_path / str(number)))
        (path / file).unlink()
        assert is_noticed(path, sound), file
        assert is_named(path), file
        shutil.rmtree(path)


def flip_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def test_dask_notices_a_flipped_bit_of_a_zarr_store(tmp_path: Path) -> None:
    write_random_store(tmp_path / "store.zarr", "zarr", SMALL)
    flip_middle(tmp_path / "store.zarr" / "image" / "c" / "0" / "0" / "0" / "0")
    with pytest.raises(ValueError, match="checksum"):
        da.from_zarr(tmp_path / "store.zarr", component="image").compute()


def test_h5py_notices_a_flipped_bit_of_a_shard(tmp_path: Path) -> None:
    values = write_random_store(tmp_path / "store.hdf5", "hdf5", SMALL)["image"]
    file = tmp_path / "store.hdf5" / "shard-00000.h5"
    with h5py.File(file) as shard:
        offset = shard["image"].id.get_chunk_info(3).byte_offset
    content = bytearray(file.read_bytes())
    content[offset + 5] ^= 1
    file.write_bytes(content)
    with h5py.File(tmp_path / "store.hdf5" / "index.h5") as index:
        np.testing.assert_array_equal(index["image"][2], values[2])
        with pytest.raises(OSError, match="Can't"):
            index["image"][3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(crc32={}), "it lacks the checksums"),
        (lambda content: content.update(no_person=7), "it is not as it was written"),
        (lambda content: content.pop(SEAL), "it is not as it was written"),
    ],
)
def test_a_marker_that_was_edited_is_damaged(
    tmp_path: Path, change: Callable[[dict[str, object]], object], words: str
) -> None:
    write_random_store(tmp_path / "store", "zarr", SMALL)
    marker = tmp_path / "store" / "shards" / "00001.json"
    content = json.loads(marker.read_text())
    change(content)
    marker.write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        open_store(tmp_path / "store").markers()


def test_a_store_without_its_manifest_is_not_opened(tmp_path: Path) -> None:
    write_random_store(tmp_path / "store", "zarr", SMALL)
    (tmp_path / "store" / MANIFEST).unlink()
    with pytest.raises(UserError, match=r"store is damaged: manifest.json is missing"):
        open_store(tmp_path / "store")


def test_a_seal_is_of_the_content_and_of_nothing_else() -> None:
    content = {"b": [1, 2], "a": "ü", "c": {"x": 1.5}}
    assert is_sealed(json.loads(json.dumps(sealed(content), indent=3)))
    assert sealed(sealed(content)) == sealed(content)
    assert not is_sealed({**sealed(content), "a": "u"})
    assert not is_sealed(content)
    assert not is_sealed([content])
