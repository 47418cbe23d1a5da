"""Slow, obvious versions of DensePose's pooling and of the agreement of IUV maps."""

from __future__ import annotations

import math
import statistics

import numpy as np

from densereid.data_catalog.parts import PART_TO_LABEL


def pool_slowly(features: np.ndarray, extent: tuple[float, float], cells: int) -> np.ndarray:
    """ROIAlign of a box at the corner, cell by cell: the mean of 2 x 2 bilinear samples; features (C, H, W)."""
    channels, *edges = features.shape
    result = np.zeros((channels, cells, cells))
    for row, column in np.ndindex(cells, cells):
        for down, along in np.ndindex(2, 2):
            places = []
            for axis, (cell, sample) in enumerate(((row, down), (column, along))):
                place = (cell + (sample + 0.5) / 2) * max(extent[axis], 1) / cells
                low = min(int(place), edges[axis] - 1)
                places.append((low, min(low + 1, edges[axis] - 1), min(place, edges[axis] - 1) - low))
            (top, bottom, y), (left, right, x) = places
            upper = features[:, top, left] * (1 - x) + features[:, top, right] * x
            lower = features[:, bottom, left] * (1 - x) + features[:, bottom, right] * x
            result[:, row, column] += (upper * (1 - y) + lower * y) / 4
    return result


def agreement_slowly(iuv: np.ndarray, reference: np.ndarray) -> tuple[float, float, float, float]:
    """Foreground IoU, mean IoU of the labels, part accuracy and median UV distance, pixel by pixel.

    Of (images, height, width, 3) uint8.
    """
    both = either = same = 0
    distances = []
    labels: dict[int, list[int]] = {}
    for place in np.ndindex(*iuv.shape[:3]):
        (part, u, v), (expected, other_u, other_v) = iuv[place].tolist(), reference[place].tolist()
        either += part > 0 or expected > 0
        for label in {int(PART_TO_LABEL[part]), int(PART_TO_LABEL[expected])} - {0}:
            counts = labels.setdefault(label, [0, 0])
            counts[0] += PART_TO_LABEL[part] == PART_TO_LABEL[expected]
            counts[1] += 1
        if part > 0 and expected > 0:
            both += 1
            if part == expected:
                same += 1
                distances.append(math.hypot((u - other_u) / 255, (v - other_v) / 255))
    mask_iou = statistics.mean(common / union for common, union in labels.values())
    return both / either, mask_iou, same / both, statistics.median(distances)


def count_blended_slowly(iuv: np.ndarray) -> tuple[int, int]:
    """Pixels on the line between their neighbours in I, U and V, and changes of part, one pixel at a time."""
    height, width = iuv.shape[:2]
    between = changes = 0
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < height and x + dx < width:
                    changes += int(iuv[y, x, 0] != iuv[y + dy, x + dx, 0])
                if min(y - dy, x - dx) >= 0 and y + dy < height and x + dx < width:
                    beside = iuv[y - dy, x - dx], iuv[y, x], iuv[y + dy, x + dx]
                    between += _on_the_line(*(pixel.astype(float) for pixel in beside))
    return between, changes


def _on_the_line(before: np.ndarray, here: np.ndarray, after: np.ndarray) -> bool:
    if not min(before[0], after[0]) < here[0] < max(before[0], after[0]):
        return False
    share = (here[0] - after[0]) / (before[0] - after[0])
    for channel in (1, 2):
        mixed = after[channel] + share * (before[channel] - after[channel])
        room = abs(before[channel] - after[channel]) * 0.6 / abs(before[0] - after[0]) + 2
        if abs(mixed - here[channel]) > room:
            return False
    return True
