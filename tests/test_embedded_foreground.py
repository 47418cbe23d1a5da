"""The foreground of the highest expected IoU, against every choice of pixels there is."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.embedded.foreground import (
    TEMPERATURE,
    best_expected_iou,
    lowered,
    margin,
    maximise_expected_iou,
)


def _logits(seed: int, pixels: int = 9, images: int = 3) -> Tensor:
    return 2 * torch.randn(images, pixels, generator=torch.Generator().manual_seed(seed))


def _best_choice(logits: Tensor) -> tuple[float, list[bool]]:
    """Expected intersection over expected union, of one image (pixels,), and the pixels that it takes."""
    probabilities = [1 / (1 + math.exp(-float(each))) for each in logits]
    best: tuple[float, list[bool]] = (-1.0, [])
    for choice in product((False, True), repeat=len(probabilities)):
        intersection = sum(value for value, taken in zip(probabilities, choice, strict=True) if taken)
        union = sum(1.0 if taken else value for value, taken in zip(probabilities, choice, strict=True))
        best = max(best, (intersection / union, list(choice)))
    return best


def _scores_of(margins: Tensor, size: tuple[int, int]) -> ChartScores:
    """Scores (N, _, h, w) with these margins (N, h * w), now by the one head, now by the other."""
    coarse, fine, u, v = (torch.zeros(len(margins), channels, *size) for channels in (2, 25, 25, 25))
    given = margins.view(-1, *size)
    fine[:, 1:] = -1e4
    coarse[:, 1], fine[:, 7] = given, given
    coarse[:, 1, ::2] += 1
    fine[:, 7, 1::2] += 1
    return ChartScores(coarse, fine, u, v)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_expected_iou_is_that_of_the_best_of_all_choices(seed: int, device: str) -> None:
    if device != "cpu" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    logits = _logits(seed) - seed % 3
    found = best_expected_iou(logits.to(device)).cpu()
    for image, iou in zip(logits, found, strict=True):
        assert float(iou) == pytest.approx(_best_choice(image)[0], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_foreground_is_the_best_choice_at_that_temperature(seed: int) -> None:
    logits = _logits(seed) + 1
    lower = maximise_expected_iou(_scores_of(TEMPERATURE * logits, (3, 3)))
    for image, found in zip(logits, margin(lower).flatten(1) > 0, strict=True):
        assert _best_choice(image)[0] > 1 / math.e  # else the limit below would hold
        assert found.tolist() == _best_choice(image)[1]


def test_what_is_sure_stays_as_it_is() -> None:
    sure = 60 * torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    scores = _scores_of(sure, (2, 2))
    assert torch.allclose(margin(maximise_expected_iou(scores)), margin(scores), atol=1e-4)


@pytest.mark.parametrize("level", [-3.0, -20.0, -1000.0])
def test_where_all_is_in_doubt_or_nothing_is_a_person_the_line_sinks_by_the_temperature_and_no_more(
    level: float,
) -> None:
    scores = _scores_of(torch.full((2, 60), level), (6, 10))
    change = margin(maximise_expected_iou(scores)) - margin(scores)
    torch.testing.assert_close(change, torch.full_like(change, TEMPERATURE), atol=1e-3, rtol=0)


def test_an_image_does_not_depend_on_the_others() -> None:
    scores = _scores_of(3 * _logits(5), (3, 3))
    together = maximise_expected_iou(scores)
    for index in range(len(scores)):
        alone = maximise_expected_iou(scores[index : index + 1])
        torch.testing.assert_close(alone.fine[0], together.fine[index])


def test_only_the_backgrounds_logits_change_and_the_given_ones_stay() -> None:
    scores, same = (_scores_of(_logits(7), (3, 3)) for _ in range(2))
    lower = lowered(scores, torch.full((3, 1, 1), 2.0))
    assert all(torch.equal(one, other) for one, other in zip(scores.all(), same.all(), strict=True))
    assert torch.equal(lower.coarse[:, 1:], scores.coarse[:, 1:])
    assert torch.equal(lower.fine[:, 1:], scores.fine[:, 1:])
    for one, other in ((lower.coarse, scores.coarse), (lower.fine, scores.fine)):
        torch.testing.assert_close(one[:, 0], other[:, 0] - 2)
