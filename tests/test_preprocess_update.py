"""Stores that are brought up to date: what is new, changed or repaired is redone, and the rest stays as it is."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from cluster_estimators import Around, FailsOn, TakesWhole
from helpers import contents, edit_marker, forget_checksum
from PIL import Image
from reference import random_iuv

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import UrlPath
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.schema import ARRAYS, Status
from densereid.data_catalog.store.store import FORMATS, INPUTS, open_store
from densereid.pipeline.commands.status import find_stores
from densereid.preprocess.estimators.base import Charts
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.images import Crop
from densereid.preprocess.writing.derived_store import DerivedPlan
from densereid.preprocess.writing.fill import fill_store, find_update, write_store
from densereid.preprocess.writing.inputs import read_inputs
from densereid.preprocess.writing.plan import Plan, PreprocessConfig, StorePlan
from densereid.preprocess.writing.update import interrupted_updates

CONFIG = PreprocessConfig((16, 8), 8, "last", shard_rows=32, batch_size=16)
IMAGES = 70
PATTERN = r"(?P<person>\d)_a"


@pytest.fixture(scope="module")
def first_photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 crops with IUV maps: three shards."""
    root = tmp_path_factory.mktemp("photographs") / "crops"
    for number in range(IMAGES):
        draw(root, f"{number:03d}_a", seed=number)
    return root


@pytest.fixture
def photographs(first_photographs: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    root = tmp_path / "crops"
    shutil.copytree(first_photographs, root)
    return root


def draw(root: Path, name: str, *, seed: int) -> None:
    (root / "iuv").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    Image.fromarray(generator.integers(0, 256, (20, 10, 3)).astype(np.uint8)).save(root / f"{name}.png")
    iuv = random_iuv(generator, 20, 10)
    Image.fromarray(np.ascontiguousarray(iuv[..., ::-1])).save(root / "iuv" / f"{name}_IUV.png")


def plan_of(root: Path, store: Path | UrlPath, *, pattern: str | None = None) -> Plan:
    dataset = find_dataset("folder", root, pattern=pattern)
    return Plan(dataset, store, open_iuv(dataset, "vui"), CONFIG)


@dataclass(frozen=True)
class Watched(Around):
    """Remembers the images that it was asked for."""

    seen: list[str]

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        self.seen.extend(crop.record.path for crop in crops)
        return super().estimate(crops, size)


def write(plan: Plan, format: str = "zarr") -> tuple[list[str], list[str]]:
    """Write the plan's store; the images that were estimated, sorted, and what was said."""
    seen: list[str] = []
    said: list[str] = []
    watched = replace(plan, estimator=Watched(plan.estimator, seen))  # type: ignore[arg-type]
    write_store(watched, format=format, notify=said.append)
    return sorted(set(seen)), said


def add_last(root: Path) -> set[str]:
    draw(root, "900_b", seed=900)
    return {"900_b.png"}


def add_first(root: Path) -> set[str]:
    draw(root, "00_b", seed=901)
    return {"00_b.png"}


def remove_one(root: Path) -> set[str]:
    (root / "040_a.png").unlink()
    return set()


def remove_a_shard(root: Path) -> set[str]:
    for number in range(60, 70):
        (root / f"{number:03d}_a.png").unlink()
    return set()


def change_an_image(root: Path) -> set[str]:
    with Image.open(root / "040_a.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "040_a.png")
    return {"040_a.png"}


def change_an_iuv_map(root: Path) -> set[str]:
    shutil.copy(root / "iuv" / "001_a_IUV.png", root / "iuv" / "040_a_IUV.png")
    return {"040_a.png"}


def move_a_box(root: Path) -> set[str]:
    (root / "iuv" / "boxes.csv").write_text("path,x0,y0\n040_a.png,2,3\n")
    return {"040_a.png"}


def touch_all(root: Path) -> set[str]:
    for image in root.glob("*.png"):
        image.touch()
    return set()


CHANGES = [add_last, add_first, remove_one, remove_a_shard, change_an_image, change_an_iuv_map, move_a_box, touch_all]


@pytest.mark.parametrize(
    ("format", "change"), [*(("zarr", change) for change in CHANGES), ("hdf5", add_first), ("hdf5", change_an_image)]
)
def test_an_updated_store_equals_one_made_at_once(
    photographs: Path, tmp_path: Path, format: str, change: Callable[[Path], set[str]]
) -> None:
    write(plan_of(photographs, tmp_path / "store"), format)
    expected = change(photographs)
    estimated, _ = write(plan_of(photographs, tmp_path / "store"), format)
    assert set(estimated) == expected
    write(plan_of(photographs, tmp_path / "at once"), format)
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")
    assert write(plan_of(photographs, tmp_path / "store"), format) == ([], [])


def test_a_pattern_that_comes_later_estimates_nothing(photographs: Path, tmp_path: Path) -> None:
    write(plan_of(photographs, tmp_path / "store"))
    estimated, [said] = write(plan_of(photographs, tmp_path / "store", pattern=PATTERN))
    assert estimated == []
    assert "0 of 3 shards kept" in said
    write(plan_of(photographs, tmp_path / "at once", pattern=PATTERN))
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")
    assert len(set(open_store(tmp_path / "store").read("person_id"))) == 10


@pytest.mark.parametrize("format", FORMATS)
def test_shards_that_hold_nothing_new_stay_as_they_are(photographs: Path, tmp_path: Path, format: str) -> None:
    store = tmp_path / "store"
    write(plan_of(photographs, store), format)
    before = {file: file.stat().st_ino for file in shard_files(store, 0, 1)}
    add_last(photographs)
    _, [said] = write(plan_of(photographs, store), format)
    assert said == f"{store}: 1 new; 2 of 3 shards kept, 1 written again"
    assert {file: file.stat().st_ino for file in shard_files(store, 0, 1)} == before
    assert sorted(folder.name for folder in tmp_path.glob("[!.]*")) == ["crops", "store"]
    assert interrupted_updates(store) == []


def shard_files(store: Path, *shards: int) -> list[Path]:
    format = FORMATS[open_store(store).format]
    return [store / name for shard in shards for name in format.shard_files(store, shard)]


def test_what_failed_is_tried_again_and_what_is_repaired_is_redone(photographs: Path, tmp_path: Path) -> None:
    store, sound = tmp_path / "store", (photographs / "001_a.png").read_bytes()
    (photographs / "001_a.png").write_bytes(sound[:100])
    (photographs / "iuv" / "066_a_IUV.png").rename(tmp_path / "066_a_IUV.png")
    write(plan_of(photographs, store))
    assert np.flatnonzero(open_store(store).read("status") == Status.FAILED).tolist() == [1, 66]
    before = {file: file.stat().st_mtime_ns for file in store.rglob("*.json")}
    assert write(plan_of(photographs, store)) == (["066_a.png"], [])  # tried, and left as it is
    assert {file: file.stat().st_mtime_ns for file in store.rglob("*.json")} == before
    (photographs / "001_a.png").write_bytes(sound)
    (tmp_path / "066_a_IUV.png").rename(photographs / "iuv" / "066_a_IUV.png")
    estimated, [said] = write(plan_of(photographs, store))
    assert estimated == ["001_a.png", "066_a.png"]
    assert "2 changed; 1 of 3 shards kept" in said
    write(plan_of(photographs, tmp_path / "at once"))
    assert contents(store) == contents(tmp_path / "at once")


@dataclass(frozen=True)
class Refuses(Watched):
    """Fails for one image as an estimator does, until a file is there: what failed need not be the image's fault."""

    path: str = "040_a.png"
    cured: Path = Path("cured")

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        charts = super().estimate(crops, size)
        here = [index for index, crop in enumerate(crops) if crop.record.path == self.path]
        return charts if self.cured.exists() else replace(charts, failures=dict.fromkeys(here, "not today"))


def test_an_unchanged_image_that_can_be_read_now_is_redone(photographs: Path, tmp_path: Path) -> None:
    plan, said = plan_of(photographs, tmp_path / "store"), []
    moody = replace(plan, estimator=Refuses(plan.estimator, [], cured=tmp_path / "cured"))  # type: ignore[arg-type]
    write_store(moody, format="zarr", notify=said.append)
    write_store(moody, format="zarr", notify=said.append)
    assert said == []
    (tmp_path / "cured").touch()
    write_store(moody, format="zarr", notify=said.append)
    assert "1 that failed can be read now; 2 of 3 shards kept" in said[0]
    write(plan_of(photographs, tmp_path / "at once"))
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_images_taken_whole_are_still_told_after_an_update(photographs: Path, tmp_path: Path) -> None:
    def plan(store: str) -> Plan:
        plan = plan_of(photographs, tmp_path / store)
        whole = TakesWhole(plan.estimator, frozenset({"000_a.png", "040_a.png", "041_a.png"}))  # type: ignore[arg-type]
        return replace(plan, estimator=whole)

    write_store(plan("store"), format="zarr")
    add_first(photographs)
    write_store(plan("store"), format="zarr")
    write_store(plan("at once"), format="zarr")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")
    assert [marker["taken_whole"] for marker in open_store(tmp_path / "store").markers().values()] == [1, 2, 0]


def test_an_update_that_is_interrupted_goes_on_and_the_store_is_readable_meanwhile(
    photographs: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    write(plan_of(photographs, store))
    before = contents(store)
    for number in range(80, 90):
        draw(photographs, f"{number:03d}_a", seed=number)
    add_first(photographs)  # every shard is written again
    plan = plan_of(photographs, store)
    stopping = replace(plan, estimator=FailsOn(plan.estimator, "085_a.png"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"1 of 3 shards failed"):
        write_store(stopping, format="zarr")
    assert contents(store) == before
    assert len(interrupted_updates(store)) == 1
    assert [facts["store"] for facts in find_stores(tmp_path)] == ["store"]
    estimated, _ = write(plan)
    assert estimated == [f"{number:03d}_a.png" for number in range(80, 90)]
    write(plan_of(photographs, tmp_path / "at once"))
    assert contents(store) == contents(tmp_path / "at once")


def test_what_an_interrupted_update_estimated_is_used_by_the_next_one(photographs: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(plan_of(photographs, store))
    add_first(photographs)
    plan = plan_of(photographs, store)
    stopping = replace(plan, estimator=FailsOn(plan.estimator, "069_a.png"))  # type: ignore[arg-type]
    change_an_iuv_map(photographs)
    draw(photographs, "069_a", seed=1)
    with pytest.raises(UserError, match=r"1 of 3 shards failed"):
        write_store(stopping, format="zarr")
    draw(photographs, "000_z", seed=902)  # another image comes
    estimated, _ = write(plan_of(photographs, store))
    assert estimated == ["000_z.png", "069_a.png"]
    assert interrupted_updates(store) == []
    write(plan_of(photographs, tmp_path / "at once"))
    assert contents(store) == contents(tmp_path / "at once")


@pytest.mark.parametrize("format", FORMATS)
def test_a_reader_does_not_go_on_with_the_rows_of_another_store(photographs: Path, tmp_path: Path, format: str) -> None:
    write(plan_of(photographs, tmp_path / "store"), format)
    reader = pickle.loads(pickle.dumps(open_store(tmp_path / "store")))
    assert reader.missing_shards() == []
    add_first(photographs)
    write(plan_of(photographs, tmp_path / "store"), format)
    with pytest.raises(UserError, match="brought up to date while it was read"):
        reader.missing_shards()


def test_a_store_whose_place_was_being_taken_comes_back(photographs: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(plan_of(photographs, store))
    before = contents(store)
    store.rename(tmp_path / ".store.replaced")
    assert write(plan_of(photographs, store)) == ([], [])
    assert contents(store) == before
    shutil.copytree(store, tmp_path / ".store.replaced")  # killed after the renaming, before the old one was deleted
    write(plan_of(photographs, store))
    assert not (tmp_path / ".store.replaced").exists()


@pytest.mark.parametrize("name", ["image", "iuv"])
def test_damage_is_not_copied(photographs: Path, tmp_path: Path, name: str) -> None:
    store = tmp_path / "store"
    write(plan_of(photographs, store))
    forget_checksum(store, 1, name)
    add_first(photographs)
    with pytest.raises(UserError, match=f"shard 1 of {store} is damaged: {name}"):
        write(plan_of(photographs, store))
    (store / "shards" / "00001.json").unlink()
    estimated, _ = write(plan_of(photographs, store))
    assert len(estimated) == 32  # the new one is in the shard that was finished
    write(plan_of(photographs, tmp_path / "at once"))
    assert contents(store) == contents(tmp_path / "at once")


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "update"])
def test_two_runs_at_once_do_not_meet_in_one_store(photographs: Path, tmp_path: Path, is_there: bool) -> None:
    plan = plan_of(photographs, tmp_path / "store")
    if is_there:
        write(plan)
        add_first(photographs)

    def fill_beside_another(plan: StorePlan, shards: list[int]) -> None:
        for second in (plan_of(photographs, tmp_path / "store"), DerivedPlan(source, tmp_path / "store", 16, "last")):
            with pytest.raises(UserError, match=r"the store .*store is being written by another run \(process \d+ on "):
                write_store(second, format="zarr")
        fill_store(plan, shards)

    write(plan_of(photographs, tmp_path / "source"))
    source = open_store(tmp_path / "source")
    write_store(plan_of(photographs, tmp_path / "store"), format="zarr", fill=fill_beside_another)
    write(plan_of(photographs, tmp_path / "at once"))
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def without_digests(store: Path) -> None:
    """As a store was before stores said which files they were made from."""
    (store / INPUTS).unlink()
    for shard in open_store(store).markers():
        edit_marker(store, shard, lambda marker: [marker.pop(note) for note in ("inputs", "whole_images")])  # type: ignore[func-returns-value]


@pytest.mark.parametrize("is_older", [False, True])
def test_another_folder_of_the_same_names_is_another_dataset(photographs: Path, tmp_path: Path, is_older: bool) -> None:
    other = tmp_path / "site2" / "crops"
    for number in range(IMAGES):
        draw(other, f"{number:03d}_a", seed=5000 + number)
    store = tmp_path / "store"
    write(plan_of(photographs, store))
    if is_older:
        without_digests(store)
    before = contents(store)
    message = "holds other images than" if is_older else f"was made from the images in {photographs}; 70 of its 70 are"
    with pytest.raises(UserError, match=message) as error:
        write(plan_of(other, store))
    assert "STORE_ROOT" in str(error.value)
    assert contents(store) == before


@pytest.mark.parametrize("is_older", [False, True])
def test_a_dataset_that_was_moved_is_the_same(photographs: Path, tmp_path: Path, is_older: bool) -> None:
    store = tmp_path / "store"
    write(plan_of(photographs, store))
    if is_older:
        without_digests(store)
    moved = tmp_path / "elsewhere" / "crops"
    shutil.copytree(photographs, moved, copy_function=shutil.copy)  # times of change are new
    shutil.rmtree(photographs)
    assert write(plan_of(moved, store)) == ([], [])
    assert read_inputs(store)["root"] == str(moved)
    draw(moved, "900_b", seed=900)
    estimated, _ = write(plan_of(moved, store))
    assert estimated == ["900_b.png"]


def test_an_older_store_is_brought_up_to_date(photographs: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (photographs / "iuv" / "066_a_IUV.png").rename(tmp_path / "066_a_IUV.png")
    write(plan_of(photographs, store))
    without_digests(store)
    assert write(plan_of(photographs, store)) == (["066_a.png"], [])
    (tmp_path / "066_a_IUV.png").rename(photographs / "iuv" / "066_a_IUV.png")
    add_first(photographs)
    estimated, _ = write(plan_of(photographs, store))
    assert estimated == ["00_b.png", "066_a.png"]
    write(plan_of(photographs, tmp_path / "at once"))
    updated, at_once = open_store(store), open_store(tmp_path / "at once")
    for spec in ARRAYS:
        np.testing.assert_array_equal(updated.read(spec.name), at_once.read(spec.name))


@pytest.mark.parametrize(
    ("change", "kept"), [(add_first, "0 of 3"), (change_an_image, "2 of 3"), (remove_a_shard, "1 of 2")]
)
def test_a_derived_store_follows_its_source(
    photographs: Path, tmp_path: Path, change: Callable[[Path], set[str]], kept: str
) -> None:
    store = tmp_path / "store"

    def derive(source: Path, path: Path) -> list[str]:
        said: list[str] = []
        write_store(DerivedPlan(open_store(source), path, 16, "last"), format="zarr", notify=said.append)
        return said

    write(plan_of(photographs, store))
    assert derive(store, tmp_path / "derived") == []
    change(photographs)
    write(plan_of(photographs, store))
    [said] = derive(store, tmp_path / "derived")
    assert f"{store} has changed; {kept} shards kept" in said
    derive(store, tmp_path / "at once")
    assert contents(tmp_path / "derived") == contents(tmp_path / "at once")


def test_a_store_at_a_url_is_brought_up_to_date(photographs: Path, tmp_path: Path) -> None:
    bucket = UrlPath(f"memory://densereid-{uuid4().hex}")
    write(plan_of(photographs, bucket / "store.zarr"))
    add_last(photographs)
    change_an_image(photographs)
    estimated, [said] = write(plan_of(photographs, bucket / "store.zarr"))
    assert estimated == ["040_a.png", "900_b.png"]
    assert "1 of 3 shards kept" in said
    assert [path.name for path in bucket.glob("*")] == ["store.zarr"]
    write(plan_of(photographs, tmp_path / "at once"))
    updated, at_once = open_store(bucket / "store.zarr"), open_store(tmp_path / "at once")
    assert updated.markers() == at_once.markers()
    for spec in ARRAYS:
        np.testing.assert_array_equal(updated.read(spec.name), at_once.read(spec.name))


def test_a_converted_store_still_knows_its_images(photographs: Path, tmp_path: Path) -> None:
    write(plan_of(photographs, tmp_path / "store"))
    convert_store(open_store(tmp_path / "store"), tmp_path / "converted", format="hdf5")
    assert write(plan_of(photographs, tmp_path / "converted"), "hdf5") == ([], [])
    change_an_image(photographs)
    assert write(plan_of(photographs, tmp_path / "converted"), "hdf5")[0] == ["040_a.png"]


def test_other_settings_are_refused_whatever_has_changed(photographs: Path, tmp_path: Path) -> None:
    write(plan_of(photographs, tmp_path / "store"))
    add_first(photographs)
    plan = plan_of(photographs, tmp_path / "store")
    with pytest.raises(UserError, match="dsap_size is 8, asked for 16; shard_rows is 32, asked for 64"):
        write(replace(plan, config=replace(CONFIG, dsap_size=16, shard_rows=64)))


def test_finding_what_to_do_writes_nothing(photographs: Path, tmp_path: Path) -> None:
    write(plan_of(photographs, tmp_path / "store"))
    add_last(photographs)
    before = contents(tmp_path)
    assert str(find_update(plan_of(photographs, tmp_path / "store"))).startswith(f"{tmp_path / 'store'}: 1 new")
    assert contents(tmp_path) == before
