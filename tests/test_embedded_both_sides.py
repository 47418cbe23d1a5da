"""A crop and its mirror image through the embedded network, and what their scores say together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V
from densereid.preprocess.densepose.decode import ChartScores, decode_charts
from densereid.preprocess.embedded.both_sides import mean_of, scores_of_both_sides, turned_back
from densereid.preprocess.embedded.network import EmbeddedNetwork


def _scores(seed: int, images: int = 2, size: tuple[int, int] = (6, 5)) -> ChartScores:
    random = torch.Generator().manual_seed(seed)
    return ChartScores(*(torch.randn(images, channels, *size, generator=random) for channels in (2, 25, 25, 25)))


def _turned_back_by_loops(scores: ChartScores) -> ChartScores:
    coarse, fine, u, v = (torch.empty_like(each) for each in scores.all())
    width = coarse.shape[3]
    for image in range(len(coarse)):
        for y in range(coarse.shape[2]):
            for x in range(width):
                there = (y, width - 1 - x)
                for channel in range(2):
                    coarse[image, channel, y, x] = scores.coarse[image, channel][there]
                for part in range(25):
                    other = int(MIRROR_PART[part])
                    fine[image, part, y, x] = scores.fine[image, other][there]
                    in_u, in_v = scores.u[image, other][there], scores.v[image, other][there]
                    u[image, part, y, x] = 1 - in_u if part in MIRROR_TURNS_U else in_u
                    v[image, part, y, x] = 1 - in_v if part in MIRROR_TURNS_V else in_v
    return ChartScores(coarse, fine, u, v)


def _equal(one: ChartScores, other: ChartScores, tolerance: float = 0.0) -> None:
    for first, second in zip(one.all(), other.all(), strict=True):
        torch.testing.assert_close(first, second, atol=tolerance, rtol=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_mirrored_scores_are_turned_back_as_by_loops(seed: int) -> None:
    scores = _scores(seed)
    _equal(turned_back(scores), _turned_back_by_loops(scores))
    _equal(turned_back(turned_back(scores)), scores, 1e-6)  # 1 - (1 - u)


def test_the_maps_of_a_mirrored_body_are_turned_back_to_the_bodys() -> None:
    """Decoded, a part stands where its counterpart stood, and its U and V are the counterpart's, or turned."""
    body = _scores(3, images=1, size=(8, 4))
    u, v = body.u.sigmoid(), body.v.sigmoid()  # none is cut off at 0 or 1
    body = ChartScores(body.coarse, body.fine, u, v)
    iuv, _ = decode_charts(body, (16, 8))
    found, _ = decode_charts(turned_back(body), (16, 8))
    there = iuv.flip(2).long()
    part = torch.from_numpy(MIRROR_PART.astype(np.int64))[there[..., 0]]
    assert torch.equal(found[..., 0].long(), part)
    for channel, turning in ((1, MIRROR_TURNS_U), (2, MIRROR_TURNS_V)):
        turns = torch.isin(part, torch.tensor(turning))
        assert bool(turns.any())
        expected = torch.where(turns, 255 - there[..., channel], there[..., channel]) * (part > 0)
        assert int((found[..., channel].long() - expected).abs().max()) <= 1  # rounding to bytes


@pytest.fixture(scope="module")
def network() -> EmbeddedNetwork:
    torch.manual_seed(0)
    return EmbeddedNetwork().eval().to(memory_format=torch.channels_last)


def _images() -> Tensor:
    return torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(5)) * 255


@torch.inference_mode()
def test_both_sides_are_the_mean_of_two_passes(network: EmbeddedNetwork) -> None:
    images = _images()
    plain, mirrored = network(images), network(images.flip(3))
    expected = [(one + other) / 2 for one, other in zip(plain.all(), turned_back(mirrored).all(), strict=True)]
    _equal(scores_of_both_sides(network, images), ChartScores(*expected), 1e-4)


@torch.inference_mode()
def test_a_mirrored_crop_has_the_mirrored_scores(network: EmbeddedNetwork) -> None:
    images = _images()
    _equal(turned_back(scores_of_both_sides(network, images.flip(3))), scores_of_both_sides(network, images), 1e-4)


def test_the_mean_of_scores_with_themselves_is_they() -> None:
    scores = _scores(7)
    _equal(mean_of(scores, scores), scores)
