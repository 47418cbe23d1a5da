"""Rows of the HDF5 form's shards by plain reads of its chunks, decompressed side by side.

HDF5 reads and decompresses one chunk after the other under a lock of its own, and needs four times as long
(bench/RESULTS.md). So it is asked once where the chunks of a shard lie, and what they say is checked as it would.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from numcodecs.fletcher32 import Fletcher32

from densereid.data_catalog.files.hdf5_storage import own_dataset
from densereid.data_catalog.store.schema import ARRAY_BY_NAME, arrays_written
from densereid.data_catalog.store.shards.frames import decompress

_ZSTD, _FLETCHER = hdf5plugin.Zstd.filter_id, h5py.h5z.FILTER_FLETCHER32

_SHORTEST = 9
"""No frame of Zstandard with anything in it is shorter."""

Piece = Callable[[], object]
"""Decompresses one chunk, and puts its rows into their places."""


@dataclass(frozen=True)
class _Chunks:
    """Where an array's chunks lie in its file, int64 (chunks, 2) of offset and length, and what they hold."""

    places: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    has_checksums: bool


class ShardFile:
    """A shard's open file. It may be used by several threads, and after a fork by both processes.

    ``shapes``: what the arrays have to be like, by name.
    Raises UserError where an array lies in another file, and OSError, KeyError, ValueError or RuntimeError where the
    file is damaged, here or when it is read.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self._closed = weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        with h5py.File(path, "r") as file:  # its own descriptor holds a lock as long as a copy of it is open
            if not os.path.samestat(os.fstat(file.id.get_vfd_handle()), status):
                raise ValueError(f"{path} was replaced while it was opened")
            datasets = {spec.name: own_dataset(file, spec.name) for spec in arrays_written("shard")}
            for name, dataset in datasets.items():
                if (dataset.shape, dataset.dtype) != (shapes[name], np.dtype(ARRAY_BY_NAME[name].dtype)):
                    raise ValueError(f"{name} in {path} is {dataset.dtype} {dataset.shape}, expected {shapes[name]}")
            self._arrays = {name: _find_chunks(dataset, status.st_size) for name, dataset in datasets.items()}

    def pieces(self, name: str, rows: np.ndarray, slots: np.ndarray, result: np.ndarray) -> Iterator[Piece]:
        """What puts these rows of the shard into ``slots`` of the result, chunk by chunk."""
        chunks = self._arrays[name]
        if chunks is None:
            yield partial(self._read_by_hdf5, name, rows, slots, result)
            return
        for _, chosen in grouped(rows // chunks.shape[0]):
            yield partial(self._read, name, rows[chosen], slots[chosen], result)

    def _read(self, name: str, rows: np.ndarray, slots: np.ndarray, result: np.ndarray) -> None:
        chunks = self._arrays[name]
        assert chunks is not None, "others are left to HDF5"
        number, inside = np.divmod(rows, chunks.shape[0])
        offset, length = chunks.places[number[0]].tolist()
        encoded = os.pread(self._descriptor, length, offset)
        if len(encoded) != length or length < _SHORTEST:
            raise ValueError(f"a chunk of {name} is missing in {self._path}")
        if chunks.has_checksums:
            try:
                encoded = Fletcher32().decode(encoded)
            except RuntimeError:
                raise ValueError(f"a chunk of {name} in {self._path} does not have its checksum") from None
        values = decompress(encoded, prod(chunks.shape) * chunks.dtype.itemsize)
        result[slots] = np.frombuffer(values, chunks.dtype).reshape(chunks.shape)[inside]

    def _read_by_hdf5(self, name: str, rows: np.ndarray, slots: np.ndarray, result: np.ndarray) -> None:
        with h5py.File(self._path, "r") as file:
            dataset = own_dataset(file, name)
            for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
                result[slot] = dataset[row]


def _find_chunks(dataset: h5py.Dataset, file_size: int) -> _Chunks | None:
    """The dataset's chunks; None where it is stored in another way than ours, which is HDF5's to read."""
    creation, shape = dataset.id.get_create_plist(), dataset.chunks
    filters = [creation.get_filter(index)[0] for index in range(creation.get_nfilters())]
    is_ours = filters in ([_ZSTD], [_ZSTD, _FLETCHER]) and dataset.file.userblock_size == 0
    if not is_ours or shape is None or shape[1:] != dataset.shape[1:]:
        return None
    found: list[tuple[int, int, int, int]] = []
    dataset.id.chunk_iter(lambda c: found.append((c.chunk_offset[0], c.byte_offset, c.size, c.filter_mask)))
    first, offset, size, skipped = np.array(found, np.uint64).reshape(-1, 4).T.astype(np.int64)
    if skipped.any() or (first >= len(dataset)).any():
        return None
    places = np.zeros((-(-len(dataset) // shape[0]), 2), np.int64)
    places[first // shape[0]] = np.stack((offset, size), axis=1)
    if ((places < 0) | (places > file_size)).any() or (places.sum(axis=1) > file_size).any():
        raise ValueError(f"chunks of {dataset.name} lie beyond the end of {dataset.file.filename}")
    return _Chunks(places, shape, dataset.dtype, _FLETCHER in filters)


def grouped(keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each different key of an integer array in ascending order, and the positions that it has, in theirs."""
    order = np.argsort(keys, kind="stable")
    breaks = np.flatnonzero(np.diff(keys[order])) + 1
    for positions in np.split(order, breaks) if len(keys) else ():
        yield int(keys[positions[0]]), positions


def side_by_side(pieces: Sequence[Piece]) -> None:
    """Call all pieces, in as many threads as there are cores. Raises what one of them raises."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [pieces[start::cores] for start in range(min(cores, len(pieces)))]
    if len(parts) < 2:
        _call(pieces)
    else:
        list(_threads(os.getpid(), cores).map(_call, parts))


def _call(pieces: Sequence[Piece]) -> None:
    for piece in pieces:
        piece()


@cache
def _threads(process: int, number: int) -> ThreadPoolExecutor:  # noqa: ARG001 - threads do not cross a fork
    return ThreadPoolExecutor(number, thread_name_prefix="chunks")
