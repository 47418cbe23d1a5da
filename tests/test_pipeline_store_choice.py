"""Commands chain: training, looking and deriving take the store of the dataset that is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.store import Store, open_store
from densereid.pipeline.store_choice import existing_request, find_store
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import derive_store, ensure_store, make_store, training_request


@pytest.fixture
def request_of(crops: Path, tmp_path: Path) -> StoreRequest:
    """What `preprocess` asks for when no size is given."""
    return StoreRequest(
        "folder", crops, tmp_path / "stores", "zarr", (256, 128), 32, "last", pattern=r"(?P<person>\d+)"
    )


@pytest.fixture
def made(request_of: StoreRequest, crops: Path, capsys: pytest.CaptureFixture[str]) -> Store:
    """Its store; the images are gone afterwards, so that nothing can be estimated again."""
    store, _ = make_store(request_of)
    for file in crops.rglob("*.png"):
        file.write_bytes(b"")
    capsys.readouterr()
    return store


def test_training_takes_the_store_that_is_there_whatever_its_size(
    request_of: StoreRequest, made: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = ensure_store(replace(request_of, size=(128, 64)))
    assert taken.path == made.path
    said = capsys.readouterr().err
    assert f"there is no folder-crops-128x64.zarr; the store that is there is taken: {made.path}" in said
    assert f"store {made.path}: 5 images of 256x128" in said


def test_the_store_of_the_asked_size_is_preferred_then_the_next_larger_one(
    request_of: StoreRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in ((64, 32), (192, 96), (256, 128)):
        make_store(replace(request_of, size=size))
    wanted = {
        (64, 32): "64x32",
        (128, 64): "192x96",
        (256, 128): "256x128",
        (200, 100): "256x128",
        (300, 150): "256x128",
    }
    for size, name in wanted.items():
        assert ensure_store(replace(request_of, size=size)).path.name == f"folder-crops-{name}.zarr"
    half = open_store(request_of.store_root / "folder-crops-192x96.zarr")
    (half.path / "shards" / "00000.json").unlink()
    assert training_request(replace(request_of, size=(128, 64))).size == (256, 128)  # whole ones go first


def test_a_half_written_store_is_finished_instead_of_one_made_anew(request_of: StoreRequest) -> None:
    store, _ = make_store(request_of)
    (store.path / "shards" / "00000.json").unlink()
    assert ensure_store(replace(request_of, size=(128, 64))).path == store.path
    assert open_store(store.path).missing_shards() == []


def test_part_images_that_were_asked_for_are_derived_from_the_store_that_is_there(
    request_of: StoreRequest, made: Store
) -> None:
    derived = ensure_store(replace(request_of, size=(128, 64), dsap_size=64))
    assert derived.path.name == "folder-crops-256x128-dsap64.zarr"
    assert derived.attributes["derived_from"]["store"] == made.path.name
    again = ensure_store(replace(request_of, size=(128, 64), dsap_size=16, collision="mean"))
    assert again.path.name == "folder-crops-256x128-dsap16-mean.zarr"


def test_another_format_is_taken_unless_one_was_asked_for(request_of: StoreRequest, tmp_path: Path) -> None:
    store, _ = make_store(replace(request_of, store="hdf5"))
    assert ensure_store(request_of).path == store.path
    asked = StoreRequest("folder", request_of.data_root, request_of.store_root, "hdf5", (128, 64), 32, "last")
    convert_store(store, request_of.path(), format="zarr")
    assert ensure_store(asked).path == store.path


def test_a_store_of_another_dataset_or_estimator_is_not_taken(request_of: StoreRequest, made: Store) -> None:
    for other in (replace(request_of, dataset="market"), replace(request_of, estimator="densepose")):
        wanted = replace(other, size=(128, 64))
        assert existing_request(wanted, any_size=True) == wanted


def test_inspect_finds_the_store_whose_size_was_not_named(request_of: StoreRequest, tmp_path: Path) -> None:
    small, _ = make_store(replace(request_of, size=(64, 32)))
    assert find_store(request_of).path == small.path
    assert find_store(request_of, small.path).path == small.path
    with pytest.raises(
        UserError, match=r"no store at \S*-128x64\.zarr; of folder-crops there are: \S*-64x32\.zarr"
    ) as told:
        find_store(replace(request_of, size=(128, 64)))
    assert "STORE_PATH" in told.value.remedy
    with pytest.raises(UserError, match="no store at"):
        find_store(replace(request_of, store_root=tmp_path / "nowhere"))


def test_derive_keeps_the_size_of_the_store_that_is_there(request_of: StoreRequest) -> None:
    small, _ = make_store(replace(request_of, size=(64, 32)))
    derived = derive_store(replace(request_of, dsap_size=64))
    assert (derived.path.name, derived.geometry.height) == ("folder-crops-64x32-dsap64.zarr", 64)
    named = replace(request_of, dataset="synthetic", dsap_size=16)
    assert derive_store(named, small.path).path.name == "folder-crops-64x32-dsap16.zarr"
    with pytest.raises(UserError, match=r"holds images of 64x32, and SIZE is 128x64"):
        derive_store(replace(request_of, size=(128, 64), dsap_size=64), small.path)


def test_images_that_are_resized_while_they_are_read_are_nearly_those_of_a_store_of_that_size(
    synthetic_root: Path, tmp_path: Path
) -> None:
    from densereid.train.data.dataset import read_tensors

    large = StoreRequest("synthetic", synthetic_root, tmp_path, "zarr", (128, 64), 32, "last")
    stores = [make_store(each)[0] for each in (large, replace(large, size=(64, 32)))]
    shown, direct = (read_tensors(store, slice(0, 24), needs=("mask", "dsap"), height=64, width=32) for store in stores)
    assert shown["image"].shape == direct["image"].shape
    differences = np.abs(shown["image"].numpy().astype(int) - direct["image"].numpy())
    assert differences.max() <= 2  # one resampling, by torch instead of Pillow
    assert (shown["mask"] == direct["mask"]).float().mean() > 0.999  # the nearest pixel of the same map
    assert shown["dsap"].shape == direct["dsap"].shape
