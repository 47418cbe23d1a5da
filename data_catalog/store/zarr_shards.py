"""A shard of a zarr array as its bytes; the only module that imports numcodecs and google_crc32c.

zarr-python writes the same bytes in twice the processor time, because each of a shard's thousand chunks passes through
its asynchronous pipeline (bench/RESULTS.md). The layout is zarr v3's ``sharding_indexed`` codec with the index at
the end (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): the compressed chunks one after
another, then offset and length of each as little-endian uint64, then the index's CRC-32C.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import numpy as np
from numcodecs import zstd

_ABSENT = np.uint64(2**64 - 1)
"""Offset and length of a chunk that holds nothing but the fill value, which is not stored."""
_THREADS = min(8, os.cpu_count() or 1)
_RUN = 16
"""Chunks that a thread compresses at once."""


def encode_chunk(values: np.ndarray, *, rows: int, fill: int | float, level: int) -> bytes | None:
    """One chunk of ``rows`` rows, of which ``values`` are the first; None where all of it is the fill value."""
    if np.array_equal(values, np.full_like(values, fill), equal_nan=values.dtype.kind == "f"):
        return None
    if len(values) < rows:  # beyond the array's end
        values = np.concatenate([values, np.full((rows - len(values), *values.shape[1:]), fill, values.dtype)])
    little_endian = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    compressed: bytes = zstd.compress(little_endian, level)
    return compressed


def encode_shard(
    values: np.ndarray, *, shard_rows: int, chunk_rows: int, fill: int | float, level: int
) -> bytes | None:
    """A shard of ``shard_rows`` rows, of which ``values`` are the first, in chunks of ``chunk_rows`` whole rows.

    None where all of it is the fill value: such a shard is not stored.
    """

    def encode(start: int) -> list[bytes | None]:
        edges = range(start, min(start + _RUN * chunk_rows, len(values)), chunk_rows)
        return [encode_chunk(values[at : at + chunk_rows], rows=chunk_rows, fill=fill, level=level) for at in edges]

    with ThreadPoolExecutor(_THREADS) as pool:
        runs = pool.map(encode, range(0, len(values), _RUN * chunk_rows))
        chunks = [chunk for run in runs for chunk in run]
    stored = [chunk for chunk in chunks if chunk is not None]
    return b"".join([*stored, _index(chunks, shard_rows // chunk_rows)]) if stored else None


def _index(chunks: list[bytes | None], num_chunks: int) -> bytes:
    """Offset and length of each chunk in the shard, and the index's checksum."""
    index = np.full((num_chunks, 2), _ABSENT, "<u8")
    offset = 0
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            index[number] = offset, len(chunk)
            offset += len(chunk)
    return index.tobytes() + int(google_crc32c.value(index.tobytes())).to_bytes(4, "little")
