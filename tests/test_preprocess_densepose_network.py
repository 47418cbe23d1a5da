"""The DensePose network: against a recording of the real Detectron2, its pooling against slow and other versions."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from densepose_samples import TINY, random_state, shapes_of, smooth_noise, weights_at, write_zoo_file
from detectron2_reference import FIELDS, agreement
from record_golden import NETWORK_CROP, NETWORK_PATH, NETWORK_SIZE, NETWORK_STEP, NETWORKS, SEED
from reference_densepose import pool_slowly

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose import network as module
from densereid.preprocess.densepose.backbone import Convolution, FrozenBatchNorm
from densereid.preprocess.densepose.checkpoints import DETECTOR_KEYS, Architecture
from densereid.preprocess.densepose.decode import ChartScores, decode_charts
from densereid.preprocess.densepose.heads import level_of_whole, pool_whole
from densereid.preprocess.densepose.network import DenseposeNetwork, InferenceNetwork, load_densepose, network_of
from densereid.preprocess.densepose.precision import Precision
from densereid.preprocess.densepose.weights import Weights


def loaded(architecture: Architecture, seed: int = 0) -> DenseposeNetwork:
    network = DenseposeNetwork(architecture)
    network.load_state_dict(random_state(shapes_of(architecture), seed=seed))
    return network


def image_of(seed: int, size: tuple[int, int]) -> torch.Tensor:
    """One crop as the network takes it: BGR, channels first."""
    return torch.from_numpy(smooth_noise(seed, size)[:, :, ::-1].copy()).permute(2, 0, 1)[None].float()


@torch.inference_mode()
@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda architecture: architecture.name)
def test_charts_and_iuv_equal_the_recording_of_detectron2(architecture: Architecture) -> None:
    """Raw scores and IUV of a real Detectron2 run with the same random weights (record_golden.py)."""
    golden = np.load(NETWORK_PATH)
    network = loaded(architecture, SEED).prepare("cpu", "fp32")
    scores = InferenceNetwork(network).scores(image_of(SEED, NETWORK_CROP))
    for name in FIELDS:
        expected = golden[f"{architecture.name}/{name}"]
        ours = getattr(scores, name)[0, :, ::NETWORK_STEP, ::NETWORK_STEP].numpy()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    iuv = decode_charts(scores, NETWORK_SIZE)[0][0].numpy()
    expected = golden[f"{architecture.name}/iuv"]
    assert agreement(iuv, expected) >= 0.999
    assert (iuv == expected).all(axis=-1).mean() >= 0.995  # a byte of U or V may be rounded the other way
    assert 0 < np.count_nonzero(expected[..., 0]) < expected[..., 0].size


@pytest.mark.parametrize("extent", [(32, 16), (31.75, 15.25), (0.25, 9.5), (1, 1)])
@pytest.mark.parametrize("cells", [28, 14, 3])
def test_pooling_equals_the_slow_version_and_torchvisions(extent: tuple[float, float], cells: int) -> None:
    from torchvision.ops import roi_align

    features = torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    ours = pool_whole(features, extent, cells)
    boxes = torch.tensor([[index, 0, 0, 4.0 * extent[1], 4.0 * extent[0]] for index in range(2)])
    theirs = roi_align(features, boxes, (cells, cells), spatial_scale=0.25, sampling_ratio=2, aligned=False)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
    slow = pool_slowly(features[0].double().numpy(), extent, cells)
    np.testing.assert_allclose(ours[0].numpy(), slow, atol=2e-5)


@pytest.mark.parametrize(("size", "level"), [((512, 256), 4), ((224, 224), 4), ((223, 224), 3), ((8, 8), 2)])
def test_the_pyramids_level_of_a_box(size: tuple[int, int], level: int) -> None:
    """Equation 1 of the FPN paper: 224x224 belongs to level 4, half and double that edge to its neighbours."""
    assert level_of_whole(size) == level
    assert level_of_whole((4000, 4000)) == 5


def test_a_folded_norm_is_the_same_function() -> None:
    torch.manual_seed(0)
    convolution = Convolution(3, 8, 3, stride=2, norm=FrozenBatchNorm(8), relu=True)
    for buffer in convolution.buffers():
        buffer.copy_(torch.rand(8) + 0.5)
    images = torch.randn(2, 3, 10, 7)
    with torch.no_grad():
        norm = convolution.norm
        plain = torch.nn.functional.conv2d(images, convolution.weight, None, 2, 1)
        by_hand = (plain - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
        by_hand = (by_hand * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
        before = convolution(images)
        convolution.fold_norm()
        torch.testing.assert_close(before, by_hand)
        torch.testing.assert_close(convolution(images), by_hand)
    assert not list(convolution.buffers())


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near(precision: Precision) -> None:
    exact = ChartScores(*loaded(TINY).prepare("cpu", "fp32")(image_of(0, (128, 64))))
    half = ChartScores(*loaded(TINY).prepare("cpu", precision)(image_of(0, (128, 64))))
    assert {getattr(half, name).dtype for name in FIELDS} == {torch.float32}
    parts = [decode_charts(scores, (128, 64))[0][..., 0] for scores in (exact, half)]
    assert (parts[0] == parts[1]).float().mean() > 0.9
    assert (exact.u != half.u).any()


def zoo_file(path: Path, state: dict[str, torch.Tensor]) -> Weights:
    return weights_at(write_zoo_file(path, state))


def test_a_checkpoint_with_a_detector_loads_without_it(tmp_path: Path) -> None:
    """Of RPN and box head nothing stays in memory; every other key ends in the network as it was."""
    state = random_state(shapes_of(TINY), seed=0)
    detector = {key: torch.zeros(2, 3) for key in DETECTOR_KEYS}
    weights = zoo_file(tmp_path / "model.pkl", state | detector | {"pixel_mean": torch.zeros(3, 1, 1)})
    found = network_of(weights, TINY).state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.fpn_lateral2.bias": None}, "1 missing: backbone.fpn_lateral2.bias"),
        ({"roi_heads.mask_head.deconv.weight": 3}, "1 not known: roi_heads.mask_head.deconv.weight"),
        ({"proposal_generator.rpn_head.extra": 3}, "1 not known: proposal_generator.rpn_head.extra"),
        (
            {"roi_heads.densepose_predictor.u_lowres.bias": 24},
            r"1 misshapen: roi_heads.densepose_predictor.u_lowres.bias \(24,\) instead of \(25,\)",
        ),
    ],
)
def test_keys_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, int | None], message: str) -> None:
    state = random_state(shapes_of(TINY), seed=0)
    for key, length in change.items():
        if length is None:
            del state[key]
        else:
            state[key] = torch.zeros(length)
    with pytest.raises(UserError, match=f"does not fit the network .*{message}(.|\n)*another architecture"):
        network_of(zoo_file(tmp_path / "model.pkl", state), TINY)


def test_batches_of_a_compiled_network_have_one_shape_an_input_size() -> None:
    shapes = []

    def module_of(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shapes.append(tuple(images.shape))
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tuple(images[:, :1] + chart for chart in range(4))

    network = InferenceNetwork(module_of, static=True)
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, 8, 4)
    with pytest.raises(torch.OutOfMemoryError):
        network.scores(images)
    for rows in (4, 2, 5, 1):
        scores = network.scores(images[:rows])
        assert [float(value) for value in scores.v[:, 0, 0, 0]] == [3.0 + row for row in range(rows)]
    network.scores(images[:2, :, :4])
    assert shapes == [(6, 3, 8, 4), (4, 3, 8, 4), (4, 3, 8, 4), (5, 3, 8, 4), (5, 3, 8, 4), (2, 3, 4, 4)]


@torch.inference_mode()
def test_the_network_can_be_traced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.compile`` without graph breaks; without a compiler, which takes minutes."""
    weights = zoo_file(tmp_path / "model.pkl", random_state(shapes_of(TINY), seed=0))
    monkeypatch.setattr(module.torch, "compile", functools.partial(torch.compile, backend="eager"))
    load_densepose.cache_clear()
    compiled = load_densepose(weights, TINY, "cpu", "fp32", True)
    plain = loaded(TINY).prepare("cpu", "fp32")
    image = image_of(0, (64, 32))
    for ours, expected in zip(compiled.module(image), plain(image), strict=True):
        torch.testing.assert_close(ours, expected)
    load_densepose.cache_clear()
