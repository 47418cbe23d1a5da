"""From DensePose's raw scores to uint8 IUV: the rule of Detectron2's own converters, batched and on the scores' device.

Source of the rule: Detectron2's ``ToChartResultConverter`` (resample the scores, then decide). Two things differ on
purpose: the scores go straight to the canonical size, and U and V are clamped to 0..1, which Detectron2 leaves to
its users.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from densereid.data_catalog.parts import NUM_BODY_PARTS

_CHUNK_BYTES = 2**28
"""Bound on one resampled map of 25 channels; a few such maps exist at a time."""


@dataclass(frozen=True)
class ChartScores:
    """Raw output of a DensePose chart head for N persons: no softmax, no sigmoid, no clamp.

    ``coarse``: (N, 2 or 15, h, w), channel 0 is background. ``fine``, ``u``, ``v``: (N, 25, h, w), channel 0 is
    background and channel p is part p. Any floating type, all on one device.
    """

    coarse: torch.Tensor
    fine: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor

    def __len__(self) -> int:
        return len(self.fine)

    def all(self) -> tuple[torch.Tensor, ...]:
        """The four."""
        return self.coarse, self.fine, self.u, self.v

    def __getitem__(self, rows: slice) -> ChartScores:
        return ChartScores(self.coarse[rows], self.fine[rows], self.u[rows], self.v[rows])


def decode_charts(scores: ChartScores, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """IUV at (height, width) and a confidence, of every person in ``scores``.

    Returns uint8 (N, height, width, 3) in the order I, U, V, 0 where there is no body, and float32 (N,): the mean
    foreground probability of the pixels that are body, 0 where no pixel is. Both are on the scores' device.
    """
    height, width = size
    rows = max(1, _CHUNK_BYTES // (4 * (NUM_BODY_PARTS + 1) * height * width))
    chunks = [_decode_chunk(scores[start : start + rows], size) for start in range(0, len(scores), rows)]
    if not chunks:
        empty = scores.fine.new_zeros
        return empty((0, height, width, 3), dtype=torch.uint8), empty(0, dtype=torch.float32)
    return torch.cat([iuv for iuv, _ in chunks]), torch.cat([confidence for _, confidence in chunks])


def decode_box(scores: ChartScores, box: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """IUV of one person whose box is part of an image of (height, width) ``size``; 0 outside the box.

    ``scores`` holds one person, ``box`` is float32 (4,), x0 y0 x1 y1 in the image's pixels. As in Detectron2 the
    corner and the extent are cut to whole pixels, and the extent is at least 1. Returns uint8 (height, width, 3).
    """
    x0, y0 = (int(edge) for edge in box[:2])
    width, height = (max(int(extent), 1) for extent in box[2:] - box[:2])
    iuv = decode_charts(scores, (height, width))[0][0]
    image = iuv.new_zeros(*size, 3)
    top, left = max(y0, 0), max(x0, 0)
    visible = iuv[top - y0 : size[0] - y0, left - x0 : size[1] - x0]
    image[top : top + visible.shape[0], left : left + visible.shape[1]] = visible
    return image


def _decode_chunk(scores: ChartScores, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    labels, foreground = _labels(scores, size)
    body = labels > 0
    u, v = (_of_label(_resample(chart, size), labels) for chart in (scores.u, scores.v))
    confidence = (foreground * body).sum(dim=(1, 2)) / body.sum(dim=(1, 2)).clamp(min=1)
    iuv = torch.stack([labels.to(torch.uint8), to_byte(u) * body, to_byte(v) * body], dim=-1)
    return iuv, confidence


def _labels(scores: ChartScores, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Part of each pixel, int64 (N, height, width), and its probability of being foreground, float32."""
    coarse = _resample(scores.coarse, size)
    # On a CPU torch finds a maximum along the channels with its place in half the time of the place alone.
    labels = _resample(scores.fine, size).max(dim=1).indices * (coarse.max(dim=1).indices > 0)
    return labels, 1 - coarse.softmax(dim=1)[:, 0]


def _resample(scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(scores.float(), size, mode="bilinear", align_corners=False)


def _of_label(charts: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The value of each pixel's own part, (N, height, width), from (N, 25, height, width)."""
    return charts.gather(1, labels[:, None])[:, 0]


def to_byte(value: torch.Tensor) -> torch.Tensor:
    """U or V, any floating numbers, as uint8: clamped to 0..1, times 255, rounded; NaN is 0."""
    # A chart head may give anything outside 0..1, and a NaN would be cast to a different byte on every device.
    return (255 * value.nan_to_num().clamp(0, 1)).round().to(torch.uint8)
