"""A run: images to rows, failures told, nothing lost when it is killed, the same store whoever computes it."""

from __future__ import annotations

import csv
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
from cluster_estimators import TakesWhole
from forked import start_forked
from helpers import contents
from PIL import Image

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Status, unpack_validity
from densereid.data_catalog.store.store import FORMATS, open_store
from densereid.pipeline.commands.status import find_stores
from densereid.preprocess.images import read_image
from densereid.preprocess.writing.fill import Progress, fill_shard
from densereid.preprocess.writing.plan import Plan, prepare

Fill = Callable[[Plan, str], None]


def test_rows_hold_the_image_its_mask_and_its_dsap(
    crops: Path, tmp_path: Path, make_plan: Callable[..., Plan], fill: Fill
) -> None:
    plan = make_plan(crops, tmp_path / "store", "folder", size=(40, 20))
    fill(plan, "zarr")
    store = open_store(tmp_path / "store")
    image, iuv = store.read("image"), store.read("iuv")
    np.testing.assert_array_equal(image[0], read_image(crops / "0001_c1.png"))  # it has the canonical size already
    for index in range(5):
        np.testing.assert_array_equal(store.read("mask")[index], reference.mask_from_iuv(iuv[index]))
        dsap, valid = reference.dsap_from_iuv(image[index], iuv[index], 32, "last")
        np.testing.assert_array_equal(store.read("dsap")[index], dsap)
        np.testing.assert_array_equal(unpack_validity(store.read("dsap_valid"))[index], valid)
    assert (store.read("status") == Status.OK).all()


def test_failures_are_told_and_do_not_stop_the_others(
    crops: Path, tmp_path: Path, make_plan: Callable[..., Plan], fill: Fill
) -> None:
    (crops / "0002_c2.png").write_bytes(b"")
    broken = (crops / "0003_c1.png").read_bytes()
    (crops / "0003_c1.png").write_bytes(broken[: len(broken) // 2])
    (crops / "iuv" / "0004_c2_IUV.png").unlink()
    Image.fromarray(np.zeros((44, 24, 3), np.uint8)).save(crops / "iuv" / "0005_c1_IUV.png")
    fill(make_plan(crops, tmp_path / "store", "folder"), "hdf5")
    store = open_store(tmp_path / "store")
    assert store.read("status").tolist() == [Status.OK, Status.FAILED, Status.FAILED, Status.FAILED, Status.NO_PERSON]
    assert not store.read("mask")[1:].any()
    assert not store.read("dsap_valid")[1:].any()
    with (tmp_path / "store" / "failures.csv").open(newline="") as file:
        failures = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert list(failures) == ["0002_c2.png", "0003_c1.png", "0004_c2.png"]
    assert "cannot be read as an image (0 bytes)" in failures["0002_c2.png"]
    assert "truncated" in failures["0003_c1.png"]
    assert "no IUV map" in failures["0004_c2.png"]


_KILLED_RUN = """
from pathlib import Path
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.plan import Plan, PreprocessConfig, prepare
from densereid.preprocess.writing.fill import fill_store
dataset = find_dataset("synthetic", Path({data!r}))
config = PreprocessConfig(size=(64, 32), dsap_size=32, collision="last", shard_rows=32, batch_size=16)
plan = Plan(dataset, Path({store!r}), open_iuv(dataset), config)
shards = prepare(plan, format={format!r})
print("started", flush=True)
fill_store(plan, shards)
"""


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_killed_run_goes_on_to_an_identical_store(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], format: str
) -> None:
    """SIGKILL at random moments, until the run has survived; then every byte is that of an uninterrupted run."""
    path = tmp_path / "store"
    code = _KILLED_RUN.format(data=str(synthetic_root), store=str(path), format=format)
    moments = random.Random(format)
    kills = 0
    for patience in (0.0, 0.05, 0.15, 0.3, 60.0):
        said = tmp_path / "said"
        said.unlink(missing_ok=True)
        process = start_forked(code, output=said)
        while not (said.exists() and said.read_text() == "started\n"):
            assert process.is_alive(), said.read_text()
            time.sleep(0.005)
        process.join(patience * moments.uniform(0.5, 1.0))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert kills >= 1
    expected = contents(stores[format])
    expected.pop("failures.csv")
    assert contents(path) == expected


def test_a_torn_shard_is_redone(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], make_plan: Callable[..., Plan], fill: Fill
) -> None:
    """A shard without its marker does not count, whatever its arrays hold; leftovers are cleared."""
    path = tmp_path / "store"
    shutil.copytree(stores["zarr"], path)
    (path / "shards" / "00001.json").unlink()
    torn = path / "mask" / "c" / "1" / "0" / "0"
    torn.write_bytes(torn.read_bytes()[:100])
    (torn.parent / "0.abc.partial").write_bytes(b"left behind")
    fill(make_plan(synthetic_root, path), "zarr")
    assert contents(path) == contents(stores["zarr"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dsap_size": 16}, "dsap_size is 32, asked for 16"),
        ({"collision": "mean"}, "collision is last, asked for mean"),
    ],
)
def test_going_on_with_other_settings_is_refused(
    synthetic_root: Path,
    stores: dict[str, Path],
    make_plan: Callable[..., Plan],
    change: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        prepare(make_plan(synthetic_root, stores["zarr"], **change), format="zarr")


def test_one_shard_can_be_computed_alone_and_only_it_counts(
    synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan]
) -> None:
    """The unit of work that a cluster's worker gets: its totals come back, its rows do not."""
    plan = make_plan(synthetic_root, tmp_path / "store")
    shards = prepare(plan, format="zarr")
    result = fill_shard(plan.task(shards[0]))
    assert result == Progress(images=32, failed=0, no_person=result.no_person)
    assert open_store(plan.path, incomplete=True).missing_shards() == shards[1:]


def test_images_taken_whole_are_counted_with_their_shard(
    synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan], fill: Fill
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store.zarr")
    paths = frozenset(plan.dataset.records[index].path for index in (0, 5, 40))
    fill(replace(plan, estimator=TakesWhole(plan.estimator, paths)), "zarr")  # type: ignore[arg-type]
    assert [marker["taken_whole"] for marker in open_store(plan.path).markers().values()] == [2, 1, 0]
    (facts,) = find_stores(tmp_path)
    assert (facts["fallbacks"], facts["failed"]) == (3, 0)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "gray.png"), ("CMYK", "cmyk.jpg"), ("P", "palette.png"), ("RGBA", "alpha.png")],
)
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str, name: str) -> None:
    image = Image.new("RGB", (10, 20), (200, 200, 200))
    (image.quantize() if mode == "P" else image.convert(mode)).save(tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert pixels.shape == (20, 10, 3)
    assert np.abs(pixels.astype(int) - 200).max() <= 4


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (10, 20))
    image.putpixel((0, 0), (255, 0, 0))
    exif = image.getexif()
    exif[274] = 6  # rotate by 90 degrees clockwise to show
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = read_image(tmp_path / "turned.png")
    assert pixels.shape == (10, 20, 3)
    assert tuple(pixels[0, -1]) == (255, 0, 0)


def test_dataset_of_the_rendered_pedestrians_round_trips_exactly(
    tmp_path: Path, make_plan: Callable[..., Plan], fill: Fill
) -> None:
    """Warping a rendered image by its ground-truth IUV gives back the identity's own texture at every visible texel."""
    from helpers import exact_config

    from densereid.data_catalog.synthetic.dataset import write_dataset
    from densereid.data_catalog.synthetic.sample import identity_texture

    config = exact_config(train_identities=3, test_identities=1, images_per_identity=4, distractors=0, junk=0)
    write_dataset(tmp_path / "data" / "synthetic", config)
    fill(make_plan(tmp_path / "data", tmp_path / "store", size=(config.height, config.width)), "zarr")
    store = open_store(tmp_path / "store")
    dsap, valid = store.read("dsap"), unpack_validity(store.read("dsap_valid"))
    assert valid.any(axis=(1, 2, 3)).all()
    for index, person_id in enumerate(store.read("person_id")):
        texture = identity_texture(config, int(person_id))
        np.testing.assert_array_equal(dsap[index][valid[index]], texture[valid[index]])


def test_order_of_the_file_system_does_not_matter(synthetic_root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "synthetic"
    files = [path for path in (synthetic_root / "synthetic").rglob("*") if path.is_file()]
    random.Random(0).shuffle(files)
    for path in files:
        target = copy / path.relative_to(synthetic_root / "synthetic")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    assert find_dataset("synthetic", tmp_path).records == find_dataset("synthetic", synthetic_root).records
