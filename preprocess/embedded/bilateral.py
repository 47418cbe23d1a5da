"""The foreground follows the image: pixels of one colour that lie near each other are of one kind.

A joint bilateral filter (Tomasi & Manduchi, ICCV 1998) of the foreground's probability, guided by the crop: one step of
mean field in a dense CRF of two labels (Krähenbühl & Koltun, NeurIPS 2011, algorithm 1) with the appearance kernel of
its equation 3, normalised. A neighbour is the mean of a square of pixels, the pixel's own square among them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.embedded.foreground import lowered, margin

STRENGTH = 3.0
"""Added to the margin of a pixel all whose neighbours are foreground, in logits."""

NEAR, ALIKE = 40.0, 8.0
"""Standard deviations of the Gaussian kernels: pixels of the network's input, and levels of R, G and B (0..255)."""

SPACING = 6
"""Neighbours are the means of squares of this many pixels."""

_FEATURES = 8
"""A place, a colour and what completes the square, filled up to what attention computes fast."""


def follow_image(scores: ChartScores, images: Tensor) -> ChartScores:
    """Scores whose background gives way where pixels of the same colour nearby are body, and grows where they are not.

    ``images``: the RGB crops (N, 3, H, W) of any type, 0..255, that the float32 ``scores`` (N, _, h, w) are of. Only
    the background's logits change.
    """
    images = images.float()
    foreground = margin(scores)
    coarse_size = tuple(max(1, edge // SPACING) for edge in images.shape[2:])
    neighbours = F.interpolate(torch.tanh(foreground / 2), coarse_size, mode="area")
    mean = _weighted_mean(_features(images, foreground.shape[2:]), _features(images, coarse_size), neighbours)
    change = STRENGTH * mean.view(len(images), *foreground.shape[2:])
    return lowered(scores, change)


def _features(images: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """(N, h * w, 5): places and mean colours of a grid over the images, in standard deviations of the kernels."""
    places = [
        (torch.arange(n, device=images.device) + 0.5) * (edge / n)
        for n, edge in zip(size, images.shape[2:], strict=True)
    ]
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")).expand(len(images), -1, -1, -1)
    colours = F.interpolate(images - 128.0, size, mode="area")
    return torch.cat((grid / NEAR, colours / ALIKE), dim=1).flatten(2).transpose(1, 2)


def _weighted_mean(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(N, queries): the values' mean with weights exp(-|query - key|^2 / 2), which is a softmax: |query|^2 cancels."""
    ones, squares = torch.ones_like(queries[..., :1]), -0.5 * keys.square().sum(dim=-1, keepdim=True)
    columns = (torch.cat((queries, ones), -1), torch.cat((keys, squares), -1), values.flatten(2).transpose(1, 2))
    # Torch's attention never holds all the weights: they are 50 times as many as the pixels of the crop.
    query, key, value = (F.pad(each, (0, _FEATURES - each.shape[-1]))[:, None] for each in columns)
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0, :, 0]
