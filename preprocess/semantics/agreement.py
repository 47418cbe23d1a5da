"""How well one set of IUV maps agrees with another: an estimator's with exact or published ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densereid.data_catalog.parts import NUM_MASK_LABELS, PART_TO_LABEL


@dataclass(frozen=True)
class Agreement:
    """Of two sets of IUV maps, pixels of all images taken together.

    ``foreground_iou``: pixels that are body in both, of those that are in either; 1 where none is. ``mask_iou``: the
    mean over the seven mask labels of the same, labels that are in neither left out. ``part_accuracy``: share of the
    pixels that are body in both whose part is the same. ``uv_distance``: median distance of (U, V) in chart widths,
    0..1.4, over the pixels whose part is the same. The last three are NaN where there is no such pixel.
    """

    foreground_iou: float
    mask_iou: float
    part_accuracy: float
    uv_distance: float


def agreement(iuv: np.ndarray, reference: np.ndarray) -> Agreement:
    """Agreement of two uint8 arrays (..., height, width, 3) in the order I, U, V."""
    part, expected = iuv[..., 0], reference[..., 0]
    both, either = (part > 0) & (expected > 0), (part > 0) | (expected > 0)
    same = both & (part == expected)
    difference = (iuv[same][:, 1:].astype(np.float64) - reference[same][:, 1:]) / 255
    return Agreement(
        foreground_iou=float(both.sum() / either.sum()) if either.any() else 1.0,
        mask_iou=_mask_iou(PART_TO_LABEL[part], PART_TO_LABEL[expected]),
        part_accuracy=float(same.sum() / both.sum()) if both.any() else float("nan"),
        uv_distance=float(np.median(np.linalg.norm(difference, axis=1))) if same.any() else float("nan"),
    )


def _mask_iou(labels: np.ndarray, expected: np.ndarray) -> float:
    pairs = labels.astype(np.intp) * NUM_MASK_LABELS + expected
    counts = np.bincount(pairs.ravel(), minlength=NUM_MASK_LABELS**2).reshape(NUM_MASK_LABELS, NUM_MASK_LABELS)
    common = counts.diagonal()
    union = counts.sum(axis=0) + counts.sum(axis=1) - common
    seen = union[1:] > 0
    return float((common[1:][seen] / union[1:][seen]).mean()) if seen.any() else float("nan")
