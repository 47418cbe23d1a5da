"""ESTIMATOR=detectron2 around its network, with a network of our own in its place: nothing here needs Detectron2."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.pipeline.estimators import choose_estimator
from densereid.pipeline.store_request import StoreRequest
from densereid.preprocess.densepose.batching import Size, run_in_batches
from densereid.preprocess.densepose.checkpoints import Architecture
from densereid.preprocess.densepose.decode import ChartScores, decode_charts
from densereid.preprocess.densepose.detectron2_network import Detection, choose_person
from densereid.preprocess.densepose.weights import Weights
from densereid.preprocess.estimators import detectron2 as module
from densereid.preprocess.estimators import network_estimator as densepose_crops
from densereid.preprocess.estimators.detectron2 import Detectron2Estimator, open_detectron2
from densereid.preprocess.images import Crop

SIZE = (32, 16)


class FakeNetwork:
    """Scores that depend on nothing but an image's own blue value; out of memory above ``room`` images."""

    def __init__(self, room: int = 100, found: Detection | None = None) -> None:
        self.batch_limits: dict[Size, int] = {}
        self.room = room
        self.found = found
        self.batches: list[int] = []

    def features(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.batches.append(len(images))
        return images

    def scores(self, images: torch.Tensor, boxes: Sequence[torch.Tensor | None]) -> ChartScores:
        self.boxes = list(boxes)
        return ChartScores(*(torch.cat(maps) for maps in zip(*map(scores_of, images), strict=True)))

    def detect(self, images: torch.Tensor, sizes: Sequence[Size]) -> list[Detection | None]:
        return [self.found if image[0].mean() < 128 else None for image in images]


def scores_of(image: torch.Tensor) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(int(image[0].mean()))
    return [torch.randn(1, channels, 7, 5, generator=generator) for channels in (2, 25, 25, 25)]


def crop(blue: int, size: tuple[int, int] = (64, 32)) -> Crop:
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., 2] = blue
    return Crop(ImageRecord(f"{blue}.jpg", 1, 1, Split.TRAIN), pixels)


CROPS = [crop(blue, size) for blue, size in ((10, (64, 32)), (20, (50, 30)), (30, (64, 32)), (40, (64, 32)))]
CROPS += [crop(200), crop(50, (128, 64))]


def expected(blue: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    image = torch.full((3, 2, 2), float(blue))
    iuv: np.ndarray = decode_charts(ChartScores(*scores_of(image)), size)[0][0].numpy()
    return iuv


@pytest.fixture
def estimator() -> Detectron2Estimator:
    weights = Weights(Path("model.pkl"), "0" * 64)
    return Detectron2Estimator(weights, Architecture(50), device="cpu", short_edge=32, precision="fp32", mode="crop")


@pytest.fixture(autouse=True)
def _batches_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(*arguments: Any, device: str, **others: Any) -> Any:
        return run_in_batches(*arguments, device="cuda", **others)

    monkeypatch.setattr(densepose_crops, "run_in_batches", batches)


def use(network: FakeNetwork, monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    monkeypatch.setattr(module, "load_detectron2", lambda *_: network)
    return network


@pytest.mark.parametrize("room", [1, 2, 100])
def test_every_crop_gets_its_own_chart_whatever_fits_into_memory(
    estimator: Detectron2Estimator, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    network = use(FakeNetwork(room), monkeypatch)
    charts = estimator.estimate(CROPS, SIZE)
    for index, one in enumerate(CROPS):
        np.testing.assert_array_equal(charts.iuv[index].numpy(), expected(int(one.pixels[0, 0, 2])))
        np.testing.assert_array_equal(charts.box[index], [0, 0, one.pixels.shape[1], one.pixels.shape[0]])
    assert (charts.score > 0).all()
    assert max(network.batches) == min(room, 5)  # five of the six enter the network at one size
    assert sum(network.batches) == len(CROPS)


def test_a_detection_is_pasted_at_its_place_and_the_rest_falls_back(
    estimator: Detectron2Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Detection(torch.tensor([4.0, 8, 28, 60]), torch.tensor([4.0, 8, 28, 60]), 0.75)
    network = use(FakeNetwork(found=found), monkeypatch)
    detect = replace(estimator, mode="detect")
    charts = detect.estimate([crop(10), crop(200)], SIZE)
    assert network.boxes[0] is found.network_box
    assert network.boxes[1] is None
    image = np.zeros((*SIZE, 3), np.uint8)
    image[4:30, 2:14] = expected(10, (26, 12))
    np.testing.assert_array_equal(charts.iuv[0].numpy(), image)
    np.testing.assert_array_equal(charts.box, [[4, 8, 28, 60], [0, 0, 32, 64]])
    assert charts.score[0] == np.float32(0.75)
    np.testing.assert_array_equal(charts.iuv[1].numpy(), expected(200))
    alone = replace(detect, fallback=False).estimate([crop(10), crop(200)], SIZE)
    np.testing.assert_array_equal(alone.iuv[0].numpy(), image)
    assert not alone.iuv[1].any()
    assert alone.score[1] == 0
    assert charts.is_fallback is not None
    assert alone.is_fallback is not None
    assert (charts.is_fallback.tolist(), alone.is_fallback.tolist()) == ([False, True], [False, False])
    assert estimator.estimate([crop(10)], SIZE).is_fallback is None


@pytest.mark.parametrize("mode", ["crop", "detect"])
def test_charts_that_are_not_finite_are_an_error(
    estimator: Detectron2Estimator, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Also of an image in which nothing is detected and nothing is to be used in its place."""
    network = use(FakeNetwork(), monkeypatch)
    broken = ChartScores(*(torch.full((2, channels, 7, 5), torch.nan) for channels in (2, 25, 25, 25)))
    monkeypatch.setattr(network, "scores", lambda *_: broken)
    asked = replace(estimator, mode=mode, fallback=False, precision="bf16")
    with pytest.raises(UserError, match=r"PRECISION=bf16 .* charts for one of 2 images from 10.jpg on(.|\n)*fp32"):
        asked.estimate([crop(10), crop(200)], SIZE)


def test_the_person_is_the_largest_score_times_centre_prior() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 20], [12, 20, 36, 76], [10, 10, 40, 90], [60, 10, 60, 90]])
    scores = torch.tensor([0.9, 0.5, 0.5, 1.0])
    chosen = choose_person(boxes, scores, (96, 48), (192, 96))
    assert chosen is not None
    assert chosen.network_box.tolist() == [12, 20, 36, 76]  # exactly in the middle; the best score lies in a corner
    assert chosen.box.tolist() == [24, 40, 72, 152]
    assert chosen.score == 0.5
    assert choose_person(boxes[3:], scores[3:], (96, 48), (192, 96)) is None  # outside, without area
    assert choose_person(boxes[:0], scores[:0], (96, 48), (192, 96)) is None
    twice = torch.stack([boxes[1], boxes[1]])
    first = choose_person(twice, torch.tensor([0.5, 0.5]), (96, 48), (96, 48))
    assert first is not None
    assert first.network_box.data_ptr() == twice[0].data_ptr()


def test_settings_are_all_that_changes_the_result(estimator: Detectron2Estimator) -> None:
    assert pickle.loads(pickle.dumps(estimator)) == estimator
    plain = estimator.settings()
    assert plain == {
        "config": "densepose_rcnn_R_50_FPN_s1x",
        "weights_sha256": "0" * 64,
        "mode": "crop",
        "short_edge": 32,
        "precision": "fp32",
        "versions": {},
    }
    changes: list[dict[str, Any]] = [{"mode": "detect"}, {"short_edge": 800}, {"precision": "bf16"}]
    changes += [{"architecture": Architecture(101)}, {"weights": Weights(Path("model.pkl"), "1" * 64)}]
    for change in changes:
        assert replace(estimator, **change).settings() != plain
    assert replace(estimator, device="cuda:0", fallback=False).settings() == plain
    detect = replace(estimator, mode="detect")
    assert replace(detect, fallback=False).settings() != detect.settings()


def request_for(root: Path, **changes: Any) -> StoreRequest:
    return StoreRequest(
        dataset="folder", data_root=root, store_root=root / "stores", store="zarr", size=(64, 32), dsap_size=32,
        collision="last", iuv_root=None, iuv_order="auto", pattern=None, shard_rows=32, device="cpu", workers=0,
        **{"estimator": "auto", **changes},
    )  # fmt: skip


def test_auto_takes_iuv_maps_then_detectron2_and_else_lists_the_choices(
    crops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def opened(weights: str, **settings: Any) -> str:
        asked.update(settings, weights=weights)
        return "the estimator"

    with_maps = find_dataset("folder", crops)
    without = replace(with_maps, iuv_root=None)
    monkeypatch.setattr("densereid.preprocess.estimators.detectron2.open_detectron2", opened)
    monkeypatch.setattr("densereid.preprocess.densepose.detectron2_network.missing", lambda: None)
    assert choose_estimator(request_for(crops), with_maps, "cpu")[0].name == "iuv"
    assert not asked
    given = {"weights": "R_101_FPN_s1x", "mode": "detect", "short_edge": 99, "precision": "bf16", "no_fallback": True}
    chosen, why = choose_estimator(request_for(crops, **given), without, "cuda:3")
    assert (chosen, why) == (
        "the estimator",
        "there are no IUV maps, WEIGHTS and MODE and SHORT_EDGE and NO_FALLBACK asked for, and Detectron2 is installed",
    )
    given["fallback"] = not given.pop("no_fallback")
    assert asked.items() >= {**given, "device": "cuda:3"}.items()
    assert choose_estimator(request_for(crops, estimator="detectron2"), with_maps, "cpu") == (chosen, "asked for")

    def no_weights(*_: Any, **__: Any) -> None:
        raise UserError("the weights are not on this machine", "get them elsewhere")

    monkeypatch.setattr("densereid.preprocess.estimators.detectron2.open_detectron2", no_weights)
    with pytest.raises(UserError, match=r"^the weights are not on this machine\nget them elsewhere\nOr take [^\n]*$"):
        choose_estimator(request_for(crops, weights="R_101_FPN_s1x"), without, "cpu")


def test_without_detectron2_its_guide_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "missing", lambda: "densepose cannot be imported: No module named 'densepose'")
    with pytest.raises(UserError) as caught:
        open_detectron2(
            "R_50_FPN_s1x", device="cpu", mode="crop", short_edge=256, precision="fp32", fallback=True, notify=print
        )
    assert "densepose cannot be imported: No module named 'densepose'" in caught.value.problem
    assert "detectron2/blob/main/INSTALL.md" in caught.value.remedy
    assert "projects/DensePose" in caught.value.remedy


def test_a_reduced_crop_has_its_box_in_the_files_own_pixels(
    estimator: Detectron2Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(FakeNetwork(), monkeypatch)
    charts = estimator.estimate([replace(crop(10), file_size=(640, 320))], SIZE)
    np.testing.assert_array_equal(charts.box[0], [0, 0, 320, 640])
    np.testing.assert_array_equal(charts.iuv[0].numpy(), expected(10))
