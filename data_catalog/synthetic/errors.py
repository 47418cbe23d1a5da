"""What an estimator gets wrong: errors of DensePose's kinds put into an exact IUV map.

A model, not a measurement: no labelled IUV exists for a re-ID dataset. What is known, and from where:

- More than 20 % of Duke's training images have no detection (DSA-reID, section 4.3).
- Annotators themselves are off by about 2 cm on small parts and 7 cm on large ones (DensePose, CVPR 2018, section 2),
  which is 0.05 to 0.15 of a chart; a network trained on COCO is no better on a small, blurred crop.
- Left and right legs get confused (facebookresearch/DensePose, issue 255), parts are missing (DSA-reID, section 3.1).

The shares and spreads below are assumptions of that order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densereid.data_catalog.parts import MIRROR_PART, NUM_BODY_PARTS

UNDETECTED = 0.2
"""Share of images without any part."""
MISSED_PART = 0.1
"""Share of the parts that are not found."""
CONFUSED_ARMS = CONFUSED_LEGS = 0.1
"""Share of images whose left and right limbs change places."""
CONFUSED_TORSO = 0.05
"""Share of images whose torso's front is taken for its back, or the other way round."""
CHART_SPREAD = 0.06
"""Scale of a chart's shift and stretch in U and V, 0..1: Student's t with 3 degrees of freedom (heavy tails)."""
PIXEL_SPREAD = 1.5
"""Standard deviation of a pixel's displacement in an image 64 pixels wide: ragged borders that take in background."""

_GRID = (9, 5)
"""Rows and columns of the displacement's grid: it varies over an eighth of the height and a quarter of the width."""

_LEGS = (*range(5, 15),)
_ARMS = (3, 4, *range(15, 23))
_TORSO = (1, 2)


@dataclass(frozen=True)
class IuvErrors:
    """The errors of one image.

    relabel: uint8 (25,), the part that each part is mistaken for; 0 where it is not found.
    turn_v: bool, whether the torso's V runs the other way, as its other side's does.
    chart: float (25, 2, 2), by part of the truth, for U and for V: shift, and stretch about the chart's middle.
    displacement: float (2, H, W), rows and columns between a pixel and the one whose IUV it gets.
    """

    relabel: np.ndarray
    turn_v: bool
    chart: np.ndarray
    displacement: np.ndarray


def draw_errors(rng: np.random.Generator, height: int, width: int, *, severity: float) -> IuvErrors:
    """Random errors of an image; ``severity`` 1 has the shares and spreads above, 2 twice as much, 0 none."""
    relabel = np.arange(NUM_BODY_PARTS + 1, dtype=np.uint8)
    turn_v = bool(rng.random() < severity * CONFUSED_TORSO)
    if turn_v:
        relabel[list(_TORSO)] = _TORSO[::-1]
    for parts, share in ((list(_ARMS), CONFUSED_ARMS), (list(_LEGS), CONFUSED_LEGS)):
        if rng.random() < severity * share:
            relabel[parts] = MIRROR_PART[parts]
    relabel[rng.random(NUM_BODY_PARTS + 1) < severity * MISSED_PART] = 0
    if rng.random() < severity * UNDETECTED:
        relabel[:] = 0
    chart = severity * CHART_SPREAD * rng.standard_t(3, (NUM_BODY_PARTS + 1, 2, 2))
    spread = severity * PIXEL_SPREAD * width / 64
    grid = rng.normal(0.0, spread, (2, *_GRID))
    return IuvErrors(relabel, turn_v, chart, np.stack([_spread_out(axis, height, width) for axis in grid]))


def _spread_out(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """The coarse ``grid`` interpolated linearly to (H, W), its corners in the image's corners."""
    rows, columns = np.linspace(0, grid.shape[0] - 1, height), np.linspace(0, grid.shape[1] - 1, width)
    tall = np.stack([np.interp(rows, np.arange(grid.shape[0]), column) for column in grid.T], 1)
    return np.stack([np.interp(columns, np.arange(grid.shape[1]), row) for row in tall])


def disturb_iuv(iuv: np.ndarray, errors: IuvErrors) -> np.ndarray:
    """The map (H, W, 3) uint8 (I, U, V) with these errors; 0, 0, 0 where no part is found. A new array."""
    height, width = iuv.shape[:2]
    shift = np.rint(errors.displacement).astype(np.int64)
    rows = np.clip(np.arange(height)[:, None] + shift[0], 0, height - 1)
    columns = np.clip(np.arange(width)[None, :] + shift[1], 0, width - 1)
    moved = iuv[rows, columns]
    part = moved[..., 0]
    chart = errors.chart[part]
    coordinate = moved[..., 1:] / 255.0
    coordinate = coordinate + chart[..., 0] + chart[..., 1] * (coordinate - 0.5)
    if errors.turn_v:
        coordinate[..., 1] = np.where(np.isin(part, _TORSO), 1.0 - coordinate[..., 1], coordinate[..., 1])
    label = errors.relabel[part]
    disturbed = np.dstack((label, np.rint(255.0 * np.clip(coordinate, 0.0, 1.0)).astype(np.uint8)))
    disturbed[label == 0] = 0
    return disturbed
