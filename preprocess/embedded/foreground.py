"""Which pixels are the foreground: those that make its expected IoU highest.

For IoU, a pixel belongs to the foreground where its odds of being foreground exceed the best expected IoU of the image
(Nowozin, CVPR 2014; for F1: Lipton, Elkan and Naryanaswamy, ECML 2014), so the line is drawn lower in an image of which
much is in doubt. Real people are such images to a network that has seen rendered ones. Its logits are overconfident and
are divided by a temperature first (Guo et al., ICML 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor

from densereid.preprocess.densepose.decode import ChartScores

TEMPERATURE = 2.75
"""Higher ones find more of real people. The highest quarter at which held-out rendered people, by day and by night,
lose neither foreground nor parts against one line for all images (bench/RESULTS.md)."""

_ROUNDS = 8
"""Of 180 pictures none took more than five. No test whether it is enough: a GPU would be waited for."""


def margin(scores: ChartScores) -> Tensor:
    """(N, 1, h, w), in logits: above 0 where the decoder finds a body, which asks for both heads."""
    coarse, fine = ((each[:, 1:].amax(1) - each[:, 0]) for each in (scores.coarse, scores.fine))
    return torch.minimum(coarse, fine)[:, None]


def best_expected_iou(logits: Tensor) -> Tensor:
    """The highest expected IoU of any choice of pixels of each image: (N,), 0..1, of logits of foreground (N, pixels).

    The quotient of the expectations of intersection and union, which for many pixels is near the expectation of the
    quotient. By Dinkelbach's algorithm (Management Science 1967): the pixels whose odds exceed the last quotient give
    the next one, which is higher until it is the highest.
    """
    probability = logits.sigmoid()
    total, iou = probability.sum(dim=1), torch.ones(len(logits), device=logits.device)
    for _ in range(_ROUNDS):
        chosen = logits > iou.log()[:, None]
        intersection = (probability * chosen).sum(dim=1)
        iou = intersection / (chosen.sum(dim=1) + total - intersection).clamp(min=1e-9)
    return iou


def maximise_expected_iou(scores: ChartScores) -> ChartScores:
    """Float32 scores (N, _, h, w) whose margin is above 0 on the pixels of the best expected IoU.

    Only the background's logits change. They are lowered by at most :data:`TEMPERATURE`, as for an expected IoU of 1/e:
    of a picture by night every pixel is in doubt.
    """
    iou = best_expected_iou(margin(scores).flatten(1) / TEMPERATURE)
    change = TEMPERATURE * iou.log().clamp(min=-1.0)
    return lowered(scores, -change[:, None, None])


def lowered(scores: ChartScores, change: Tensor) -> ChartScores:
    """The scores with ``change`` (N, h or 1, w or 1) taken from the background's logits; the given ones stay."""
    coarse, fine = scores.coarse.clone(), scores.fine.clone()
    for logits in (coarse, fine):
        logits[:, 0] -= change
    return ChartScores(coarse, fine, scores.u, scores.v)
