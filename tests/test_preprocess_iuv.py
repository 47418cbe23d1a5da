"""ESTIMATOR=iuv: maps in either channel order, of the image or of a box; everything wrong with one is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import random_iuv

from densereid.data_catalog.datasets.iuv_files import iuv_path
from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.errors import UserError
from densereid.preprocess.estimators import iuv
from densereid.preprocess.estimators.iuv import IuvEstimator, detect_order, open_iuv
from densereid.preprocess.images import Crop, read_image


def crops_of(dataset: Dataset) -> list[Crop]:
    return [Crop(record, read_image(dataset.root / record.path)) for record in dataset.records]


def stored(dataset: Dataset, index: int) -> np.ndarray:
    stem = Path(dataset.records[index].path).stem
    with Image.open(dataset.root / "iuv" / f"{stem}_IUV.png") as image:
        return np.asarray(image)


@pytest.mark.parametrize("order", ["vui", "iuv"])
def test_both_channel_orders_are_recognised_and_read(crops: Path, order: str) -> None:
    dataset = find_dataset("folder", crops)
    if order == "iuv":
        for path in (crops / "iuv").iterdir():
            Image.fromarray(np.ascontiguousarray(np.asarray(Image.open(path))[..., ::-1])).save(path)
    estimator = open_iuv(dataset)
    assert estimator.order == order
    expected = stored(dataset, 0) if order == "iuv" else stored(dataset, 0)[..., ::-1]
    charts = estimator.estimate(crops_of(dataset)[:1], expected.shape[:2])
    np.testing.assert_array_equal(charts.iuv[0].numpy(), expected)
    np.testing.assert_array_equal(charts.box[0], [0, 0, expected.shape[1], expected.shape[0]])
    assert charts.failures == {}


def test_resizing_a_map_makes_no_part_that_was_not_there(crops: Path) -> None:
    """Nearest, never bilinear on part numbers: every resized pixel is one of the map's own pixels."""
    dataset = find_dataset("folder", crops)
    charts = open_iuv(dataset).estimate(crops_of(dataset), (97, 53))
    for index in range(len(dataset.records)):
        own = {tuple(pixel) for pixel in stored(dataset, index)[..., ::-1].reshape(-1, 3)}
        assert {tuple(pixel) for pixel in charts.iuv[index].numpy().reshape(-1, 3)} <= own


def test_a_box_map_is_pasted_at_its_corner_and_cut_at_the_border(crops: Path) -> None:
    dataset = find_dataset("folder", crops)
    record = dataset.records[0]
    image = read_image(crops / record.path)
    height, width = image.shape[:2]
    iuv = random_iuv(np.random.default_rng(0), 12, 10)
    Image.fromarray(np.ascontiguousarray(iuv[..., ::-1])).save(crops / "iuv" / f"{Path(record.path).stem}_IUV.png")
    (crops / "iuv" / "boxes.csv").write_text(f"path,x0,y0\n{record.path},{width - 6},-2\n")
    charts = open_iuv(dataset).estimate([Crop(record, image)], (height, width))
    expected = np.zeros((height, width, 3), np.uint8)
    for y in range(12):
        for x in range(10):
            if 0 <= y - 2 < height and 0 <= x + width - 6 < width:
                expected[y - 2, x + width - 6] = iuv[y, x]
    np.testing.assert_array_equal(charts.iuv[0].numpy(), expected)
    np.testing.assert_array_equal(charts.box[0], [width - 6, -2, width + 4, 10])


def test_a_map_of_another_size_is_a_failure_that_names_both_sizes(crops: Path) -> None:
    dataset = find_dataset("folder", crops)
    stem = Path(dataset.records[1].path).stem
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(crops / "iuv" / f"{stem}_IUV.png")
    charts = open_iuv(dataset).estimate(crops_of(dataset), (32, 16))
    assert list(charts.failures) == [1]
    assert "is 9x9, its image" in charts.failures[1]
    assert "boxes.csv" in charts.failures[1]
    assert not charts.iuv[1].any()
    assert charts.iuv[0].any()


def test_missing_unreadable_and_wrong_maps_are_failures(crops: Path) -> None:
    dataset = find_dataset("folder", crops)
    names = [crops / "iuv" / f"{Path(record.path).stem}_IUV.png" for record in dataset.records]
    names[0].unlink()
    names[1].write_bytes(names[1].read_bytes()[:50])
    Image.new("L", (20, 40)).save(names[2])
    wrong = np.asarray(Image.open(names[3])).copy()
    wrong[0, 0, 2] = 200
    Image.fromarray(wrong).save(names[3])
    charts = IuvEstimator(crops / "iuv", "vui").estimate(crops_of(dataset), (32, 16))
    assert sorted(charts.failures) == [0, 1, 2, 3]
    for index, words in enumerate(("no IUV map for", "cannot be read", "is L of uint8; an IUV map", "goes up to 200")):
        assert words in charts.failures[index]


def rewritten(folder: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    for path in folder.glob("*.png"):
        change(Image.open(path)).save(path, "PNG")


def test_an_alpha_that_says_nothing_is_left_out_and_another_is_named(crops: Path) -> None:
    dataset = find_dataset("folder", crops)
    expected = open_iuv(dataset).estimate(crops_of(dataset), (32, 16)).iuv
    rewritten(crops / "iuv", lambda image: image.convert("RGBA"))
    charts = open_iuv(dataset).estimate(crops_of(dataset), (32, 16))
    assert (charts.failures, charts.iuv.equal(expected)) == ({}, True)

    def with_shape(image: Image.Image) -> Image.Image:
        image.putalpha(image.getchannel("B").point(lambda value: 255 if value else 0))
        return image

    rewritten(crops / "iuv", with_shape)
    with pytest.raises(
        UserError, match=r"none of the IUV maps .* can be used; the first: .*png is RGBA of uint8, whose"
    ):
        open_iuv(dataset)
    charts = IuvEstimator(crops / "iuv", "vui").estimate(crops_of(dataset), (32, 16))
    assert len(charts.failures) == len(dataset.records)
    assert (
        "alpha, is not the same everywhere; an IUV map has three 8-bit channels, I, U and V (RGB)" in charts.failures[0]
    )


def test_a_map_that_was_blended_is_a_failure_with_the_remedy(synthetic_root: Path) -> None:
    dataset = find_dataset("synthetic", synthetic_root)
    record = dataset.records[0]
    crop = Crop(record, read_image(dataset.root / record.path))
    assert dataset.iuv_root is not None
    path = iuv_path(dataset.iuv_root, record.path)
    assert path is not None
    estimator = open_iuv(dataset)
    with Image.open(path) as image:
        small = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.NEAREST)
        whole = image.size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iuv, "_read_png", lambda _: np.asarray(small.resize(whole, Image.Resampling.BILINEAR)))
        charts = estimator.estimate([crop], (64, 32))
    assert "parts lie between those of their neighbours; it is no map of DensePose any more" in charts.failures[0]
    assert "INTER_NEAREST" in charts.failures[0]
    assert estimator.estimate([crop], (64, 32)).failures == {}


def test_jpegs_are_named_as_such(crops: Path, synthetic_root: Path) -> None:
    """A JPEG under the name of a PNG, and a PNG of what was a JPEG, in which no channel stays within 24."""
    dataset = find_dataset("folder", crops)
    for path in (crops / "iuv").iterdir():
        Image.open(path).save(path, "JPEG")
    charts = IuvEstimator(crops / "iuv", "vui").estimate(crops_of(dataset), (32, 16))
    assert "is a JPEG, whatever its name: that changes part numbers" in charts.failures[0]
    for path in (synthetic_root / "synthetic" / "iuv").rglob("*.png"):
        Image.open(path).save(crops / "iuv" / "a.jpg", quality=60)
        Image.open(crops / "iuv" / "a.jpg").save(crops / "iuv" / "a.png")
        break
    with pytest.raises(UserError, match=r"cannot be recognised: .*a.png was resized by mixing pixels, or compressed"):
        detect_order([crops / "iuv" / "a.png"])


def test_an_order_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"cannot be recognised(.|\n)*IUV_ORDER=vui"):
        detect_order([tmp_path / "a.png"])


def test_a_dataset_without_maps_names_the_ways_to_have_them(crops: Path) -> None:
    for path in (crops / "iuv").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"has no IUV maps(.|\n)*IUV_ROOT"):
        open_iuv(find_dataset("folder", crops))


@pytest.mark.parametrize(
    ("text", "message"), [("name,x,y\n", "expected path, x0, y0"), ("path,x0,y0\na.png,left,2\n", "whole pixels")]
)
def test_a_wrong_box_list_is_explained(crops: Path, text: str, message: str) -> None:
    (crops / "iuv" / "boxes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        open_iuv(find_dataset("folder", crops))
