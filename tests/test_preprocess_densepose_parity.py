"""ESTIMATOR=densepose against the real Detectron2, weights copied across by state dict. Run it with ``-s`` for figures.

Needs Detectron2 and DensePose: ``python -m pytest -s tests/test_preprocess_densepose_parity.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import random_state, smooth_noise, write_zoo_file
from detectron2_reference import agreement, converted, one_at_a_time, relative_error, scores_of

from densereid.preprocess.densepose.batching import network_input, network_size
from densereid.preprocess.densepose.checkpoints import DETECTOR_KEYS, Architecture
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.densepose.detectron2_network import build_detectron2, load_detectron2, missing
from densereid.preprocess.densepose.heads import level_of_whole
from densereid.preprocess.densepose.network import DenseposeNetwork, InferenceNetwork
from densereid.preprocess.estimators.densepose import open_densepose
from densereid.preprocess.estimators.detectron2 import open_detectron2
from densereid.preprocess.images import Crop

pytestmark = pytest.mark.detectron2
if (reason := missing()) is not None:
    pytest.skip(f"the real Detectron2 is not compared with: {reason}", allow_module_level=True)

ZOO = [Architecture(depth, deeplab) for depth in (50, 101) for deeplab in (False, True)]
OTHERS = [
    Architecture(50, uv_confidence="iid_iso"),
    Architecture(50, False, "iid_iso", True, width=16),
    Architecture(101, True, "indep_aniso", True, width=16),
    Architecture(50, decoder=False, coarse_channels=15),
    Architecture(101, decoder=False, coarse_channels=15, width=16),
]
Models = tuple[Architecture, Any, DenseposeNetwork]
INPUTS = [((128, 64), 64), ((90, 41), 41), ((57, 60), 96), ((64, 128), 100), ((128, 64), 256)]
"""Size of a crop and short edge inside the network."""


@pytest.fixture(scope="module", params=[*ZOO, *OTHERS], ids=lambda architecture: architecture.name)
def models(request: pytest.FixtureRequest) -> Models:
    """Detectron2's model and ours, as built, with the same weights."""
    theirs = build_detectron2(request.param, "cpu").eval()
    theirs.load_state_dict(random_state(theirs.state_dict(), seed=1))
    ours = DenseposeNetwork(request.param)
    for name in parts_of(ours):
        ours.get_submodule(name).load_state_dict(theirs.get_submodule(name).state_dict(), strict=True)
    return request.param, theirs, ours


def parts_of(network: DenseposeNetwork) -> list[str]:
    return ["backbone", *(f"roi_heads.{name}" for name in network.roi_heads)]


def crop_of(size: tuple[int, int], seed: int = 0) -> Crop:
    return Crop(None, smooth_noise(seed, size))  # type: ignore[arg-type]


def test_a_state_dict_of_either_loads_strictly_into_the_other(
    models: Models,
) -> None:
    """Ours took Detectron2's in the fixture; here is the way back, and that nothing but the detector is left out."""
    _, theirs, ours = models
    assert {*theirs.state_dict()} - {*ours.state_dict()} == DETECTOR_KEYS
    other = random_state(ours.state_dict(), seed=2)
    kept = {key: value.clone() for key, value in theirs.state_dict().items()}
    for name in parts_of(ours):
        part = {key.removeprefix(f"{name}."): other[key] for key in other if key.startswith(f"{name}.")}
        theirs.get_submodule(name).load_state_dict(part, strict=True)
    assert all(torch.equal(theirs.state_dict()[key], value) for key, value in other.items())
    theirs.load_state_dict(kept)


@torch.inference_mode()
@pytest.mark.parametrize(("size", "short_edge"), INPUTS)
def test_raw_charts_and_iuv_are_detectron2s(models: Models, size: tuple[int, int], short_edge: int) -> None:
    architecture, theirs, ours = models
    compare(architecture, theirs, ours, size, short_edge)


@torch.inference_mode()
def compare(architecture: Architecture, theirs: Any, ours: DenseposeNetwork, size: Any, short_edge: int) -> None:
    output = one_at_a_time(theirs, crop_of(size), short_edge)
    expected = scores_of(output)
    image = network_input([crop_of(size)], network_size(*size, short_edge), "cpu")
    scores = InferenceNetwork(ours).scores(image)
    prepared = DenseposeNetwork(architecture)
    prepared.load_state_dict(ours.state_dict())
    prepared.prepare("cpu", "fp32")
    folded = InferenceNetwork(prepared).scores(image)
    iuv, reference = decode_charts(folded, (256, 128))[0][0].numpy(), converted(output, (256, 128))
    equal = float((iuv == reference).all(axis=-1).mean())
    print(
        f"\n{architecture.name}, crop {size[0]}x{size[1]} at {short_edge}: raw charts differ by "
        f"{relative_error(scores, expected):.1e} as built, {relative_error(folded, expected):.1e} as run; "
        f"{equal:.3%} of pixels equal, {agreement(iuv, reference):.3%} within one"
    )
    assert max(relative_error(scores, expected), relative_error(folded, expected)) < 1e-4
    assert equal >= 0.999
    assert len(np.unique(reference[..., 0])) > 2


def test_at_detectron2s_own_size(models: Models) -> None:
    architecture, theirs, ours = models
    if architecture not in ZOO:
        pytest.skip("the published architectures are enough at 1333x667")
    compare(architecture, theirs, ours, (128, 64), 800)


@pytest.mark.parametrize("size", [(224, 224), (223, 224), (1333, 667), (64, 32), (112, 112), (447, 449), (20, 900)])
def test_the_level_of_a_whole_crop_is_detectron2s(size: tuple[int, int]) -> None:
    from detectron2.modeling.poolers import assign_boxes_to_levels
    from detectron2.structures import Boxes

    box = Boxes(torch.tensor([[0.0, 0.0, size[1], size[0]]]))
    assert level_of_whole(size) == 2 + int(assign_boxes_to_levels([box], 2, 5, 224, 4))


def test_both_estimators_give_one_result_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    architecture = Architecture(50, width=16)
    state = random_state(build_detectron2(architecture, "cpu").state_dict(), seed=0)
    path = str(write_zoo_file(tmp_path / "model.pkl", state))
    settings: Any = {"device": "cpu", "mode": "crop", "short_edge": 64, "precision": "fp32", "notify": print}
    ours = open_densepose(path, compiled=False, **settings)
    theirs = open_detectron2(path, fallback=True, **settings)
    crops = [crop_of(size, seed) for seed, size in enumerate(((128, 64), (57, 60), (90, 41), (128, 64)))]
    first, second = ours.estimate(crops, (128, 64)), theirs.estimate(crops, (128, 64))
    assert (first.iuv == second.iuv).all(dim=-1).float().mean() >= 0.999
    np.testing.assert_allclose(first.score, second.score, atol=1e-4)
    np.testing.assert_array_equal(first.box, second.box)
    assert theirs.settings() == {**ours.settings(), "versions": theirs.versions}
    load_detectron2.cache_clear()
