"""Stores: what is written is read, in both formats; what is unfinished, foreign or newer is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import dask.array as da
import h5py
import hdf5plugin  # noqa: F401  users of index.h5 import it to read Zstandard
import numpy as np
import pytest
import xarray
import zarr
from helpers import GEOMETRY, forget_checksum, random_rows, write_random_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.parts import BODY_PARTS
from densereid.data_catalog.store import hdf5_format
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.schema import (
    ARRAYS,
    COORDINATES,
    FORMAT_VERSION,
    ArraySpec,
    Geometry,
    check_rows,
    pack_validity,
    unpack_validity,
)
from densereid.data_catalog.store.store import FORMATS, open_store


@pytest.fixture(params=list(FORMATS))
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_array_comes_back_in_any_order(tmp_path: Path, format: str) -> None:
    written = write_random_store(tmp_path / "store", format)
    store = pickle.loads(pickle.dumps(open_store(tmp_path / "store")))
    rows = np.random.default_rng(1).permutation(75)
    for name, values in written.items():
        np.testing.assert_array_equal(store.read(name), values)
        np.testing.assert_array_equal(store.read(name, rows), values[rows], err_msg=name)
        np.testing.assert_array_equal(store.read(name, slice(30, 40)), values[30:40])
        assert store.read(name, np.array([], int)).shape == (0, *values.shape[1:])
    for name, names in COORDINATES.items():
        assert tuple(store.read(name)) == names


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(num_samples=st.integers(1, 80), dsap_size=st.sampled_from([8, 16]), shards=st.integers(1, 2))
def test_round_trip_for_any_geometry(
    tmp_path_factory: pytest.TempPathFactory, format: str, num_samples: int, dsap_size: int, shards: int
) -> None:
    geometry = Geometry(num_samples, 6, 5, dsap_size=dsap_size, shard_rows=32 * shards)
    path = tmp_path_factory.mktemp("round") / "store"
    written = write_random_store(path, format, geometry)
    store = open_store(path)
    assert store.geometry == geometry
    for name, values in written.items():
        np.testing.assert_array_equal(store.read(name), values)


def test_conversion_does_not_copy_damage(tmp_path: Path) -> None:
    """It would get fresh checksums, and nobody could tell any more."""
    write_random_store(tmp_path / "first", "zarr")
    forget_checksum(tmp_path / "first", 1, "mask")
    with pytest.raises(UserError, match=r"shard 1 of .*first is damaged: mask\ndelete its marker .*00001.json"):
        convert_store(open_store(tmp_path / "first"), tmp_path / "second", format="hdf5")
    assert open_store(tmp_path / "second", incomplete=True).missing_shards() == [1, 2]


@pytest.mark.parametrize("target", list(FORMATS))
def test_conversion_goes_both_ways_without_loss(tmp_path: Path, format: str, target: str) -> None:
    written = write_random_store(tmp_path / "first", format)
    first = open_store(tmp_path / "first")
    convert_store(first, tmp_path / "second", format=target)
    second = open_store(tmp_path / "second")
    assert second.format == target
    assert second.attributes == first.attributes
    assert second.markers() == first.markers()
    for name, values in written.items():
        np.testing.assert_array_equal(second.read(name), values)


def test_conversion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write_random_store(tmp_path / "first", "zarr")
    first = open_store(tmp_path / "first")

    class StopError(Exception):
        pass

    def stop_after_first(shard: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        convert_store(first, tmp_path / "second", format="hdf5", on_shard=stop_after_first)
    assert open_store(tmp_path / "second", incomplete=True).missing_shards() == [1, 2]
    converted: list[int] = []
    convert_store(first, tmp_path / "second", format="hdf5", on_shard=converted.append)
    assert converted == [1, 2]
    np.testing.assert_array_equal(open_store(tmp_path / "second").read("iuv"), first.read("iuv"))


def test_conversion_does_not_touch_another_store(tmp_path: Path) -> None:
    write_random_store(tmp_path / "first", "zarr")
    write_random_store(tmp_path / "second", "hdf5", Geometry(10, 20, 10, dsap_size=8, shard_rows=32))
    with pytest.raises(UserError, match="is not a copy of"):
        convert_store(open_store(tmp_path / "first"), tmp_path / "second", format="hdf5")


def test_zarr_opens_with_plain_dask_and_xarray(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    written = write_random_store(tmp_path / "store.zarr", "zarr")
    np.testing.assert_array_equal(da.from_zarr(str(tmp_path / "store.zarr"), component="mask"), written["mask"])
    dataset = xarray.open_zarr(tmp_path / "store.zarr")
    assert dataset["dsap"].dims == ("sample", "part", "u", "v", "channel")
    torso = dataset["dsap"].sel(part="torso front", channel="green")
    np.testing.assert_array_equal(torso, written["dsap"][:, 1, :, :, 1])
    camera = dataset["mask"].sel(sample=dataset.camera_id.values == 3)
    np.testing.assert_array_equal(camera, written["mask"][written["camera_id"] == 3])
    assert list(dataset["part"].values) == list(BODY_PARTS)
    assert [str(warning.message) for warning in recwarn if "arr" in str(warning.message)] == []


def test_hdf5_index_opens_with_dask_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_random_store(tmp_path / "store.hdf5", "hdf5")
    monkeypatch.chdir("/")
    with h5py.File(tmp_path / "store.hdf5" / "index.h5") as index:
        np.testing.assert_array_equal(da.from_array(index["mask"], chunks=(32, -1, -1)), written["mask"])
        assert [dim.label for dim in index["dsap"].dims] == ["sample", "part", "u", "v", "channel"]
        assert index["split"].attrs["flag_meanings"] == "train query gallery"


def test_the_bytes_of_an_hdf5_shard_do_not_depend_on_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(Geometry(32, 40, 20, dsap_size=32, shard_rows=32), "shard")
    expected = hdf5_format._shard_file(rows)
    kept: list[object] = []
    describe = hdf5_format._describe

    def keeping(dataset: h5py.Dataset, spec: ArraySpec) -> None:
        kept.append(dataset)
        describe(dataset, spec)

    monkeypatch.setattr(hdf5_format, "_describe", keeping)
    assert hdf5_format._shard_file(rows) == expected
    assert len(kept) == len(rows)


def test_schema_decides_dtype_shape_and_chunks_of_the_zarr_arrays(tmp_path: Path) -> None:
    write_random_store(tmp_path / "store", "zarr")
    group = zarr.open_group(tmp_path / "store", mode="r")
    for spec in ARRAYS:
        array = group[spec.name]
        assert array.metadata.dimension_names == spec.dims
        assert array.shape == spec.shape(GEOMETRY)
        if spec.written == "shard" and spec.chunk_rows is not None:
            assert array.chunks[0] == spec.chunk_rows
            assert array.shards[0] == GEOMETRY.shard_rows


def test_rows_that_break_the_schema_are_refused() -> None:
    rows = random_rows(GEOMETRY, "shard")
    with pytest.raises(ValueError, match="mask: dtype int64"):
        check_rows({**rows, "mask": rows["mask"].astype(int)}, GEOMETRY, written="shard", num_rows=75)
    with pytest.raises(ValueError, match="mask: shape"):
        check_rows({**rows, "mask": rows["mask"][:, 1:]}, GEOMETRY, written="shard", num_rows=75)
    with pytest.raises(ValueError, match="the schema has"):
        check_rows({"mask": rows["mask"]}, GEOMETRY, written="shard", num_rows=75)


@given(st.integers(0, 2**32 - 1))
def test_validity_is_recovered_exactly(seed: int) -> None:
    valid = np.random.default_rng(seed).random((2, 24, 8, 16)) < 0.3
    np.testing.assert_array_equal(unpack_validity(pack_validity(valid)), valid)


def test_a_half_written_store_is_refused_and_says_how_to_go_on(tmp_path: Path, format: str) -> None:
    write_random_store(tmp_path / "store", format)
    (tmp_path / "store" / "shards" / "00001.json").unlink()
    with pytest.raises(UserError, match=r"half-written: 1 of 3 shards(.|\n)*make preprocess"):
        open_store(tmp_path / "store")
    assert open_store(tmp_path / "store", incomplete=True).missing_shards() == [1]


def test_no_store_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no store at .*nowhere"):
        open_store(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, rf"store format {FORMAT_VERSION + 1}; .*reads up to {FORMAT_VERSION}"),
        ({"format": "something else"}, "was not written by DenseReID"),
    ],
)
def test_a_newer_or_foreign_store_is_refused(
    tmp_path: Path, format: str, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "store"
    write_random_store(path, format)
    if format == "zarr":
        metadata = json.loads((path / "zarr.json").read_text())
        metadata["attributes"] |= change
        (path / "zarr.json").write_text(json.dumps(metadata))
    else:
        with h5py.File(path / "index.h5", "r+") as index:
            for key, value in change.items():
                index.attrs[key] = json.dumps(value)
    with pytest.raises(UserError, match=message):
        open_store(path)


def test_a_damaged_index_is_refused(tmp_path: Path, format: str) -> None:
    path = tmp_path / "store"
    write_random_store(path, format)
    marker = path / FORMATS[format].MARKER
    marker.write_bytes(marker.read_bytes()[:20])
    with pytest.raises(UserError, match=r"is damaged: .* is not as it was written"):
        open_store(path)


def test_unknown_array_lists_the_known(tmp_path: Path) -> None:
    write_random_store(tmp_path / "store", "zarr")
    with pytest.raises(UserError, match=r"no array 'masks'; a store holds: image, iuv, mask"):
        open_store(tmp_path / "store").read("masks")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_samples": 0}, "at least one image"),
        ({"dsap_size": 12}, "multiple of 8"),
        ({"shard_rows": 100}, "multiple of 32"),
    ],
)
def test_impossible_geometry_is_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Geometry(**{"num_samples": 5, "height": 8, "width": 4, "dsap_size": 32, **sizes})


def test_both_formats_hold_the_same_dataset(stores: dict[str, Path]) -> None:
    zarr_store, hdf5_store = (open_store(stores[name]) for name in ("zarr", "hdf5"))
    assert zarr_store.attributes == hdf5_store.attributes
    assert zarr_store.markers() == hdf5_store.markers()
    for spec in ARRAYS:
        np.testing.assert_array_equal(zarr_store.read(spec.name), hdf5_store.read(spec.name), err_msg=spec.name)


def test_rows_are_sorted_by_split_person_camera_path(stores: dict[str, Path]) -> None:
    store = open_store(stores["zarr"])
    keys = list(zip(*(store.read(name).tolist() for name in ("split", "person_id", "camera_id", "path")), strict=True))
    assert keys == sorted(keys)


def test_visible_share_counts_images(stores: dict[str, Path]) -> None:
    from densereid.pipeline.commands.inspect import masks, visible_share

    for path in stores.values():
        store = open_store(path)
        mask = store.read("mask")
        expected = [np.mean([label in image for image in mask]) for label in range(8)]
        np.testing.assert_allclose(visible_share(masks(store)), expected)


def test_make_nothing_when_creation_fails(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store appears whole or not at all."""

    def broken(*arguments: object, **named: object) -> None:
        Path(str(arguments[0])).mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FORMATS[format], "create", broken)
    with pytest.raises(OSError, match="No space left"):
        write_random_store(tmp_path / "store", format)
    assert not (tmp_path / "store").exists()
