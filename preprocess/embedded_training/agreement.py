"""How well one IUV map agrees with another: the scores of the embedded network against exact or published maps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from densereid.data_catalog.parts import NUM_MASK_LABELS, PART_TO_LABEL


@dataclass
class Agreement:
    """Counts over many pairs of maps; every pixel counts once, so that large people count more."""

    union: np.ndarray = field(default_factory=lambda: np.zeros(NUM_MASK_LABELS))
    intersection: np.ndarray = field(default_factory=lambda: np.zeros(NUM_MASK_LABELS))
    foreground: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """Pixels that both maps, and that either of them, call a person."""
    same_part: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """Pixels whose part is the same, of those that both call a person."""
    errors: list[np.ndarray] = field(default_factory=list)
    """Distances of (u, v), 0..1, at the pixels whose part is the same."""

    def add(self, found: np.ndarray, true: np.ndarray) -> None:
        """Count a pair of IUV maps (..., H, W, 3) uint8 in the order I, U, V."""
        labels = PART_TO_LABEL[found[..., 0]], PART_TO_LABEL[true[..., 0]]
        for label in range(1, NUM_MASK_LABELS):
            is_found, is_true = labels[0] == label, labels[1] == label
            self.intersection[label] += (is_found & is_true).sum()
            self.union[label] += (is_found | is_true).sum()
        body = (found[..., 0] > 0) & (true[..., 0] > 0)
        self.foreground += body.sum(), ((found[..., 0] > 0) | (true[..., 0] > 0)).sum()
        same = body & (found[..., 0] == true[..., 0])
        self.same_part += same.sum(), body.sum()
        difference = found[same][:, 1:].astype(float) - true[same][:, 1:].astype(float)
        self.errors.append(np.hypot(*difference.T).astype(np.float32) / 255.0)

    def scores(self) -> dict[str, float]:
        """Foreground IoU, mean IoU of the seven mask parts, share of the right one of 24 parts, median (u, v) error."""
        seen = self.union[1:] > 0
        errors = np.concatenate(self.errors)
        return {
            "foreground_iou": float(self.foreground[0] / max(self.foreground[1], 1)),
            "mask_mean_iou": float((self.intersection[1:][seen] / self.union[1:][seen]).mean()),
            "part_accuracy": float(self.same_part[0] / max(self.same_part[1], 1)),
            "uv_median_error": float(np.median(errors)) if len(errors) else float("nan"),
        }
