"""Our shards of a zarr array against zarr-python's own, which are written slowly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import ZstdCodec

from densereid.data_catalog.store.zarr_shards import encode_chunk, encode_shard


def zarr_python_writes(
    path: Path, values: np.ndarray, *, rows: int, chunk_rows: int | None, fill: int | float, level: int
) -> bytes | None:
    """The file of the first ``rows`` rows of an array of ``values``; None where there is none."""
    tail = values.shape[1:]
    chunking = {"chunks": (rows, *tail)} if chunk_rows is None else {
        "chunks": (chunk_rows, *tail), "shards": (rows, *tail)
    }  # fmt: skip
    array = zarr.create_array(
        path, shape=values.shape, dtype=values.dtype, fill_value=fill, compressors=[ZstdCodec(level=level)], **chunking
    )
    array[...] = values
    file = path.joinpath("c", "0", *["0" for _ in tail])
    return file.read_bytes() if file.exists() else None


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([("uint8", 0), ("uint8", 255), ("float32", float("nan")), ("int32", 7)]),
    chunk_rows=st.sampled_from([None, 1, 4]),
    num_rows=st.integers(1, 64),
    filled=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_a_shard_has_the_bytes_that_zarr_python_writes(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    dtype: tuple[str, float],
    chunk_rows: int | None,
    num_rows: int,
    filled: float,
) -> None:
    """With rows beyond the array's end, rows of fill, and nothing but fill."""
    name, fill = dtype
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 9, (num_rows, 3, 2)).astype(name)
    values[generator.random(num_rows) < filled] = fill
    expected = zarr_python_writes(
        tmp_path_factory.mktemp("zarr") / "array", values, rows=64, chunk_rows=chunk_rows, fill=fill, level=3
    )
    if chunk_rows is None:
        found = encode_chunk(values, rows=64, fill=fill, level=3)
    else:
        found = encode_shard(values, shard_rows=64, chunk_rows=chunk_rows, fill=fill, level=3)
    assert found == expected


def test_numbers_of_the_other_byte_order_are_written_in_zarrs(tmp_path: Path) -> None:
    values = np.arange(8, dtype=">i4").reshape(4, 2)
    expected = zarr_python_writes(tmp_path / "array", values.astype("<i4"), rows=4, chunk_rows=2, fill=0, level=3)
    assert encode_shard(values, shard_rows=4, chunk_rows=2, fill=0, level=3) == expected
