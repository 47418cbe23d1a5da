"""Zarr and HDF5 behind one seam: each format is used by nothing but the protocol's members, and gives the same."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import GEOMETRY, random_rows

from densereid.data_catalog.store.schema import ARRAYS, COORDINATES, arrays_written
from densereid.data_catalog.store.store import FORMATS
from densereid.data_catalog.store.store_format import Reader, StoreFormat

ATTRIBUTES = {"dataset": "random", "geometry": GEOMETRY.to_dict(), "text": "früh", "nested": {"a": [1, 2.5, None]}}


@pytest.fixture(params=list(FORMATS))
def form(request: pytest.FixtureRequest) -> StoreFormat:
    return FORMATS[request.param]


@pytest.fixture
def created(form: StoreFormat, tmp_path: Path) -> Path:
    """A store in which no shard is written."""
    path = tmp_path / f"store{form.SUFFIX}"
    constants = {name: np.array(values, object) for name, values in COORDINATES.items()}
    form.create(path, GEOMETRY, ATTRIBUTES, {**random_rows(GEOMETRY, "create"), **constants})
    return path


def shard_of(shard: int) -> dict[str, np.ndarray]:
    return {name: values[GEOMETRY.shard_slice(shard)] for name, values in random_rows(GEOMETRY, "shard").items()}


def parameters(function: object) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]  # type: ignore[arg-type]


def test_a_format_has_every_member_of_the_protocol(form: StoreFormat) -> None:
    """As mypy checks it, but for what is skipped there because h5py and zarr have no types."""
    members = {name: member for name, member in vars(StoreFormat).items() if inspect.isfunction(member)}
    members = {name: member for name, member in members.items() if not name.startswith("_")}
    assert len(members) == 6
    for name, member in members.items():
        assert parameters(getattr(form, name)) == parameters(member), name
    assert set(StoreFormat.__annotations__) == {"SUFFIX", "MARKER", "SUPPORTS_URL"}
    for name in StoreFormat.__annotations__:
        assert type(getattr(form, name)).__name__ == StoreFormat.__annotations__[name]


def test_what_a_store_is_created_with_comes_back(form: StoreFormat, created: Path) -> None:
    assert (created / form.MARKER).is_file()
    assert form.read_attributes(created) == ATTRIBUTES
    reader = form.open_reader(created, GEOMETRY)
    for name, values in random_rows(GEOMETRY, "create").items():
        spec = next(spec for spec in ARRAYS if spec.name == name)
        np.testing.assert_array_equal(reader.read(spec, slice(None)), values)
        np.testing.assert_array_equal(reader.read(spec, np.array([40, 3])), values[[40, 3]])


def test_a_shard_is_written_and_read_without_the_others(form: StoreFormat, created: Path) -> None:
    form.write_shard_arrays(created, 1, shard_of(1))
    reader: Reader = pickle.loads(pickle.dumps(form.open_reader(created, GEOMETRY)))
    order = np.array([40, 33, 63, 40])
    for spec in arrays_written("shard"):
        values = shard_of(1)[spec.name]
        np.testing.assert_array_equal(reader.read(spec, slice(32, 64)), values, err_msg=spec.name)
        np.testing.assert_array_equal(reader.read(spec, order), values[order - 32], err_msg=spec.name)
        assert tuple(reader.array(spec.name).shape) == spec.shape(GEOMETRY)
    form.write_shard_arrays(created, 2, shard_of(2))  # the last one is shorter
    mask = next(spec for spec in ARRAYS if spec.name == "mask")
    np.testing.assert_array_equal(form.open_reader(created, GEOMETRY).read(mask, slice(64, 75)), shard_of(2)["mask"])


def test_what_a_killed_writer_leaves_is_removed_and_nothing_else(form: StoreFormat, created: Path) -> None:
    form.write_shard_arrays(created, 0, shard_of(0))
    before = sorted(created.rglob("*"))
    shard = next(file for file in before if file.is_file() and file.suffix != ".json" and file.name != form.MARKER)
    (shard.parent / f".{shard.name}.123.partial").write_bytes(b"half")
    form.remove_partial_files(created)
    assert sorted(created.rglob("*")) == before


@pytest.mark.parametrize("damage", [b"", b"not a store at all"])
def test_a_damaged_store_raises_what_the_protocol_says(form: StoreFormat, created: Path, damage: bytes) -> None:
    (created / form.MARKER).write_bytes(damage)
    with pytest.raises((OSError, ValueError, KeyError)):
        form.read_attributes(created)
