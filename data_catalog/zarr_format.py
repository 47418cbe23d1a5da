"""The zarr form of a store; the only module that imports zarr and tensorstore.

A store is one zarr v3 group: an array per row of the schema, sharded, Zstandard without shuffle (bit
shuffling makes these bytes larger). zarr-python creates and writes; tensorstore reads, because scattered
reads through zarr-python are 30 times slower (bench/RESULTS.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import zarr
from zarr.codecs import ZstdCodec

from data_catalog.files import flush
from data_catalog.schema import ARRAYS, ArraySpec, Geometry

SUFFIX = ".zarr"
MARKER = "zarr.json"
"""The file whose presence makes a folder a store of this format."""


def create(path: Path, geometry: Geometry, attributes: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> None:
    """Make the group and all its arrays; write ``rows``, the arrays known before any shard."""
    group = zarr.create_group(path, attributes=dict(attributes))
    for spec in ARRAYS:
        array = group.create_array(
            spec.name,
            shape=spec.shape(geometry),
            dtype=str if spec.dtype == "str" else spec.dtype,
            compressors=[ZstdCodec(level=spec.level)],
            fill_value="" if spec.dtype == "str" else spec.fill,
            dimension_names=spec.dims,
            attributes=spec.attributes(),
            **_chunking(spec, geometry),
        )
        if spec.written != "shard":
            array[...] = rows[spec.name]
    group.create_group("shards")
    with warnings.catch_warnings():
        # xarray looks for consolidated metadata first and warns where there is none; ours never changes again.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(path)


def _chunking(spec: ArraySpec, geometry: Geometry) -> dict[str, tuple[int, ...]]:
    shape = spec.shape(geometry)
    if spec.written != "shard":
        return {"chunks": shape}
    shard = (geometry.shard_rows, *shape[1:])
    if spec.chunk_rows is None:
        return {"chunks": shard}
    return {"chunks": (spec.chunk_rows, *shape[1:]), "shards": shard}


def read_attributes(path: Path) -> dict[str, Any]:
    """The group's attributes."""
    return dict(zarr.open_group(path, mode="r").attrs)


def write_shard(path: Path, shard: int, rows: Mapping[str, np.ndarray]) -> None:
    """Write one shard of every array, each in one whole assignment (no read-modify-write), and flush it."""
    group = zarr.open_group(path, mode="r+")
    for name, values in rows.items():
        array = group[name]
        written = path / name / array.metadata.encode_chunk_key((shard, *[0] * (array.ndim - 1)))
        written.unlink(missing_ok=True)  # zarr would read an old shard before replacing it, and may not be able to
        first = shard * (array.shards or array.chunks)[0]
        array[first : first + len(values)] = values
        if written.exists():  # zarr leaves out what holds nothing but fill values
            flush(written)
            flush(written.parent)


def remove_leftovers(path: Path) -> None:
    """Delete what a killed writer left behind; a shard itself is renamed into place and never torn."""
    for leftover in path.glob("*/c/**/*.partial"):
        leftover.unlink()


class Reader:
    """Reads rows of a store's arrays; opens them on first use, in each process for itself."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        self._path = path
        self._geometry = geometry
        self._arrays: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_geometry": self._geometry, "_arrays": {}}

    def array(self, name: str) -> zarr.Array:
        """The array as zarr-python opens it."""
        return zarr.open_array(self._path / name, mode="r")

    def read(self, spec: ArraySpec, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of one array, in the order given."""
        if spec.dtype == "str":  # tensorstore does not know zarr's string type
            strings = self.array(spec.name)[...]
            return np.asarray(strings, dtype=object)[rows]
        if spec.name not in self._arrays:
            self._arrays[spec.name] = _open_tensorstore(self._path / spec.name)
        return np.asarray(self._arrays[spec.name][rows].read().result())


def _open_tensorstore(path: Path) -> Any:
    specification = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path.absolute())}}
    return tensorstore.open(specification, read=True, open=True, context=_context()).result()


@cache
def _context() -> Any:
    # A cache lets the samples of one mask chunk, read one after another, be decompressed once.
    return tensorstore.Context({"cache_pool": {"total_bytes_limit": 64 << 20}})
