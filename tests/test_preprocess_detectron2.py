"""ESTIMATOR=detectron2 against the real Detectron2 and DensePose, with random weights from a seed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import Hostile, random_state, smooth_noise, weights_at, write_zoo_file
from detectron2_reference import agreement, as_iuv, converted, one_at_a_time, relative_error, scores_of

from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.preprocess.densepose.batching import network_input, network_size
from densereid.preprocess.densepose.checkpoints import Architecture, architecture_of, check_keys, read_checkpoint
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.densepose.detectron2_network import (
    Detectron2Network,
    build_detectron2,
    config_of,
    load_detectron2,
    missing,
)
from densereid.preprocess.estimators.detectron2 import Detectron2Estimator, open_detectron2
from densereid.preprocess.images import Crop

pytestmark = pytest.mark.detectron2
if (reason := missing()) is not None:
    pytest.skip(f"the real Detectron2 is not compared with: {reason}", allow_module_level=True)

SHORT_EDGE = 64
SIZES = ((128, 64), (90, 41), (128, 64), (57, 60), (128, 64))
R_50 = Architecture(50)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pkl as the model zoo writes them, of R_50_FPN_s1x with random weights."""
    path = tmp_path_factory.mktemp("weights") / "random.pkl"
    return write_zoo_file(path, random_state(build_detectron2(R_50, "cpu").state_dict(), seed=0))


@pytest.fixture(scope="module")
def estimator(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Detectron2Estimator:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DENSEREID_CACHE", str(tmp_path_factory.mktemp("cache")))
        return opened(checkpoint)


def opened(path: Path, **changes: Any) -> Detectron2Estimator:
    settings = {"mode": "crop", "short_edge": SHORT_EDGE, "precision": "fp32", "fallback": True, **changes}
    return open_detectron2(str(path), device="cpu", notify=lambda text: None, **settings)


@pytest.fixture(scope="module")
def network(estimator: Detectron2Estimator) -> Detectron2Network:
    network = load_detectron2(estimator.weights, R_50, "cpu")
    # Random weights find a hundred persons in everything, and a dense pose of each takes half a second.
    network.model.roi_heads.box_predictor.test_topk_per_image = 4
    return network


@pytest.fixture(scope="module")
def taken() -> list[Crop]:
    """Crops of smooth noise, three of them of one size."""
    records = [ImageRecord(f"{index}.jpg", 1, 1, Split.TRAIN) for index in range(len(SIZES))]
    return [Crop(record, smooth_noise(index, SIZES[index])) for index, record in enumerate(records)]


@pytest.mark.parametrize("size", [(800, 800), (1, 1), (64, 128), (128, 64), (333, 77), (57, 60), (40, 400)])
@pytest.mark.parametrize("short_edge", [64, 256, 800])
def test_network_size_is_detectron2s(size: tuple[int, int], short_edge: int) -> None:
    from detectron2.data.transforms import ResizeShortestEdge

    assert network_size(*size, short_edge) == ResizeShortestEdge.get_output_shape(*size, short_edge, 1333)


@torch.no_grad()
def test_batched_whole_crops_equal_one_image_at_a_time(network: Detectron2Network, taken: list[Crop]) -> None:
    alike = [crop for crop in taken if crop.pixels.shape == taken[0].pixels.shape]
    batch = network.scores(network.features(network_input(alike, (128, 64), "cpu")), [None] * len(alike))
    for index, crop in enumerate(alike):
        expected = scores_of(one_at_a_time(network.model, crop, SHORT_EDGE))
        assert relative_error(batch[index : index + 1], expected) < 1e-4


def test_charts_equal_one_image_at_a_time(
    estimator: Detectron2Estimator, network: Detectron2Network, taken: list[Crop]
) -> None:
    """Every crop of a mixed batch against Detectron2's output of that image alone and Detectron2's own converter."""
    charts = estimator.estimate(taken, (96, 48))
    assert charts.failures == {}
    for index, crop in enumerate(taken):
        expected = converted(one_at_a_time(network.model, crop, SHORT_EDGE), (96, 48))
        assert agreement(charts.iuv[index].numpy(), expected) >= 0.999
        assert 0 < np.count_nonzero(expected[..., 0]) < expected[..., 0].size
        np.testing.assert_array_equal(charts.box[index], [0, 0, crop.pixels.shape[1], crop.pixels.shape[0]])
        assert 0 < charts.score[index] < 1


@pytest.mark.parametrize("size", [(128, 64), (256, 128), (112, 112), (37, 301), (1, 1)])
def test_decoding_equals_detectron2s_converters_pixel_for_pixel(
    network: Detectron2Network, taken: list[Crop], size: tuple[int, int]
) -> None:
    from densepose.vis.extractor import DensePoseResultExtractor
    from detectron2.structures import Boxes, Instances

    output = one_at_a_time(network.model, taken[0], SHORT_EDGE)
    box = Boxes(torch.tensor([[0.0, 0.0, size[1], size[0]]]))
    ours = decode_charts(scores_of(output), size)[0][0].numpy()
    np.testing.assert_array_equal(ours, converted(output, size))
    instance = Instances(size, pred_boxes=box, pred_densepose=output)
    results, _ = DensePoseResultExtractor()(instance)
    np.testing.assert_array_equal(ours, as_iuv(results[0]))


@pytest.mark.parametrize("mode", ["crop", "detect"])
def test_results_depend_neither_on_the_threads_nor_on_the_other_crops(
    estimator: Detectron2Estimator, network: Detectron2Network, taken: list[Crop], mode: Any
) -> None:
    """Detectron2's model runs in several threads at once: the same bytes as one by one in one thread."""
    estimator = replace(estimator, mode=mode)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            results.append(estimator.estimate(taken, (96, 48)))
    finally:
        torch.set_num_threads(threads)
    alone = [estimator.estimate([crop], (96, 48)) for crop in taken]
    for other in results:
        np.testing.assert_array_equal(other.iuv.numpy(), np.concatenate([one.iuv.numpy() for one in alone]))
        np.testing.assert_array_equal(other.score, np.concatenate([one.score for one in alone]))
        np.testing.assert_array_equal(other.box, np.concatenate([one.box for one in alone]))


def chosen_slowly(instances: Any, size: tuple[int, int]) -> int:
    """The rule of choose_person, one detection at a time, on Detectron2's own output."""
    height, width = size
    weighted = []
    for box, score in zip(instances.pred_boxes.tensor.tolist(), instances.scores.tolist(), strict=True):
        away_x = (box[0] + box[2]) / 2 / width - 0.5
        away_y = (box[1] + box[3]) / 2 / height - 0.5
        weighted.append(score * np.exp(-(away_x**2 + away_y**2) / (2 * 0.25**2)))
    return int(np.argmax(weighted))


def test_detect_mode_equals_default_predictor(
    checkpoint: Path, estimator: Detectron2Estimator, network: Detectron2Network, taken: list[Crop]
) -> None:
    from densepose.vis.extractor import DensePoseResultExtractor
    from detectron2.engine import DefaultPredictor

    config = config_of(R_50, "cpu")
    config.merge_from_list(["INPUT.MIN_SIZE_TEST", SHORT_EDGE, "TEST.DETECTIONS_PER_IMAGE", 4])
    config.MODEL.WEIGHTS = str(checkpoint)
    predict = DefaultPredictor(config)
    detect = replace(estimator, mode="detect")
    for crop in taken[:2]:
        height, width = crop.pixels.shape[:2]
        theirs = predict(crop.pixels[:, :, ::-1])["instances"]
        assert len(theirs) > 1
        best = chosen_slowly(theirs, (height, width))
        ours = detect.estimate([crop, taken[2]], (height, width))
        np.testing.assert_allclose(ours.box[0], theirs.pred_boxes.tensor[best].numpy(), atol=1e-3)
        np.testing.assert_allclose(ours.score[0], float(theirs.scores[best]), rtol=1e-4)
        results, boxes = DensePoseResultExtractor()(theirs[[best]])
        x0, y0 = (int(edge) for edge in boxes[0, :2])
        part = as_iuv(results[0])
        expected = np.zeros((height, width, 3), np.uint8)
        expected[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
        assert part.shape[:2] != (height, width)
        assert agreement(ours.iuv[0].numpy(), expected) >= 0.999
        assert expected[..., 0].any()


def test_without_a_detection_the_whole_crop_is_taken(
    estimator: Detectron2Estimator, network: Detectron2Network, taken: list[Crop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network.model.roi_heads.box_predictor, "test_score_thresh", 2.0)
    whole = estimator.estimate(taken[:2], (96, 48))
    fallen = replace(estimator, mode="detect").estimate(taken[:2], (96, 48))
    assert agreement(fallen.iuv.numpy(), whole.iuv.numpy()) == 1
    np.testing.assert_array_equal(fallen.box, whole.box)
    nobody = replace(estimator, mode="detect", fallback=False).estimate(taken[:2], (96, 48))
    assert not nobody.iuv.any()
    assert nobody.score.tolist() == [0, 0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_runs_and_stays_near(
    estimator: Detectron2Estimator, network: Detectron2Network, taken: list[Crop], precision: str
) -> None:
    exact = estimator.estimate(taken[:1], (96, 48)).iuv.numpy()
    half = replace(estimator, precision=precision).estimate(taken[:1], (96, 48)).iuv.numpy()
    assert (exact[..., 0] == half[..., 0]).mean() > 0.8


def test_the_checkpoint_is_loaded_as_detectron2_loads_it(
    checkpoint: Path, estimator: Detectron2Estimator, network: Detectron2Network
) -> None:
    from densepose.modeling.densepose_checkpoint import DensePoseCheckpointer

    torch.manual_seed(1)
    theirs = build_detectron2(R_50, "cpu")
    DensePoseCheckpointer(theirs).load(str(checkpoint))
    ours = network.model.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.state_dict().items())
    assert estimator.settings()["config"] == "densepose_rcnn_R_50_FPN_s1x"
    assert pickle.loads(pickle.dumps(estimator)) == estimator


def test_a_pth_of_the_same_weights_loads(checkpoint: Path, network: Detectron2Network, tmp_path: Path) -> None:
    torch.save({"model": network.model.state_dict(), "iteration": 5}, tmp_path / "model_final.pth")
    path = tmp_path / "model_final.pth"
    state = read_checkpoint(weights_at(path))
    assert all(torch.equal(state[key], value) for key, value in network.model.state_dict().items())


def test_a_hostile_pickle_is_refused(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    content = pickle.loads(checkpoint.read_bytes())
    content["model"]["backbone.extra"] = Hostile(tmp_path / "ran")
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"asks for posix\.system"):
        opened(tmp_path / "hostile.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(101),
        Architecture(50, deeplab=True),
        Architecture(101, deeplab=True),
        Architecture(50, True, "indep_aniso", True),
        Architecture(50, uv_confidence="iid_iso"),
        Architecture(50, decoder=False, coarse_channels=15),
    ],
    ids=lambda architecture: architecture.name,
)
def test_a_real_network_is_told_from_its_keys_and_gives_charts(architecture: Architecture, taken: list[Crop]) -> None:
    model = build_detectron2(architecture, "cpu").eval()
    state = random_state(model.state_dict(), seed=0)
    assert architecture_of(state, Path("model.pkl")) == architecture
    check_keys(state, model.state_dict(), Path("model.pkl"))
    model.load_state_dict(state)
    network = Detectron2Network(model)
    with torch.inference_mode():
        scores = network.scores(network.features(network_input(taken[:1], (128, 64), "cpu")), [None])
    assert relative_error(scores, scores_of(one_at_a_time(network.model, taken[0], SHORT_EDGE))) < 1e-4
    assert scores.coarse.shape[1] == architecture.coarse_channels
    assert decode_charts(scores, (96, 48))[0].shape == (1, 96, 48, 3)


@pytest.mark.parametrize("layer", ["proposal_generator.rpn_head.anchor_deltas", "roi_heads.box_predictor.cls_score"])
def test_a_detector_that_overflows_is_an_error_not_an_empty_image(layer: str, taken: list[Crop]) -> None:
    """Detectron2 itself drops what is not finite, and then finds nobody."""
    network = Detectron2Network(build_detectron2(Architecture(50, width=16), "cpu"))
    network.model.load_state_dict(random_state(network.model.state_dict(), seed=0))
    features = network.features(network_input(taken[:1], (128, 64), "cpu"))
    with torch.inference_mode():
        network.detect(features, [taken[0].size])
        network.model.get_submodule(layer).bias.fill_(torch.inf)
        with pytest.raises(FloatingPointError, match=r"^detector$"):
            network.detect(features, [taken[0].size])
