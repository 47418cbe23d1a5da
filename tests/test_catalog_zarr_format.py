"""Shards of a zarr array as tensorstore encodes them, against the ones that zarr-python writes, slowly."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tensorstore
import zarr
from helpers import GEOMETRY, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import ZstdCodec

from densereid.data_catalog.files.sealed_json import sealed
from densereid.data_catalog.store.store import checksum, create_store, open_store, write_shard
from densereid.data_catalog.store.zarr_format import encode_shard, shard_key

SHARD_ROWS = 64


def make_array(path: Path, values: np.ndarray, *, chunk_rows: int | None, fill: int | float) -> zarr.Array:
    """An empty array of the shape of ``values`` in shards of 64 rows, or in chunks of 64 rows without shards."""
    rows, tail = (SHARD_ROWS, *values.shape[1:]), values.shape[1:]
    chunking = {"chunks": rows} if chunk_rows is None else {"chunks": (chunk_rows, *tail), "shards": rows}
    return zarr.create_array(
        path, shape=values.shape, dtype=values.dtype, fill_value=fill, compressors=[ZstdCodec(level=3)], **chunking
    )


def write_shards(path: Path, array: zarr.Array, values: np.ndarray) -> None:
    for shard, start in enumerate(range(0, len(values), SHARD_ROWS)):
        encoded = encode_shard(array, shard, values[start : start + SHARD_ROWS])
        if encoded is not None:
            file = path / shard_key(array, shard)
            file.parent.mkdir(parents=True)
            file.write_bytes(encoded)


def files(path: Path) -> set[Path]:
    return {file.relative_to(path) for file in path.rglob("*") if file.is_file()}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([("uint8", 0), ("uint8", 255), ("float32", float("nan")), ("int32", 7)]),
    chunk_rows=st.sampled_from([None, 1, 4]),
    num_rows=st.integers(1, 128),
    filled=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_a_shard_is_read_as_the_one_that_zarr_python_writes(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    dtype: tuple[str, float],
    chunk_rows: int | None,
    num_rows: int,
    filled: float,
) -> None:
    """With rows of fill and nothing but fill; the compressed bytes are those of another version of Zstandard."""
    name, fill = dtype
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 9, (num_rows, 3, 2)).astype(name)
    values[generator.random(num_rows) < filled] = fill
    folder = tmp_path_factory.mktemp("zarr")
    ours = make_array(folder / "ours", values, chunk_rows=chunk_rows, fill=fill)
    write_shards(folder / "ours", ours, values)
    make_array(folder / "theirs", values, chunk_rows=chunk_rows, fill=fill)[...] = values
    assert files(folder / "ours") == files(folder / "theirs")  # what is all fill is not stored
    store = {"driver": "file", "path": str(folder / "ours")}
    read = tensorstore.open({"driver": "zarr3", "kvstore": store}, read=True, open=True).result().read().result()
    for found in (ours[...], da.from_zarr(folder / "ours").compute(), read):
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("chunk_rows", [None, 1, 4])
def test_what_lies_beyond_the_arrays_end_is_fill(tmp_path: Path, chunk_rows: int | None) -> None:
    """Not what happened to be in memory."""
    values = np.full((SHARD_ROWS, 3, 2), 255, np.uint8)
    values[:21] = np.random.default_rng(0).integers(0, 9, (21, 3, 2))
    short = make_array(tmp_path / "short", values[:21], chunk_rows=chunk_rows, fill=255)
    encoded = encode_shard(short, 0, values[:21])
    assert encoded is not None
    whole = make_array(tmp_path / "whole", values, chunk_rows=chunk_rows, fill=255)
    (tmp_path / "whole" / "c" / "0" / "0").mkdir(parents=True)
    (tmp_path / "whole" / shard_key(whole, 0)).write_bytes(encoded)
    np.testing.assert_array_equal(whole[...], values)


def test_a_shard_has_the_same_bytes_whenever_and_beside_whatever_it_is_encoded(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, (SHARD_ROWS, 64, 32, 3)).astype(np.uint8)
    array = make_array(tmp_path / "array", values, chunk_rows=1, fill=0)
    with ThreadPoolExecutor(8) as pool:
        encoded = set(pool.map(lambda _: encode_shard(array, 0, values), range(40)))
    assert len(encoded) == 1
    assert encoded != {None}


def test_a_store_that_zarr_python_began_is_resumed(tmp_path: Path) -> None:
    """As versions of ours did that encoded shards themselves, with its bytes."""
    path, written = tmp_path / "store.zarr", random_rows(GEOMETRY, "shard")
    create_store(path, format="zarr", geometry=GEOMETRY, attributes={}, rows=random_rows(GEOMETRY, "create"))
    group = zarr.open_group(path)
    for name, values in written.items():
        array = group[name].with_config({"write_empty_chunks": True})
        array[: GEOMETRY.shard_rows] = values[: GEOMETRY.shard_rows]
    rows = {name: values[: GEOMETRY.shard_rows] for name, values in written.items()}
    sums = {name: checksum(values) for name, values in rows.items()}
    marker = {"shard": 0, "rows": [0, GEOMETRY.shard_rows], "crc32": sums}
    (path / "shards" / "00000.json").write_text(json.dumps(sealed(marker)))
    for shard in open_store(path, incomplete=True).missing_shards():
        covered = GEOMETRY.shard_slice(shard)
        write_shard(path, shard=shard, rows={name: values[covered] for name, values in written.items()})
    store = open_store(path)
    for name, values in written.items():
        np.testing.assert_array_equal(store.read(name), values, err_msg=name)
