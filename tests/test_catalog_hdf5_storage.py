"""HDF5 files that would have their reader read other files of the user: refused, whatever way they take."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  brings Zstandard
import numpy as np
import pytest
from helpers import failed, random_rows, run

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.matlab.variables import open_matlab
from densereid.data_catalog.store.manifest import write_manifest
from densereid.data_catalog.store.schema import ARRAY_BY_NAME, Geometry
from densereid.data_catalog.store.store import create_store, open_store, write_shard

SMALL = Geometry(40, 20, 10, dsap_size=8, shard_rows=32)
Spoil = Callable[[h5py.File, str, Path], None]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.hdf5"
    attributes, rows = {"dataset": "random", "collision": "last"}, random_rows(SMALL, "shard")
    create_store(path, format="hdf5", geometry=SMALL, attributes=attributes, rows=random_rows(SMALL, "create"))
    for shard in range(SMALL.num_shards):
        covered = SMALL.shard_slice(shard)
        write_shard(path, shard=shard, rows={name: values[covered] for name, values in rows.items()})
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the store, of bytes and of HDF5."""
    (tmp_path / "secret").write_bytes(b"secret" * 10_000)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["image"] = np.full((40, 20, 10, 3), 77, np.uint8)
    return tmp_path / "secret"


def external_storage(file: h5py.File, name: str, secret: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_link(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(f"{secret}.h5", "/image")


def soft_link(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file["way"] = h5py.ExternalLink(f"{secret}.h5", "/image")
    file[name] = h5py.SoftLink("/way")


def foreign_virtual(file: h5py.File, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
    layout[...] = h5py.VirtualSource(f"{secret}.h5", "image", layout.shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def group(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file.create_group(name)


WAYS: list[Spoil] = [external_storage, external_link, soft_link, foreign_virtual, group]


@pytest.mark.parametrize("way", WAYS)
def test_a_shard_that_reads_another_file_is_refused(store: Path, secret: Path, way: Spoil) -> None:
    with h5py.File(store / "shard-00000.h5", "r+") as file:
        way(file, "image", secret)
    for name in ("image", "iuv"):  # the file is refused, not the array
        with pytest.raises(UserError, match=r"shard-00000\.h5|/image is no dataset"):
            open_store(store).read(name, slice(0, 2))
    for words in (("convert", store, store.parent / "copy.zarr"), ("verify", "--store-path", store)):
        ended = run(*words)
        assert ended.returncode != 0
        assert "Traceback" not in ended.stderr
    assert b"secret" not in b"".join(
        file.read_bytes() for file in store.parent.glob("copy.zarr/**/*") if file.is_file()
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["image", "person_id", "path"])
def test_an_index_that_reads_another_file_is_refused_when_it_is_opened(
    store: Path, secret: Path, way: Spoil, name: str
) -> None:
    if way is external_storage and ARRAY_BY_NAME[name].dtype == "str":
        pytest.skip("HDF5 itself has no such strings")
    with h5py.File(store / "index.h5", "r+") as file:
        way(file, name, secret)
    write_manifest(store)
    with pytest.raises(UserError, match=rf"{name}"):
        open_store(store)
    failed(run("inspect", "--store-path", store), "index.h5" if way is not group else name)


@pytest.mark.parametrize("source", ["shard-00001.h5", "../shard-00000.h5", "/etc/passwd", "."])
def test_an_index_is_made_of_its_own_shards_in_their_order(store: Path, source: str) -> None:
    with h5py.File(store / "index.h5", "r+") as file:
        layout = h5py.VirtualLayout(file["image"].shape, file["image"].dtype)
        layout[:32] = h5py.VirtualSource(source, "image", (32, 20, 10, 3))
        layout[32:] = h5py.VirtualSource("shard-00001.h5", "image", (8, 20, 10, 3))
        del file["image"]
        file.create_virtual_dataset("image", layout)
    write_manifest(store)
    with pytest.raises(UserError, match=r"index\.h5: image is made of image of"):
        open_store(store)


def test_a_sound_store_is_read_as_before_and_elsewhere(store: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(store, tmp_path / "elsewhere"))
    opened = open_store(moved)
    np.testing.assert_array_equal(opened.array("image")[30:36], opened.read("image", slice(30, 36)))


@pytest.mark.parametrize("way", WAYS)
def test_a_matlab_file_that_reads_another_file_is_refused(tmp_path: Path, secret: Path, way: Spoil) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["image"] = np.zeros((40, 20, 10, 3), np.uint8)
        way(file, "image", secret)
    with open_matlab(tmp_path / "a.mat") as read, pytest.raises(UserError, match=r"a\.mat|/image is no dataset"):
        read("image")
