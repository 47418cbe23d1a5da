"""Stores: made once, filled shard by shard, opened the same way whatever their format.

A shard counts only when its marker ``shards/NNNNN.json`` exists; the marker is written last. An absent
shard would read as fill values, so the markers say whether a store is complete, not the arrays.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import make_folder, remove_partial, write_bytes, write_json
from densereid.data_catalog.files.paths import AnyPath, UrlPath, parse_path
from densereid.data_catalog.store import hdf5_format, zarr_format
from densereid.data_catalog.store.schema import (
    ARRAY_BY_NAME,
    COORDINATES,
    FORMAT_NAME,
    FORMAT_VERSION,
    SAMPLE_COORDINATES,
    Geometry,
    check_rows,
)
from densereid.data_catalog.store.shard_markers import read_marker
from densereid.data_catalog.store.store_format import StoreFormat

MARKER_CACHE_SECONDS = 30.0
"""How long a store at a URL that was complete is taken as complete before its markers are listed again."""

PROVENANCE = "provenance.json"
"""Who made a store, when and with what (preprocess/writing/provenance.py); it goes with a store that is converted."""

FORMATS: dict[str, StoreFormat] = {"zarr": zarr_format, "hdf5": hdf5_format}


def create_store(
    path: AnyPath, *, format: str, geometry: Geometry, attributes: Mapping[str, Any], rows: Mapping[str, np.ndarray]
) -> None:
    """Make an empty store at ``path``, which must not exist; it appears whole or not at all.

    Raises UserError for a format that cannot live at a URL.
    ``rows`` holds the arrays known before any shard is computed (person_id, camera_id, split, path), full length.
    """
    check_rows(rows, geometry, written="create", num_rows=geometry.num_samples)
    constants = {name: np.array(values, object) for name, values in COORDINATES.items()}
    described = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "geometry": geometry.to_dict(),
        "coordinates": " ".join(SAMPLE_COORDINATES),
        **attributes,
    }
    _check_url(path, format)
    create = partial(FORMATS[format].create, geometry=geometry, attributes=described, rows={**rows, **constants})
    make_folder(path, create, last=FORMATS[format].MARKER)


def _check_url(path: AnyPath, format: str) -> None:
    if isinstance(path, UrlPath) and not FORMATS[format].SUPPORTS_URL:
        raise UserError(
            f"an {format} store cannot live at {path}: it needs a local folder",
            "use STORE=zarr there, or a local STORE_ROOT; `densereid convert` makes one from the other",
        )


def write_shard(
    path: AnyPath, *, shard: int, rows: Mapping[str, np.ndarray], notes: Mapping[str, Any] | None = None
) -> None:
    """Write every array of one shard, then the shard's marker with ``notes`` and each array's CRC-32.

    One process writes a shard, whole. Afterwards the shard survives anything; before, it does not count.
    """
    format, attributes = _recognise(path)
    geometry = Geometry(**attributes["geometry"])
    covered = geometry.shard_slice(shard)
    check_rows(rows, geometry, written="shard", num_rows=covered.stop - covered.start)
    FORMATS[format].write_shard_arrays(path, shard, rows)
    checksums = {name: zlib.crc32(np.ascontiguousarray(values).data) for name, values in sorted(rows.items())}
    marker = {"shard": shard, "rows": [covered.start, covered.stop], "crc32": checksums, **(notes or {})}
    write_json(_marker_path(path, shard), marker)


def remove_leftovers(path: AnyPath) -> None:
    """Delete temporary files that a killed writer left in a store; call it when no writer is at work."""
    if isinstance(path, UrlPath):  # objects are written whole: there are no temporary files
        return
    format, _ = _recognise(path)
    FORMATS[format].remove_partial_files(path)
    remove_partial(path / "shards")


class Store:
    """An open store; reads rows of any array and pickles to other processes (open one with :func:`open_store`)."""

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self.format, self.attributes = _recognise(path)
        self.geometry = _geometry(path, self.attributes)
        self._reader = FORMATS[self.format].open_reader(path, self.geometry)
        self._complete_until = 0.0

    def read(self, name: str, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Rows of array ``name`` in the order given: a slice or one-dimensional integers, shape (rows, ...)."""
        if name not in ARRAY_BY_NAME:
            raise UserError(
                f"{self.path} has no array '{name}'; a store holds: {', '.join(ARRAY_BY_NAME)}",
            )
        return self._reader.read(ARRAY_BY_NAME[name], rows)

    def array(self, name: str) -> Any:
        """The array itself for lazy tools such as dask: a zarr.Array, or the index's virtual h5py.Dataset."""
        return self._reader.array(name)

    def markers(self) -> dict[int, dict[str, Any]]:
        """Marker of every finished shard, by shard number. Raises UserError that names one that is damaged."""
        return {int(file.stem): read_marker(file, self.geometry) for file in self._marker_files()}

    def missing_shards(self) -> list[int]:
        """Numbers of the shards that are not finished.

        Training asks at every batch, and at a URL each question is a request: see :data:`MARKER_CACHE_SECONDS`.
        """
        if time.monotonic() < self._complete_until:
            return []
        finished = {int(file.stem) for file in self._marker_files()}
        missing = [shard for shard in range(self.geometry.num_shards) if shard not in finished]
        if isinstance(self.path, UrlPath) and not missing:
            self._complete_until = time.monotonic() + MARKER_CACHE_SECONDS
        return missing

    def _marker_files(self) -> list[AnyPath]:
        files: list[AnyPath] = list((self.path / "shards").glob("[0-9]*.json"))
        return sorted((file for file in files if file.stem.isdecimal()), key=lambda file: file.name)


def open_store(path: str | AnyPath, *, incomplete: bool = False) -> Store:
    """Open the zarr or HDF5 store in the folder or at the URL ``path``.

    Raises UserError where there is none, where it is of a newer format, where its URL cannot be reached, where a
    marker is damaged, and, unless ``incomplete`` is given, where shards are missing.
    """
    store = Store(parse_path(path))
    store.markers()
    missing = store.missing_shards()
    if missing and not incomplete:
        raise UserError(
            f"{path} is half-written: {len(missing)} of {store.geometry.num_shards} shards are missing",
            "run the same `make preprocess` again: it resumes where it stopped",
        )
    return store


def exists(path: AnyPath) -> bool:
    """Whether a store of any format is at ``path``."""
    return any((path / form.MARKER).is_file() for form in FORMATS.values())


def convert_store(source: Store, path: AnyPath, *, format: str, on_shard: Callable[[int], None] | None = None) -> None:
    """Copy a complete store into ``format`` at ``path``, shard by shard; continues an interrupted copy.

    Arrays, attributes and markers are equal afterwards. ``on_shard(shard)`` is called after each.
    """
    own = {key: value for key, value in source.attributes.items() if key not in ("format", "format_version")}
    if not exists(path):
        rows = {name: source.read(name) for name, spec in ARRAY_BY_NAME.items() if spec.written == "create"}
        create_store(path, format=format, geometry=source.geometry, attributes=own, rows=rows)
    target = open_store(path, incomplete=True)
    if target.attributes != source.attributes or target.format != format:
        raise UserError(
            f"{path} exists and is not a copy of {source.path}", "choose another target, or delete that one"
        )
    remove_leftovers(path)
    if (source.path / PROVENANCE).is_file():
        write_bytes(path / PROVENANCE, (source.path / PROVENANCE).read_text(encoding="utf-8").encode())
    markers = source.markers()
    for shard in target.missing_shards():
        covered = source.geometry.shard_slice(shard)
        rows = {name: source.read(name, covered) for name, spec in ARRAY_BY_NAME.items() if spec.written == "shard"}
        notes = {key: value for key, value in markers[shard].items() if key not in ("shard", "rows", "crc32")}
        write_shard(path, shard=shard, rows=rows, notes=notes)
        if on_shard is not None:
            on_shard(shard)


def _marker_path(path: AnyPath, shard: int) -> AnyPath:
    return path / "shards" / f"{shard:05d}.json"


def _geometry(path: AnyPath, attributes: Mapping[str, Any]) -> Geometry:
    try:
        return Geometry(**attributes["geometry"])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not say its sizes: {attributes.get('geometry')!r} is no geometry",
            "delete the store and create it again",
        ) from error


def _recognise(path: AnyPath) -> tuple[str, dict[str, Any]]:
    """The format's name and the attributes of the store at ``path``; UserError where there is no readable store."""
    format = next((name for name, form in FORMATS.items() if (path / form.MARKER).is_file()), None)
    if format is None:
        raise UserError(
            f"no store at {path}: neither {' nor '.join(form.MARKER for form in FORMATS.values())} is there",
            "make one with `make preprocess DATASET=...`, or check the path",
        )
    _check_url(path, format)
    try:
        attributes = FORMATS[format].read_attributes(path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path / FORMATS[format].MARKER} cannot be read: {error}", "delete the store and create it again"
        ) from error
    _check_version(path, attributes)
    return format, attributes


def _check_version(path: AnyPath, attributes: Mapping[str, Any]) -> None:
    if attributes.get("format") != FORMAT_NAME:
        raise UserError(
            f"{path} was not written by DenseReID: its format is {attributes.get('format')!r}, expected {FORMAT_NAME!r}"
        )
    version = attributes.get("format_version", 0)
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has store format {version}; this version of DenseReID reads up to {FORMAT_VERSION}",
            "update DenseReID, or create the store again with this version",
        )
