"""The embedded network: its limits, its outputs, its file of weights, and the estimator around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from densepose_samples import smooth_noise

from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.densepose.precision import Precision, type_of
from densereid.preprocess.densepose.weights import Weights
from densereid.preprocess.embedded.bilateral import ALIKE, NEAR, SPACING, STRENGTH, follow_image
from densereid.preprocess.embedded.both_sides import scores_of_both_sides
from densereid.preprocess.embedded.foreground import TEMPERATURE, maximise_expected_iou
from densereid.preprocess.embedded.network import STRIDE, EmbeddedNetwork, fused
from densereid.preprocess.embedded.weights import digest, read_metadata, read_weights, write_weights
from densereid.preprocess.estimators.embedded import EmbeddedEstimator, input_size, open_embedded
from densereid.preprocess.images import Crop, resize_image


def _network(seed: int = 0) -> EmbeddedNetwork:
    torch.manual_seed(seed)
    network = EmbeddedNetwork()
    for name, buffer in network.named_buffers():  # as after a training, not as after construction
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embedded") / "weights.safetensors"
    write_weights(path, _network(), {"seed": 3, "scores": {"foreground_iou": 0.5}})
    return path


def test_the_network_has_at_most_three_million_parameters_and_six_megabytes(weights: Path) -> None:
    assert sum(parameter.numel() for parameter in EmbeddedNetwork().parameters()) <= 3_000_000
    assert weights.stat().st_size <= 6_000_000


@pytest.mark.parametrize("size", [(128, 64), (96, 96), (64, 160)])
def test_scores_are_those_of_a_chart_head_at_half_the_size(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        scores = _network()(torch.rand(2, 3, *size) * 255)
    half = (size[0] // 2, size[1] // 2)
    assert [tuple(each.shape) for each in scores.all()] == [(2, channels, *half) for channels in (2, 25, 25, 25)]


def test_fused_layers_give_the_same_scores() -> None:
    network, images = _network(), torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        plain, faster = network(images), fused(network)(images)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused(network).modules())
    for one, other in zip(plain.all(), faster.all(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_weights_come_back_in_half_precision_with_their_metadata(weights: Path) -> None:
    read, written = read_weights(weights, digest(weights)).state_dict(), _network().state_dict()
    for name, value in written.items():
        assert torch.equal(read[name], value.half().float() if value.is_floating_point() else value)
    assert read_metadata(weights) == {"seed": 3, "scores": {"foreground_iou": 0.5}}


def test_equal_weights_have_equal_bytes(weights: Path, tmp_path: Path) -> None:
    again = write_weights(tmp_path / "again", _network(), {"scores": {"foreground_iou": 0.5}, "seed": 3})
    assert again == digest(weights)


def test_damaged_weights_are_refused_with_both_digests(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, expected = tmp_path / "weights.safetensors", digest(weights)
    monkeypatch.setattr("densereid.preprocess.embedded.weights.WEIGHTS", own)
    monkeypatch.setattr("densereid.preprocess.embedded.weights.SHA256", expected)
    with pytest.raises(UserError, match=rf"not as they were released: .*No such file.*\nexpected SHA-256 {expected}"):
        read_weights(own, expected)
    damaged = bytearray(weights.read_bytes())
    damaged[-7] ^= 4
    own.write_bytes(damaged)
    with pytest.raises(UserError, match=rf"its SHA-256 is {digest(own)}\nexpected SHA-256 {expected}"):
        read_weights(own, expected)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}", b"\x10\0\0\0\0\0\0\0" + b"[" * 16])
def test_a_file_of_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(UserError, match="does not hold weights of the embedded network"):
        read_weights(tmp_path / "other")


def test_input_sizes_keep_the_shape_within_a_stride() -> None:
    assert input_size(256, 128) == input_size(128, 64) == (192, 96)
    assert input_size(40, 20) == (192, 96)
    assert input_size(64, 160) == (96, 256)  # 240 is as near to 224
    assert input_size(1000, 3) == (384, 96)
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 3000, (200, 2)):
        rows, columns = input_size(int(height), int(width))
        assert min(rows, columns) == 96
        assert rows % STRIDE == columns % STRIDE == 0


def _crops(*sizes: tuple[int, int]) -> list[Crop]:
    records = [ImageRecord(f"{index}.jpg", 1, 1, Split.TRAIN) for index in range(len(sizes))]
    return [Crop(record, smooth_noise(index, sizes[index])) for index, record in enumerate(records)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_is_its_crops_one_by_one_through_the_one_decoder(weights: Path, precision: Precision) -> None:
    estimator = open_embedded("cpu", weights, precision=precision)
    crops = _crops((128, 64), (90, 41), (57, 160), (128, 64), (12, 9))
    charts = estimator.estimate(crops, (64, 32))
    network = fused(read_weights(weights)).to(type_of(precision)).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for index, crop in enumerate(crops):
            pixels = torch.from_numpy(resize_image(crop.pixels, input_size(*crop.size)).copy())
            with torch.inference_mode():
                images = pixels.permute(2, 0, 1)[None].float().contiguous(memory_format=torch.channels_last)
                scores = maximise_expected_iou(scores_of_both_sides(network, images))
                iuv, score = decode_charts(follow_image(scores, images), (64, 32))
            assert torch.equal(charts.iuv[index], iuv[0])
            assert charts.score[index] == score[0]
    finally:
        torch.set_num_threads(threads)
    assert charts.box.tolist() == [[0, 0, crop.size[1], crop.size[0]] for crop in crops]
    assert charts.is_fallback is None


def test_no_crops_are_no_charts(weights: Path) -> None:
    assert open_embedded("cpu", weights).estimate([], (64, 32)).iuv.shape == (0, 64, 32, 3)


def test_settings_name_the_weights_and_not_the_device(weights: Path) -> None:
    estimator = open_embedded("cpu", weights)
    assert estimator.settings() == {
        "weights_sha256": digest(weights),
        "short_edge": 96,
        "precision": "fp32",
        "mirrored": True,
        "temperature": TEMPERATURE,
        "bilateral_filter": [STRENGTH, NEAR, ALIKE, SPACING],
    }
    assert EmbeddedEstimator(Weights(weights, "x"), "cuda:0").settings()["weights_sha256"] == "x"
    assert estimator.inputs("0.jpg").files == ()
