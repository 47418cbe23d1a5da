"""Stores: made once, filled shard by shard, opened the same way whatever their format.

A shard counts only when its marker ``shards/NNNNN.json`` exists; the marker is written last. An absent
shard would read as fill values, so the markers say whether a store is complete, not the arrays.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import (
    link_file,
    make_folder,
    remove_partial,
    replace_folder,
    write_bytes,
    write_json,
)
from densereid.data_catalog.files.paths import AnyPath, UrlPath, parse_path
from densereid.data_catalog.files.refusals import read_whole, unreadable
from densereid.data_catalog.files.sealed_json import sealed
from densereid.data_catalog.store import hdf5_format, zarr_format
from densereid.data_catalog.store.manifest import check_metadata, write_manifest
from densereid.data_catalog.store.recognition import (
    check_description,
    check_free,
    check_no_pipes,
    geometry_of,
    not_opened,
    not_read,
)
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

INPUTS = "inputs.json"
"""Where a store's images lie and when they were last changed (preprocess/writing/inputs.py)."""

FORMATS: dict[str, StoreFormat] = {"zarr": zarr_format, "hdf5": hdf5_format}


def create_store(
    path: AnyPath, *, format: str, geometry: Geometry, attributes: Mapping[str, Any], rows: Mapping[str, np.ndarray]
) -> None:
    """Make an empty store at ``path``, which must not exist; it appears whole or not at all.

    Raises UserError for a format that cannot live at a URL, and where something else is in its place.
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
    check_free(path, FORMATS[format].MARKER)

    def build(folder: Path) -> None:
        FORMATS[format].create(folder, geometry, described, {**rows, **constants})
        write_manifest(folder)

    make_folder(path, build, last=FORMATS[format].MARKER)


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
    geometry = geometry_of(path, attributes)
    covered = geometry.shard_slice(shard)
    check_rows(rows, geometry, written="shard", num_rows=covered.stop - covered.start)
    FORMATS[format].write_shard_arrays(path, shard, rows)
    checksums = {name: checksum(values) for name, values in sorted(rows.items())}
    marker = {"shard": shard, "rows": [covered.start, covered.stop], "crc32": checksums, **(notes or {})}
    write_json(_marker_path(path, shard), sealed(marker))


def checksum(values: np.ndarray) -> int:
    """CRC-32 of an array's bytes, as a shard's marker has it."""
    return zlib.crc32(np.ascontiguousarray(values).data)


def damaged_shard(store: Store, shard: int, names: Sequence[str]) -> UserError:
    """The error for arrays of a shard that differ from their checksums and are about to be copied, with new ones."""
    return UserError(
        f"shard {shard} of {store.path} is damaged: {', '.join(names)}",
        f"delete its marker {_marker_path(store.path, shard)}, and preprocess again: its images are estimated again",
    )


def adopt_shard(source: Store, path: AnyPath, shard: int) -> None:
    """Give the store at ``path`` a finished shard of ``source``, of the same format and rows, as it is.

    Local files are linked where the file system can, and take no room: a shard's files are replaced, never changed.
    """
    marker = _marker_path(source.path, shard)
    for name in FORMATS[source.format].shard_files(source.path, shard):
        link_file(source.path / name, path / name)
    write_bytes(_marker_path(path, shard), read_whole(marker) or b"")


def replace_store(new: AnyPath, path: AnyPath) -> None:
    """Put the store at ``new`` in the place of the one at ``path``, if there is one."""
    format, _ = _recognise(new)
    replace_folder(new, path, last=FORMATS[format].MARKER)


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
        self.geometry = geometry_of(path, self.attributes)
        self._reader = FORMATS[self.format].open_reader(path, self.geometry)
        self._complete_until = 0.0
        self._identity = self._find_identity()

    @property
    def version(self) -> int:
        """The store's format version."""
        return int(self.attributes["format_version"])

    def _find_identity(self) -> tuple[int, int] | None:
        """Which folder the store is in, and not only where: another one may take its place. None at a URL."""
        file = self.path / FORMATS[self.format].MARKER
        if isinstance(file, UrlPath):
            return None
        try:
            status = file.stat()
        except OSError:  # its shards are missing, too
            return self._identity
        return status.st_ino, status.st_mtime_ns

    def read(self, name: str, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Rows of array ``name`` in the order given: a slice or one-dimensional integers, shape (rows, ...).

        Raises UserError where there is no such array, where it is damaged, and where it cannot be read for the moment.
        """
        if name not in ARRAY_BY_NAME:
            raise UserError(
                f"{self.path} has no array '{name}'; a store holds: {', '.join(ARRAY_BY_NAME)}",
            )
        with self.library_errors_as_user_errors(name):
            return self._reader.read(ARRAY_BY_NAME[name], rows)

    @contextmanager
    def library_errors_as_user_errors(self, name: str) -> Iterator[None]:
        """Turn what zarr, tensorstore or HDF5 raises for array ``name`` into a UserError, around :meth:`array`, too."""
        try:
            yield
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise not_read(self.path, name, error) from error

    def array(self, name: str) -> Any:
        """The array itself for lazy tools such as dask: a zarr.Array, or the index's virtual h5py.Dataset."""
        return self._reader.array(name)

    def markers(self) -> dict[int, dict[str, Any]]:
        """Marker of every finished shard, by shard number. Raises UserError that names one that is damaged."""
        return {int(file.stem): read_marker(file, self.geometry, self.version) for file in self._marker_files()}

    def marker(self, shard: int) -> dict[str, Any]:
        """Marker of one finished shard."""
        return read_marker(_marker_path(self.path, shard), self.geometry, self.version)

    def damaged_arrays(self, shard: int, names: Iterable[str]) -> list[str]:
        """Those arrays of a finished shard that are torn or differ from their CRC-32.

        Raises UserError where the system does not let us read one for the moment.
        """
        checksums, rows = self.marker(shard)["crc32"], self.geometry.shard_slice(shard)
        return [name for name in names if self._checksum(name, rows) != checksums.get(name)]

    def _checksum(self, name: str, rows: slice) -> int | None:
        try:
            return checksum(self._reader.read(ARRAY_BY_NAME[name], rows))
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # what the formats raise for a torn file
            if refused := unreadable(f"{name} of {self.path}", error):
                raise refused from error
            return None

    def missing_shards(self) -> list[int]:
        """Numbers of the shards that are not finished.

        Training asks at every batch, and at a URL each question is a request: see :data:`MARKER_CACHE_SECONDS`.
        Raises UserError where another store has taken this one's place since it was opened: its rows are other images.
        """
        if self._find_identity() != self._identity:
            raise UserError(
                f"{self.path} was made again or brought up to date while it was read",
                "run the same command again: what is finished is kept",
            )
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
    check_no_pipes(store.path)
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


def _marker_path(path: AnyPath, shard: int) -> AnyPath:
    return path / "shards" / f"{shard:05d}.json"


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
    except UserError:
        raise
    except Exception as error:  # zarr and HDF5 raise many types for a file that is damaged or another program's
        raise not_opened(path, path / FORMATS[format].MARKER, error) from error
    check_description(path, attributes)
    check_metadata(path, attributes["format_version"])
    return format, attributes
