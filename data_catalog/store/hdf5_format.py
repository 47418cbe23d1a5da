"""The HDF5 form of a store.

A store is a folder: one file per shard, written under another name and renamed (a killed h5py writer loses its whole
file), and ``index.h5`` with a virtual dataset over them for h5py and dask users. Our reader opens the
shard files itself, per process, because an HDF5 handle must not cross a fork. Users of ``index.h5``
import hdf5plugin first: it brings Zstandard.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.atomic import remove_partial, write_bytes
from densereid.data_catalog.files.hdf5_storage import REPLACED, own_dataset, sources
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.files.refusals import unreadable
from densereid.data_catalog.files.sealed_json import parsed_json
from densereid.data_catalog.store.manifest import check_metadata
from densereid.data_catalog.store.schema import ARRAY_BY_NAME, ARRAYS, ArraySpec, Geometry, arrays_written
from densereid.data_catalog.store.shards.hdf5 import Piece, ShardFile, grouped, side_by_side

SUFFIX = ".hdf5"
MARKER = "index.h5"
"""The file whose presence makes a folder a store of this format."""

SUPPORTS_URL = False
"""Whether a store of this format can live at a URL: HDF5 seeks and rewrites, objects are put whole."""


def create(path: Path, geometry: Geometry, attributes: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> None:
    """Make the folder and its index: attributes, the arrays known before any shard, virtual datasets for the rest."""
    path.mkdir(parents=True)
    (path / "shards").mkdir()
    image = io.BytesIO()  # as of write_shard_arrays, and for the same reason
    with h5py.File(image, "w", libver="latest") as index:
        for key, value in attributes.items():
            index.attrs[key] = json.dumps(value)
        for spec in ARRAYS:
            if spec.written == "shard":
                dataset = index.create_virtual_dataset(spec.name, _virtual(spec, geometry), fillvalue=spec.fill)
            else:
                dataset = _write_column(index, spec, rows[spec.name])
            _describe(dataset, spec)
    (path / MARKER).write_bytes(image.getvalue())


def _write_column(index: h5py.File, spec: ArraySpec, values: np.ndarray) -> h5py.Dataset:
    """An array that is known before any shard. Texts are of one length: HDF5's heap of others has no checksum."""
    if spec.dtype != "str":
        return index.create_dataset(spec.name, data=values, dtype=spec.dtype, chunks=values.shape, fletcher32=True)
    encoded = [str(text).encode() for text in values]
    dtype = h5py.string_dtype("utf-8", max(1, *map(len, encoded)))
    return index.create_dataset(spec.name, data=np.array(encoded, dtype), chunks=values.shape, fletcher32=True)


def _virtual(spec: ArraySpec, geometry: Geometry) -> h5py.VirtualLayout:
    shape = spec.shape(geometry)
    layout = h5py.VirtualLayout(shape, dtype=spec.dtype)
    layout.dcpl.set_obj_track_times(False)  # the same bytes whenever it is made
    for shard in range(geometry.num_shards):
        rows = geometry.shard_slice(shard)
        layout[rows] = h5py.VirtualSource(_shard_name(shard), spec.name, shape=(rows.stop - rows.start, *shape[1:]))
    return layout


def _describe(dataset: h5py.Dataset, spec: ArraySpec) -> None:
    for axis, dim in enumerate(spec.dims):
        dataset.dims[axis].label = dim
    for key, value in spec.attributes().items():
        dataset.attrs[key] = value


def read_attributes(path: AnyPath) -> dict[str, Any]:
    """The index's attributes. Raises UserError where it is not as it was written: HDF5 might search it for ever."""
    check_metadata(path)
    with h5py.File(_local(path) / MARKER, "r") as index:
        return {key: parsed_json(value) for key, value in index.attrs.items()}


def _index_array(index: h5py.File, spec: ArraySpec) -> h5py.Dataset:
    """An array of the index: of a shard's array, which the shard files next to it hold, one after the other."""
    if spec.written != "shard":
        return own_dataset(index, spec.name)
    link = index.get(spec.name, getlink=True)
    dataset = index[spec.name] if isinstance(link, h5py.HardLink) else None
    if dataset is None or not getattr(dataset, "is_virtual", False):
        raise UserError(f"{index.filename}: {spec.name} is not made of the store's shards", REPLACED)
    found = sources(dataset)
    if found != [(_shard_name(shard), spec.name) for shard in range(len(found))]:
        other = next(pair for shard, pair in enumerate(found) if pair != (_shard_name(shard), spec.name))
        raise UserError(f"{index.filename}: {spec.name} is made of {' of '.join(other[::-1])}", REPLACED)
    return dataset


def write_shard_arrays(path: AnyPath, shard: int, rows: Mapping[str, np.ndarray]) -> None:
    """Write one shard's file, whole or not at all.

    HDF5 makes the file in memory: on a disk that becomes full it can neither write nor close a file, and the process
    dies of it. Writing the bytes ourselves fails as any other write does, and leaves nothing behind.
    """
    write_bytes(_local(path) / _shard_name(shard), _shard_file(rows))


def _shard_file(rows: Mapping[str, np.ndarray]) -> bytes:
    with h5py.File("shard.h5", "w", libver="latest", driver="core", backing_store=False) as file:
        for spec in arrays_written("shard"):
            values = rows[spec.name]
            dataset = file.create_dataset(
                spec.name,
                data=values,
                chunks=(min(spec.chunk_rows or len(values), len(values)), *values.shape[1:]),
                fillvalue=spec.fill,
                fletcher32=True,
                **hdf5plugin.Zstd(clevel=spec.level),
            )
            _describe(dataset, spec)
            # Without it chunks are written when Python collects the dataset, and equal stores differ in bytes.
            file.flush()
        return bytes(file.id.get_file_image())


def shard_files(path: AnyPath, shard: int) -> list[str]:  # noqa: ARG001 - the same in every folder
    """The shard's file."""
    return [_shard_name(shard)]


def remove_partial_files(path: Path) -> None:
    """Delete what a killed writer left behind."""
    remove_partial(path)


def open_reader(path: AnyPath, geometry: Geometry) -> Hdf5Reader:
    """A reader of the store's arrays. Raises UserError where one of them lies in other files than the store's own."""
    try:
        with h5py.File(_local(path) / MARKER, "r") as index:
            for spec in ARRAYS:
                _index_array(index, spec)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        problem = f"{path / MARKER} is damaged: {first_line(error)}"
        raise unreadable(path / MARKER, error) or UserError(problem, "restore it from a copy") from error
    return Hdf5Reader(_local(path), geometry)


class Hdf5Reader:
    """Reads rows of a store's arrays; opens shard files on first use."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        self._path = path
        self._geometry = geometry
        self._shards: dict[int, ShardFile] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_geometry": self._geometry, "_shards": {}}

    def array(self, name: str) -> h5py.Dataset:
        """The index's dataset, which stays open as long as it is referred to."""
        return _index_array(h5py.File(self._path / MARKER, "r"), ARRAY_BY_NAME[name])

    def read(self, spec: ArraySpec, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of one array, in the order given."""
        if spec.written != "shard":
            with h5py.File(self._path / MARKER, "r") as index:
                dataset = own_dataset(index, spec.name)
                values = dataset.asstr()[...] if spec.dtype == "str" else dataset[...]
            return values[rows]
        wanted = np.arange(self._geometry.num_samples)[rows]
        result = np.empty((len(wanted), *spec.shape(self._geometry)[1:]), spec.dtype)
        shards, inside = np.divmod(wanted, self._geometry.shard_rows)
        pieces: list[Piece] = []
        for shard, slots in grouped(shards):
            pieces += self._shard(shard).pieces(spec.name, inside[slots], slots, result)
        side_by_side(pieces)
        return result

    def _shard(self, shard: int) -> ShardFile:
        if shard not in self._shards:
            covered = self._geometry.shard_slice(shard)
            number = covered.stop - covered.start
            shapes = {spec.name: (number, *spec.shape(self._geometry)[1:]) for spec in arrays_written("shard")}
            self._shards[shard] = ShardFile(self._path / _shard_name(shard), shapes)
        return self._shards[shard]


def _local(path: AnyPath) -> Path:
    assert isinstance(path, Path), f"{path}: stores of this format are local, see SUPPORTS_URL"
    return path


def _shard_name(shard: int) -> str:
    return f"shard-{shard:05d}.h5"
