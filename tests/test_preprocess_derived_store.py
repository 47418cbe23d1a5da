"""A store derived from another holds what preprocessing from the images would have put there, and says where from."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import forget_checksum
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import ARRAYS
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import derive_store
from densereid.preprocess.writing.derived_store import DerivedPlan
from densereid.preprocess.writing.fill import fill_shard, fill_store, list_failures, write_failures, write_store
from densereid.preprocess.writing.plan import Plan, prepare
from densereid.preprocess.writing.verify import damaged_shards, differing_rows

Fill = Callable[[Plan, str], None]


@pytest.fixture
def source(stores: dict[str, Path], tmp_path: Path) -> Path:
    """A zarr store that a test may change."""
    return Path(shutil.copytree(stores["zarr"], tmp_path / "source.zarr"))


@pytest.mark.parametrize(("format", "dsap_size", "collision"), [("zarr", 64, "last"), ("hdf5", 16, "mean")])
def test_a_derived_store_equals_one_preprocessed_from_the_images(
    synthetic_root: Path,
    tmp_path: Path,
    stores: dict[str, Path],
    make_plan: Callable[..., Plan],
    fill: Fill,
    format: str,
    dsap_size: int,
    collision: str,
) -> None:
    """Every array, every checksum; going on after an interruption; each task computed as a worker would get it."""
    fill(make_plan(synthetic_root, tmp_path / "new", dsap_size=dsap_size, collision=collision), format)
    original = open_store(stores[format])
    plan = DerivedPlan(original, tmp_path / "derived", dsap_size, collision)  # type: ignore[arg-type]
    first, *rest = prepare(plan, format=format)
    fill_shard(pickle.loads(pickle.dumps(plan.task(first))))
    assert prepare(plan, format=format) == rest
    fill_store(plan, rest)
    new, derived = open_store(tmp_path / "new"), open_store(tmp_path / "derived")
    for spec in ARRAYS:
        np.testing.assert_array_equal(derived.read(spec.name), new.read(spec.name), spec.name)
    assert derived.markers() == new.markers()
    origin = derived.attributes.pop("derived_from")
    assert derived.attributes == new.attributes
    assert origin["store"] == original.path.name
    assert (origin["dsap_size"], origin["collision"]) == (32, "last")
    assert not any(names for _, names in damaged_shards(derived))
    assert not any(map(len, differing_rows(derived, np.arange(77)).values()))


def test_failures_are_taken_over(crops: Path, tmp_path: Path, make_plan: Callable[..., Plan], fill: Fill) -> None:
    (crops / "0002_c2.png").write_bytes(b"not an image")
    Image.new("RGB", (5, 5)).save(crops / "iuv" / "0004_c2_IUV.png")
    plan = make_plan(crops, tmp_path / "source", "folder", batch_size=2)
    fill(plan, "zarr")
    fill(replace(plan, path=tmp_path / "new", config=replace(plan.config, dsap_size=16)), "zarr")
    derived = DerivedPlan(open_store(tmp_path / "source"), tmp_path / "derived", 16, "last")
    store = write_store(derived, format="zarr")
    assert store.markers() == open_store(tmp_path / "new").markers()
    write_failures(store)
    failures = list_failures(store)
    assert [failure["path"] for failure in failures] == ["0002_c2.png", "0004_c2.png"]


def test_preprocessing_goes_on_with_a_derived_store(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], make_plan: Callable[..., Plan], fill: Fill
) -> None:
    """As `make train` with the same DSAP_SIZE does where deriving was interrupted."""
    plan = DerivedPlan(open_store(stores["zarr"]), tmp_path / "store", 16, "last")
    fill_shard(plan.task(prepare(plan, format="zarr")[0]))
    fresh = make_plan(synthetic_root, tmp_path / "store", dsap_size=16)
    assert prepare(fresh, format="zarr") == [1, 2]


def test_a_damaged_source_is_named_and_nothing_is_made_of_it(source: Path, tmp_path: Path) -> None:
    forget_checksum(source, 1, "iuv")
    plan = DerivedPlan(open_store(source), tmp_path / "derived", 16, "last")
    with pytest.raises(UserError, match=r"shard 1 of .*source.zarr is damaged: iuv\ndelete its marker .*00001.json"):
        write_store(plan, format="zarr")
    assert open_store(tmp_path / "derived", incomplete=True).missing_shards() == [1, 2]


def test_a_target_that_was_made_otherwise_is_refused(
    source: Path, synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan]
) -> None:
    path = tmp_path / "store"
    prepare(make_plan(synthetic_root, path, dsap_size=16), format="zarr")
    with pytest.raises(UserError, match=r"was created with different settings: collision is last, asked for mean\n"):
        prepare(DerivedPlan(open_store(source), path, 16, "mean"), format="zarr")
    with pytest.raises(UserError, match=r"source.zarr has these DSAP images already: size 32, .*\n.*DSAP_SIZE=64"):
        prepare(DerivedPlan(open_store(source), source, 32, "last"), format="zarr")


def test_a_target_made_from_other_images_is_refused(source: Path, tmp_path: Path) -> None:
    plan = DerivedPlan(open_store(source), tmp_path / "derived", 16, "last")
    fill_shard(plan.task(prepare(plan, format="zarr")[0]))
    forget_checksum(source, 0, "image")
    with pytest.raises(UserError, match=r"derived was made from other images or IUV maps than .*source.zarr holds"):
        prepare(plan, format="zarr")


def test_the_stores_name_says_how_its_dsap_images_are_made(source: Path, tmp_path: Path) -> None:
    """And the source is the store of the same dataset, size and format with the usual ones."""
    request = StoreRequest(
        dataset="synthetic", data_root=tmp_path, store_root=tmp_path / "stores", store="zarr", size=(64, 32),
        dsap_size=32, collision="last",
    )  # fmt: skip
    names = {
        (size, rule): replace(request, dsap_size=size, collision=rule).path().name  # type: ignore[arg-type]
        for size in (32, 64)
        for rule in ("last", "mean")
    }
    assert names == {
        (32, "last"): "synthetic-64x32.zarr",
        (64, "last"): "synthetic-64x32-dsap64.zarr",
        (32, "mean"): "synthetic-64x32-mean.zarr",
        (64, "mean"): "synthetic-64x32-dsap64-mean.zarr",
    }
    named = replace(request, dsap_size=64).naming_options()
    assert named.items() >= {"size": "64x32", "dsap_size": "64"}.items()
    with pytest.raises(UserError, match=r"no store at .*synthetic-64x32.zarr(.|\n)*make preprocess"):
        derive_store(replace(request, dsap_size=64))
    (tmp_path / "stores").mkdir()
    source.rename(tmp_path / "stores" / "synthetic-64x32.zarr")
    marker = (tmp_path / "stores" / "synthetic-64x32.zarr" / "shards" / "00002.json").rename(tmp_path / "aside")
    with pytest.raises(UserError, match=r"synthetic-64x32.zarr is half-written: 1 of 3 shards are missing"):
        derive_store(replace(request, dsap_size=64))
    marker.rename(tmp_path / "stores" / "synthetic-64x32.zarr" / "shards" / "00002.json")
    assert derive_store(replace(request, dsap_size=64)).path == tmp_path / "stores" / "synthetic-64x32-dsap64.zarr"
