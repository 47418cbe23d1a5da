"""Shards read without tensorstore, and what is read after a fork: by the workers of torch's DataLoader, for example."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from forked import run_forked
from helpers import failed, write_random_store

from densereid.data_catalog.store.schema import arrays_written
from densereid.data_catalog.store.shards.zarr import PlainShards
from densereid.data_catalog.store.zarr_format import has_checksums


def plain(folder: Path) -> PlainShards:
    array = zarr.open_array(folder, mode="r")
    return PlainShards(folder, array, has_checksums=has_checksums(array))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A zarr store of 75 rows in three shards, and what it holds."""
    path = tmp_path_factory.mktemp("shards") / "store.zarr"
    return path, write_random_store(path, "zarr")


@pytest.mark.parametrize("name", [spec.name for spec in arrays_written("shard") if spec.chunk_rows is not None])
def test_rows_are_those_that_were_written(written: tuple[Path, dict[str, np.ndarray]], name: str) -> None:
    path, values = written
    shards, generator = plain(path / name), np.random.default_rng(0)
    for rows in (*(generator.integers(0, 75, size) for size in (0, 1, 20, 200)), slice(20, 70), slice(None)):
        found = shards.read(rows)
        np.testing.assert_array_equal(found, values[name][rows])
        assert found.dtype == values[name].dtype


def test_what_is_absent_or_damaged_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "store.zarr"
    write_random_store(path, "zarr")
    (path / "mask" / "c" / "1" / "0" / "0").unlink()
    damaged = path / "mask" / "c" / "2" / "0" / "0"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    changed = path / "mask" / "c" / "0" / "0" / "0"
    content = bytearray(changed.read_bytes())
    content[7] ^= 1
    changed.write_bytes(content)
    shards = plain(path / "mask")
    with pytest.raises(ValueError, match="is missing"):
        shards.read(np.array([32]))
    with pytest.raises((OSError, ValueError, RuntimeError)):
        shards.read(np.array([64]))
    with pytest.raises(ValueError, match="does not have its checksum"):
        shards.read(np.array([3]))


def test_a_chunk_that_claims_another_size_takes_no_memory(tmp_path: Path) -> None:
    """16 TB, in a frame whose checksum is right."""
    path = tmp_path / "store.zarr"
    write_random_store(path, "zarr")
    shard = path / "mask" / "c" / "0" / "0" / "0"
    content = shard.read_bytes()
    bomb = bytes.fromhex("28b52ffd c0") + bytes([0]) + (2**44).to_bytes(8, "little")
    bomb += google_crc32c.value(bomb).to_bytes(4, "little")
    array = zarr.open_array(path / "mask", mode="r")
    assert array.shards is not None
    end = -(16 * (array.shards[0] // array.chunks[0]) + 4)  # an offset and a length for each chunk, and a checksum
    places = np.frombuffer(content[end:-4], "<u8").copy()
    offset, places[1] = int(places[0]), len(bomb)
    forged = content[:offset] + bomb + content[offset + len(bomb) : end] + places.tobytes() + content[-4:]
    shard.write_bytes(forged)
    with pytest.raises(ValueError, match="a compressed chunk does not hold"):
        plain(path / "mask").read(np.array([0]))


def test_in_an_older_store_what_is_absent_is_fill(tmp_path: Path) -> None:
    """Its chunks of nothing but fill are not stored."""
    zeros = zarr.create_array(tmp_path / "zeros", shape=(96, 2), chunks=(1, 2), shards=(32, 2), dtype="uint8")
    zeros[3] = 7
    np.testing.assert_array_equal(plain(tmp_path / "zeros").read(slice(2, 5)), [[0, 0], [7, 7], [0, 0]])
    np.testing.assert_array_equal(plain(tmp_path / "zeros").read(np.array([70])), [[0, 0]])


_LOADS = """
import sys
import numpy as np
import torch
from torch.utils.data import DataLoader
from helpers import GEOMETRY, write_random_store
from densereid.data_catalog.files.paths import parse_path
from densereid.data_catalog.store.store import open_store
from densereid.train.data.dataset import read_tensors

class Rows(torch.utils.data.Dataset):
    def __init__(self, store):
        self.store = store
    def __len__(self):
        return 75
    def __getitems__(self, rows):
        needs = ("dsap", "mask")
        read = read_tensors(self.store, np.array(rows), needs=needs, height=GEOMETRY.height, width=GEOMETRY.width)
        return {**read, **{name: self.store.read(name, np.array(rows)) for name in ("path", "status", "person_id")}}

path = parse_path(sys.argv[1])
if "://" in sys.argv[1]:
    write_random_store(path, "zarr")
rows = Rows(open_store(path))
expected = rows.__getitems__(range(75))  # the first read, here
for again in range(2):
    order = torch.randperm(75).tolist()
    loader = DataLoader(
        rows, batch_size=8, sampler=order, num_workers=2, collate_fn=lambda batch: batch, multiprocessing_context="fork"
    )
    for batch, start in zip(loader, range(0, 75, 8), strict=True):
        for name, values in batch.items():
            np.testing.assert_array_equal(values, expected[name][order[start : start + 8]], err_msg=name)
    np.testing.assert_array_equal(rows.__getitems__(range(75))["image"], expected["image"])  # and here as before
print("equal")
"""


@pytest.mark.parametrize("kind", ["zarr", "hdf5", "memory"])
def test_workers_forked_after_a_first_read_read_the_same(tmp_path: Path, kind: str) -> None:
    """Two epochs of torch's own DataLoader, which forks unless told otherwise, over each form of a store."""
    path = f"memory://{tmp_path.name}/store.zarr" if kind == "memory" else tmp_path / f"store.{kind}"
    if isinstance(path, Path):
        write_random_store(path, kind)
    result = run_forked(_LOADS, [path], output=tmp_path / "said")
    assert result.returncode == 0, result.stderr
    assert result.stderr.endswith("equal\n")


_WRITES = """
import os, sys
from pathlib import Path
from helpers import GEOMETRY, random_rows, write_random_store
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.store import write_shard
path = Path(sys.argv[1])
write_random_store(path, "zarr")
child = os.fork()
if child == 0:
    rows = {name: values[:32] for name, values in random_rows(GEOMETRY, "shard").items()}
    try:
        write_shard(path, shard=0, rows=rows)
    except UserError as error:
        print(error.problem, error.remedy, sep="\\n", file=sys.stderr)
        os._exit(1)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_that_cannot_write_says_how_it_can(tmp_path: Path) -> None:
    result = run_forked(_WRITES, [tmp_path / "store.zarr"], output=tmp_path / "said")
    failed(result, "cannot be written by a process forked from one", 'multiprocessing.get_context("spawn")')


_HANDLES = """
import os, sys
from pathlib import Path
import numpy as np
from densereid.data_catalog.store.store import open_store
store = open_store(Path(sys.argv[1]))
rows = np.arange(75)
expected = store.read("image", rows)
sys.stdout.flush()
child = os.fork()
for again in range(50):
    order = np.random.default_rng([child, again]).permutation(75)
    assert (store.read("image", order) == expected[order]).all()
if child == 0:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_two_processes_read_hdf5_at_once_after_a_fork(tmp_path: Path) -> None:
    """They have one descriptor: were there a place in it, one would move the other's."""
    write_random_store(tmp_path / "store.hdf5", "hdf5")
    result = run_forked(_HANDLES, [tmp_path / "store.hdf5"], output=tmp_path / "said")
    assert result.returncode == 0, result.stderr
