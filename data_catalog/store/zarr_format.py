"""The zarr form of a store.

A store is one zarr v3 group: an array per row of the schema, sharded, Zstandard without shuffle (bit
shuffling makes these bytes larger). zarr-python creates the arrays; tensorstore encodes their shards and reads,
because zarr-python needs twice as long for a shard and 30 times as long for scattered rows (bench/RESULTS.md).
At a URL all go to the same objects: zarr-python and the shards through fsspec, tensorstore's reads through its own
driver of the protocol where it has one.

tensorstore works with threads, which do not cross a fork: it ends a process that uses it after a fork of one that has
used it. Such a process (a worker of torch's DataLoader, which forks unless told otherwise) reads without it.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import FsspecStore

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import write_bytes
from densereid.data_catalog.files.paths import AnyPath, UrlPath, url_errors_as_user_errors
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.sealed_json import parsed_json
from densereid.data_catalog.store.schema import ARRAYS, ArraySpec, Geometry, arrays_written
from densereid.data_catalog.store.shards.zarr import PlainShards

log = logging.getLogger(__name__)

SUFFIX = ".zarr"
MARKER = "zarr.json"
"""The file whose presence makes a folder a store of this format."""

SUPPORTS_URL = True
"""Whether a store of this format can live at a URL."""


def create(path: Path, geometry: Geometry, attributes: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> None:
    """Make the group and all its arrays; write ``rows``, the arrays known before any shard."""
    group = zarr.create_group(path, attributes=dict(attributes))
    for spec in ARRAYS:
        array = group.create_array(
            spec.name,
            shape=spec.shape(geometry),
            dtype=str if spec.dtype == "str" else spec.dtype,
            compressors=[ZstdCodec(level=spec.level), Crc32cCodec()],
            fill_value="" if spec.dtype == "str" else spec.fill,
            dimension_names=spec.dims,
            attributes=spec.attributes(),
            config={"write_empty_chunks": True},  # what is missing is damage, and not the fill value
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


def read_attributes(path: AnyPath) -> dict[str, Any]:
    """The group's attributes."""
    if isinstance(path, Path):  # zarr waits for ever for JSON that is nested too deeply
        group = parsed_json(read_whole(path / MARKER) or b"")
        if not isinstance(group, dict) or group.get("node_type") != "group":
            raise ValueError("it is no group of zarr")
    with url_errors_as_user_errors(path):
        return dict(zarr.open_group(_for_zarr(path), mode="r").attrs)


def _for_zarr(path: AnyPath) -> Path | FsspecStore:
    return FsspecStore.from_url(path.url) if isinstance(path, UrlPath) else path


def write_shard_arrays(path: AnyPath, shard: int, rows: Mapping[str, np.ndarray]) -> None:
    """Write one shard of every array; each is whole or absent."""
    with url_errors_as_user_errors(path):
        group = zarr.open_group(_for_zarr(path), mode="r")
        for name, values in rows.items():
            file = path / name / shard_key(group[name], shard)
            encoded = encode_shard(group[name], shard, values)
            if encoded is None:  # as zarr has it: what is absent holds the fill value
                file.unlink(missing_ok=True)
            else:
                write_bytes(file, encoded)


def shard_files(path: AnyPath, shard: int) -> list[str]:
    """The shard's file of every array; none of an array all of whose rows are the fill value."""
    with url_errors_as_user_errors(path):
        group = zarr.open_group(_for_zarr(path), mode="r")
        names = [f"{spec.name}/{shard_key(group[spec.name], shard)}" for spec in arrays_written("shard")]
        return [name for name in names if (path / name).is_file()]


def shard_key(array: zarr.Array, shard: int) -> str:
    """The file of a shard, relative to its array's folder."""
    key: str = array.metadata.encode_chunk_key((shard, *[0] * (array.ndim - 1)))
    return key


def encode_shard(array: zarr.Array, shard: int, values: np.ndarray) -> bytes | None:
    """The bytes of one shard of ``array``, all of whose rows are ``values``; None where all of it is the fill value.

    tensorstore encodes into memory. Its own driver of files leaves ``__lock`` files behind when it is killed, and it
    has a driver for few URLs; so the bytes are written as those of every other file of a store are.
    Raises UserError in a process in which tensorstore cannot work.
    """
    if not _tensorstore_works():
        raise UserError(
            "a zarr store cannot be written by a process forked from one that has read or written one: tensorstore's "
            "threads do not cross a fork",
            'start it with multiprocessing.get_context("spawn") or "forkserver", or fork before the first read',
        )
    memory = {
        "driver": "zarr3",
        "kvstore": {"driver": "memory"},
        "metadata": array.metadata.to_dict(),
        "store_data_equal_to_fill_value": has_checksums(array),
    }
    encoder: Any = tensorstore.open(memory, create=True, context=tensorstore.Context()).result()
    first = shard * (array.shards or array.chunks)[0]
    encoder[first : first + len(values)].write(values, can_reference_source_data_indefinitely=True).result()
    stored = encoder.kvstore.read(shard_key(array, shard)).result()
    return stored.value if stored.state == "value" else None


def has_checksums(array: zarr.Array) -> bool:
    """Whether the array's chunks carry CRC-32C, as those of format version 2; each of its chunks is there, then.

    A missing chunk, which zarr reads as the fill value, is an error for our readers.
    """
    return any(isinstance(codec, Crc32cCodec) for codec in array.compressors)


def remove_partial_files(path: Path) -> None:
    """Delete what a killed writer left behind; a shard itself is renamed into place and never torn."""
    for leftover in path.glob("*/c/**/*.partial"):
        leftover.unlink()


def open_reader(path: AnyPath, geometry: Geometry) -> ZarrReader:
    """A reader of the store's arrays."""
    return ZarrReader(path, geometry)


class ZarrReader:
    """Reads rows of a store's arrays; opens them on first use, in each process for itself."""

    def __init__(self, path: AnyPath, geometry: Geometry) -> None:
        self._path = path
        self._geometry = geometry
        self._arrays: dict[tuple[int, str], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_geometry": self._geometry, "_arrays": {}}

    def array(self, name: str) -> zarr.Array:
        """The array as zarr-python opens it."""
        with url_errors_as_user_errors(self._path):
            return zarr.open_array(_for_zarr(self._path / name), mode="r")

    def read(self, spec: ArraySpec, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of one array, in the order given."""
        if spec.dtype == "str":  # tensorstore does not know zarr's string type
            return self._read_strings(spec)[rows]
        key = (os.getpid(), spec.name)  # after a fork those of the other process are left alone
        if key not in self._arrays:
            self._arrays[key] = self._open(spec)
        array = self._arrays[key]
        if isinstance(array, zarr.Array):
            with url_errors_as_user_errors(self._path):
                return np.asarray(array[rows] if isinstance(rows, slice) else array.oindex[rows])
        if isinstance(array, PlainShards):
            return array.read(rows)
        return np.asarray(array[rows].read().result())

    def _read_strings(self, spec: ArraySpec) -> np.ndarray:
        array = self.array(spec.name)
        strings = np.asarray(array[...], dtype=object)
        if has_checksums(array) and "" in strings:  # zarr reads what is missing as the fill value
            raise ValueError(f"a chunk of {spec.name} is missing")
        return strings

    def _open(self, spec: ArraySpec) -> Any:
        array_path = self._path / spec.name
        if not _tensorstore_works() or not _is_text(array_path):
            return self._open_without_tensorstore(spec)
        where = (
            {"driver": "file", "path": str(array_path.absolute())}
            if isinstance(array_path, Path)
            else object_driver(array_path)
        )
        if where is not None:
            return _open_tensorstore(where, is_complete=_says_checksums(array_path))
        if spec.written == "shard":  # the others are small and read whole
            log.info(
                "%s: tensorstore has no driver for it; zarr-python reads, slowly where rows are scattered", array_path
            )
        return self.array(spec.name)

    def _open_without_tensorstore(self, spec: ArraySpec) -> zarr.Array | PlainShards:
        array, folder = self.array(spec.name), self._path / spec.name
        if array.shards is None:  # small
            return array
        if isinstance(folder, Path):
            return PlainShards(folder, array, has_checksums=has_checksums(array))
        log.info("%s: a process made by a fork; zarr-python reads, slowly where rows are scattered", folder)
        return array


def _is_text(path: AnyPath) -> bool:
    """Whether a path is UTF-8, as tensorstore needs it; a folder's name can be any bytes."""
    return isinstance(path, UrlPath) or str(path).encode("utf-8", "replace") == bytes(path)


def object_driver(array_path: UrlPath) -> dict[str, Any] | None:
    """tensorstore's specification of a folder at a URL; None where it has no driver for the protocol.

    Credentials it reads from the environment itself; S3's other settings are those that s3fs reads.
    """
    if array_path.protocol in ("http", "https"):
        return {"driver": "http", "base_url": array_path.url}
    bucket, _, folder = array_path.url.partition("://")[2].partition("/")
    if array_path.protocol in ("gs", "gcs"):
        return {"driver": "gcs", "bucket": bucket, "path": folder}
    if array_path.protocol not in ("s3", "s3a"):
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    settings = {"endpoint": endpoint, "aws_region": region or ("us-east-1" if endpoint else None)}
    given: dict[str, Any] = {key: value for key, value in settings.items() if value}
    if os.environ.get("AWS_ACCESS_KEY_ID"):  # else it looks for files first, and complains of each that is not there
        given["aws_credentials"] = {"type": "environment"}
    return {"driver": "s3", "bucket": bucket, "path": folder, **given}


def _says_checksums(array_path: AnyPath) -> bool:
    """As :func:`has_checksums`, of an array that zarr-python has not opened: that takes longer than reading rows."""
    codecs = parsed_json((array_path / "zarr.json").read_text(encoding="utf-8"))["codecs"]
    sharding = [codec["configuration"]["codecs"] for codec in codecs if codec["name"] == "sharding_indexed"]
    return any(codec["name"] == "crc32c" for codec in (sharding[0] if sharding else codecs))


def _open_tensorstore(where: dict[str, Any], *, is_complete: bool) -> Any:
    """The array at ``where``; where it is complete, a missing chunk is a ValueError and not the fill value."""
    specification = {"driver": "zarr3", "kvstore": where, "fill_missing_data_reads": not is_complete}
    return tensorstore.open(specification, read=True, open=True, context=_context()).result()


def _tensorstore_works() -> bool:
    """Whether this process may use tensorstore: no process that it was forked from has."""
    return _first_user() == os.getpid()


@cache
def _first_user() -> int:
    return os.getpid()


@cache
def _context() -> Any:
    # A cache lets the samples of one mask chunk, read one after another, be decompressed once.
    return tensorstore.Context({"cache_pool": {"total_bytes_limit": 64 << 20}})
