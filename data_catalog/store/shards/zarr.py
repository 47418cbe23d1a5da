"""Rows of a sharded zarr array by plain reads of its files, without a thread: for processes that a fork made.

As fast as tensorstore, which does not work there; see :mod:`densereid.data_catalog.store.zarr_format`.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import google_crc32c
import numpy as np
import zarr

from densereid.data_catalog.store.shards.frames import decompress

_ABSENT = 2**64 - 1
"""The offset of a chunk that holds nothing but the fill value."""


class PlainShards:
    """A sharded array of ours (chunks of whole rows, Zstandard, the index at the end) in a local folder.

    ``has_checksums``: every chunk is there, and its CRC-32C behind it.
    """

    def __init__(self, folder: Path, array: zarr.Array, *, has_checksums: bool) -> None:
        assert array.shards is not None, f"{folder} is not sharded"
        self._folder, self._metadata, self._has_checksums = folder, array.metadata, has_checksums
        self._shape, self._dtype, self._fill = array.shape, array.dtype, array.fill_value
        self._shard_rows, self._chunk_rows = array.shards[0], array.chunks[0]

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows, a slice or one-dimensional integers, in the order given.

        Raises OSError, ValueError or RuntimeError where a file is damaged.
        """
        wanted = np.arange(self._shape[0])[rows]
        result = np.full((len(wanted), *self._shape[1:]), self._fill, self._dtype)
        shards = wanted // self._shard_rows
        for shard in np.unique(shards).tolist():
            slots = np.flatnonzero(shards == shard)
            self._read_shard(shard, wanted[slots] % self._shard_rows, slots, result)
        return result

    def _read_shard(self, shard: int, rows: np.ndarray, slots: np.ndarray, result: np.ndarray) -> None:
        """Put ``rows`` of one shard into ``slots`` of the result."""
        path = self._folder / self._metadata.encode_chunk_key((shard, *[0] * (len(self._shape) - 1)))
        if not path.is_file():
            self._accept_absence(str(path))  # as zarr has it: what is absent holds the fill value
            return
        chunks, num_chunks = rows // self._chunk_rows, self._shard_rows // self._chunk_rows
        with path.open("rb") as file:
            file.seek(-(16 * num_chunks + 4), 2)  # an offset and a length for each chunk, then a checksum
            index = np.frombuffer(file.read(16 * num_chunks), "<u8").reshape(num_chunks, 2)
            for chunk in np.unique(chunks).tolist():
                offset, length = index[chunk].tolist()
                if offset == _ABSENT:
                    self._accept_absence(f"chunk {chunk} of {path}")
                    continue
                file.seek(offset)
                here = chunks == chunk
                result[slots[here]] = self._decode(file.read(length))[rows[here] % self._chunk_rows]

    def _accept_absence(self, what: str) -> None:
        if self._has_checksums:
            raise ValueError(f"{what} is missing")

    def _decode(self, encoded: bytes) -> np.ndarray:
        if self._has_checksums:
            encoded, checksum = encoded[:-4], int.from_bytes(encoded[-4:], "little")
            if google_crc32c.value(encoded) != checksum:
                raise ValueError(f"a chunk of {self._folder} does not have its checksum")
        shape = (self._chunk_rows, *self._shape[1:])
        return np.frombuffer(decompress(encoded, prod(shape) * self._dtype.itemsize), self._dtype).reshape(shape)
