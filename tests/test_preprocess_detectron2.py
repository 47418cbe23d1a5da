"""ESTIMATOR=detectron2 against the real Detectron2 and DensePose, with random weights from a seed."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from record_golden import random_state, smooth_noise

from data_catalog.errors import UserError
from data_catalog.records import ImageRecord
from data_catalog.schema import Split
from preprocess.batches import network_input, network_size
from preprocess.checkpoints import Architecture, architecture_of, check_keys, read_checkpoint
from preprocess.decode import ChartScores, decode
from preprocess.detectron2_densepose import Network, build_network, config_of, load_network, missing
from preprocess.detectron2_estimator import Detectron2Estimator, open_detectron2
from preprocess.estimator import Crop
from preprocess.weights import Weights, file_digest

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
    arrays = {key: value.numpy() for key, value in random_state(R_50, seed=0).items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "nobody"}, protocol=2))
    return path


@pytest.fixture(scope="module")
def estimator(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Detectron2Estimator:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DENSEREID_CACHE", str(tmp_path_factory.mktemp("cache")))
        return opened(checkpoint)


def opened(path: Path, **changes: Any) -> Detectron2Estimator:
    settings = {"mode": "crop", "short_edge": SHORT_EDGE, "precision": "fp32", "fallback": True, **changes}
    return open_detectron2(str(path), device="cpu", notify=lambda text: None, **settings)


@pytest.fixture(scope="module")
def network(estimator: Detectron2Estimator) -> Network:
    network = load_network(estimator.weights, R_50, "cpu")
    # Random weights find a hundred persons in everything, and a dense pose of each takes half a second.
    network.model.roi_heads.box_predictor.test_topk_per_image = 4
    return network


@pytest.fixture(scope="module")
def taken() -> list[Crop]:
    """Crops of smooth noise, three of them of one size."""
    records = [ImageRecord(f"{index}.jpg", 1, 1, Split.TRAIN) for index in range(len(SIZES))]
    return [Crop(record, smooth_noise(index, SIZES[index])) for index, record in enumerate(records)]


def one_at_a_time(network: Network, crop: Crop) -> Any:
    """Detectron2's own given-box output of one image: its augmentation, its inference, the box in network pixels."""
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.structures import Boxes, Instances

    bgr = crop.pixels[:, :, ::-1]
    image = ResizeShortestEdge([SHORT_EDGE, SHORT_EDGE], 1333).get_transform(bgr).apply_image(bgr)
    height, width = image.shape[:2]
    given = Instances((height, width))
    given.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, width, height]]))
    given.pred_classes = torch.zeros(1, dtype=torch.int64)
    tensor = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
    inputs = [{"image": tensor, "height": crop.pixels.shape[0], "width": crop.pixels.shape[1]}]
    with torch.no_grad():
        found = network.model.inference(inputs, detected_instances=[given], do_postprocess=False)
    return found[0].pred_densepose


def scores_of(output: Any) -> ChartScores:
    return ChartScores(output.coarse_segm, output.fine_segm, output.u, output.v)


def as_iuv(result: Any) -> np.ndarray:
    """Detectron2's labels and uv as our bytes: clamped, rounded, channels last."""
    uv = (255 * result.uv.clamp(0, 1)).round().to(torch.uint8)
    return torch.stack([result.labels.to(torch.uint8), uv[0], uv[1]], dim=-1).numpy()


def assert_same_scores(ours: ChartScores, theirs: ChartScores) -> None:
    for name in ("coarse", "fine", "u", "v"):
        expected = getattr(theirs, name)
        torch.testing.assert_close(getattr(ours, name), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the pixels whose part is the same and whose U and V differ by one at most."""
    same_part = first[..., 0] == second[..., 0]
    near = np.abs(first[..., 1:].astype(int) - second[..., 1:]).max(axis=-1) <= 1
    return float((same_part & near).mean())


@pytest.mark.parametrize("size", [(800, 800), (1, 1), (64, 128), (128, 64), (333, 77), (57, 60), (40, 400)])
@pytest.mark.parametrize("short_edge", [64, 256, 800])
def test_network_size_is_detectron2s(size: tuple[int, int], short_edge: int) -> None:
    from detectron2.data.transforms import ResizeShortestEdge

    assert network_size(*size, short_edge) == ResizeShortestEdge.get_output_shape(*size, short_edge, 1333)


@torch.no_grad()
def test_batched_whole_crops_equal_one_image_at_a_time(network: Network, taken: list[Crop]) -> None:
    alike = [crop for crop in taken if crop.pixels.shape == taken[0].pixels.shape]
    batch = network.scores(network.features(network_input(alike, (128, 64), "cpu")), [None] * len(alike))
    for index, crop in enumerate(alike):
        assert_same_scores(batch[index : index + 1], scores_of(one_at_a_time(network, crop)))


def test_charts_equal_one_image_at_a_time(estimator: Detectron2Estimator, network: Network, taken: list[Crop]) -> None:
    """Every crop of a mixed batch against Detectron2's output of that image alone and Detectron2's own converter."""
    from densepose.converters import ToChartResultConverter
    from detectron2.structures import Boxes

    charts = estimator.estimate(taken, (96, 48))
    assert charts.failures == {}
    for index, crop in enumerate(taken):
        box = Boxes(torch.tensor([[0.0, 0.0, 48, 96]]))
        expected = as_iuv(ToChartResultConverter.convert(one_at_a_time(network, crop), box))
        assert agreement(charts.iuv[index].numpy(), expected) >= 0.999
        assert 0 < np.count_nonzero(expected[..., 0]) < expected[..., 0].size
        np.testing.assert_array_equal(charts.box[index], [0, 0, crop.pixels.shape[1], crop.pixels.shape[0]])
        assert 0 < charts.score[index] < 1


@pytest.mark.parametrize("size", [(128, 64), (256, 128), (112, 112), (37, 301), (1, 1)])
def test_decoding_equals_detectron2s_converters_pixel_for_pixel(
    network: Network, taken: list[Crop], size: tuple[int, int]
) -> None:
    from densepose.converters import ToChartResultConverter
    from densepose.vis.extractor import DensePoseResultExtractor
    from detectron2.structures import Boxes, Instances

    output = one_at_a_time(network, taken[0])
    box = Boxes(torch.tensor([[0.0, 0.0, size[1], size[0]]]))
    ours = decode(scores_of(output), size)[0][0].numpy()
    np.testing.assert_array_equal(ours, as_iuv(ToChartResultConverter.convert(output, box)))
    instance = Instances(size, pred_boxes=box, pred_densepose=output)
    results, _ = DensePoseResultExtractor()(instance)
    np.testing.assert_array_equal(ours, as_iuv(results[0]))


def test_results_do_not_depend_on_the_batch_size(
    estimator: Detectron2Estimator, network: Network, taken: list[Crop]
) -> None:
    results = []
    for limit in (1, 2, 64):
        network.batch_limits = {network_size(*size, SHORT_EDGE): limit for size in SIZES}
        results.append(estimator.estimate(taken, (96, 48)))
    network.batch_limits = {}
    for other in results[1:]:
        assert agreement(results[0].iuv.numpy(), other.iuv.numpy()) >= 0.9999
        np.testing.assert_allclose(results[0].score, other.score, atol=1e-4)


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
    checkpoint: Path, estimator: Detectron2Estimator, network: Network, taken: list[Crop]
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
    estimator: Detectron2Estimator, network: Network, taken: list[Crop], monkeypatch: pytest.MonkeyPatch
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
    estimator: Detectron2Estimator, network: Network, taken: list[Crop], precision: str
) -> None:
    exact = estimator.estimate(taken[:1], (96, 48)).iuv.numpy()
    half = replace(estimator, precision=precision).estimate(taken[:1], (96, 48)).iuv.numpy()
    assert (exact[..., 0] == half[..., 0]).mean() > 0.8


def test_the_checkpoint_is_loaded_as_detectron2_loads_it(
    checkpoint: Path, estimator: Detectron2Estimator, network: Network
) -> None:
    from densepose.modeling.densepose_checkpoint import DensePoseCheckpointer

    torch.manual_seed(1)
    theirs = build_network(R_50, "cpu")
    DensePoseCheckpointer(theirs).load(str(checkpoint))
    ours = network.model.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.state_dict().items())
    assert estimator.settings()["config"] == "densepose_rcnn_R_50_FPN_s1x"
    assert pickle.loads(pickle.dumps(estimator)) == estimator


def test_a_pth_of_the_same_weights_loads(checkpoint: Path, network: Network, tmp_path: Path) -> None:
    torch.save({"model": network.model.state_dict(), "iteration": 5}, tmp_path / "model_final.pth")
    path = tmp_path / "model_final.pth"
    state = read_checkpoint(Weights(path, file_digest(path)))
    assert all(torch.equal(state[key], value) for key, value in network.model.state_dict().items())


class _Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_hostile_pickle_is_refused(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    content = pickle.loads(checkpoint.read_bytes())
    content["model"]["backbone.extra"] = _Hostile(tmp_path / "ran")
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
    model = build_network(architecture, "cpu")
    state = random_state(architecture, seed=0)
    assert architecture_of(state, Path("model.pkl")) == architecture
    check_keys(state, model.state_dict(), Path("model.pkl"))
    model.load_state_dict(state)
    network = Network(model)
    with torch.inference_mode():
        scores = network.scores(network.features(network_input(taken[:1], (128, 64), "cpu")), [None])
    assert_same_scores(scores, scores_of(one_at_a_time(network, taken[0])))
    assert scores.coarse.shape[1] == architecture.coarse_channels
    assert decode(scores, (96, 48))[0].shape == (1, 96, 48, 3)
