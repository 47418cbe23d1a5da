"""The embedded network's scores of a crop seen from both sides: itself and its mirror image, which is turned back.

Test-time augmentation as DensePose's own (``DensePoseDatasetMapperTTA`` of Detectron2 mirrors, too).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V
from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.embedded.network import EmbeddedNetwork


def scores_of_both_sides(network: EmbeddedNetwork, images: Tensor) -> ChartScores:
    """Scores, float32, of RGB images (N, 3, H, W) of any type, 0..255, H and W multiples of 32.

    The network computes in the type of its weights.
    """
    both = torch.cat((images, images.flip(3))).to(network.mean.dtype).contiguous(memory_format=torch.channels_last)
    scores = ChartScores(*(each.float() for each in network(both).all()))
    return mean_of(scores[: len(images)], turned_back(scores[len(images) :]))


def turned_back(scores: ChartScores) -> ChartScores:
    """What the scores of mirror images say of the images: left and right parts changed, and some U or V turned."""
    parts, turned_u, turned_v = mirror_tables(scores.fine.device)
    coarse, *charts = (each.flip(3) for each in scores.all())
    fine, u, v = (each.index_select(1, parts) for each in charts)
    u, v = (torch.where(turned[:, None, None], 1 - each, each) for each, turned in ((u, turned_u), (v, turned_v)))
    return ChartScores(coarse, fine, u, v)


def mean_of(first: ChartScores, second: ChartScores) -> ChartScores:
    """The mean of two scores of the same images."""
    return ChartScores(*((one + other) / 2 for one, other in zip(first.all(), second.all(), strict=True)))


@cache
def mirror_tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Each part's counterpart, int64 (25,), and which U and which V turn, bool (25,); sent to a device once."""
    with torch.inference_mode(False):
        parts = torch.from_numpy(MIRROR_PART.astype("int64")).to(device)
        number = torch.arange(len(MIRROR_PART))
        chosen = (torch.tensor(each) for each in (MIRROR_TURNS_U, MIRROR_TURNS_V))
        turned_u, turned_v = (torch.isin(number, each).to(device) for each in chosen)
        return parts, turned_u, turned_v
