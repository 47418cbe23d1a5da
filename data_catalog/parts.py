"""The body tables: DensePose's 24 parts, the 7-part mask labels, left/right symmetry and merging.

Every other module reads these; nothing about the body is written down twice. Left and right are the
person's own. Sources: DensePose's part list (COCO-DensePose data format), EANet's 7-part grouping,
DSA-reID Figure 4 (merging) and the symmetry measured on real DensePose output.
"""

from __future__ import annotations

import numpy as np

BODY_PARTS: tuple[str, ...] = (
    "torso back",
    "torso front",
    "right hand",
    "left hand",
    "left foot",
    "right foot",
    "right upper leg back",
    "left upper leg back",
    "right upper leg front",
    "left upper leg front",
    "right lower leg back",
    "left lower leg back",
    "right lower leg front",
    "left lower leg front",
    "left upper arm inner",
    "right upper arm inner",
    "left upper arm outer",
    "right upper arm outer",
    "left lower arm inner",
    "right lower arm inner",
    "left lower arm outer",
    "right lower arm outer",
    "right head",
    "left head",
)
"""Name of part ``p`` (1..24) at index ``p - 1``; 0 is the background in every map."""

NUM_BODY_PARTS = len(BODY_PARTS)

MASK_LABELS: tuple[str, ...] = (
    "background",
    "head",
    "torso",
    "upper arm",
    "lower arm",
    "upper leg",
    "lower leg",
    "foot",
)
"""Name of each value of the 7-part mask (EANet's grouping); a lower arm includes its hand."""

NUM_MASK_LABELS = len(MASK_LABELS)

_LABEL_PARTS: tuple[tuple[int, ...], ...] = (
    (0,),
    (23, 24),
    (1, 2),
    (15, 16, 17, 18),
    (3, 4, 19, 20, 21, 22),
    (7, 8, 9, 10),
    (11, 12, 13, 14),
    (5, 6),
)

PART_TO_LABEL = np.zeros(NUM_BODY_PARTS + 1, np.uint8)
"""Look-up table from part (0..24) to mask label (0..7)."""
for _label, _parts in enumerate(_LABEL_PARTS):
    PART_TO_LABEL[list(_parts)] = _label
PART_TO_LABEL.flags.writeable = False


def seen_labels(masks: np.ndarray) -> np.ndarray:
    """Which of the seven parts have a pixel in masks, uint8 (N, height, width) or (N, pixels): bool (N, 7)."""
    flat = masks.reshape(len(masks), -1)
    return np.stack([(flat == label).any(1) for label in range(1, NUM_MASK_LABELS)], axis=1)


UPPER_LABELS: tuple[int, ...] = (1, 2, 3, 4)
LOWER_LABELS: tuple[int, ...] = (5, 6, 7)
"""The two torso groups of MagnifierNet's semantic adversarial branch."""

_MIRROR_PAIRS = ((3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20), (21, 22), (23, 24))

MIRROR_PART = np.arange(NUM_BODY_PARTS + 1, dtype=np.uint8)
"""The part that a part becomes when its image is mirrored (0 stays background)."""
for _right, _left in _MIRROR_PAIRS:
    MIRROR_PART[_right], MIRROR_PART[_left] = _left, _right
MIRROR_PART.flags.writeable = False

MIRROR_TURNS_U: tuple[int, ...] = (3, 4, 5, 6, 23, 24)
MIRROR_TURNS_V: tuple[int, ...] = (1, 2)
"""Parts whose U (or V) turns into 1 - U (1 - V) under a mirrored image; the rest keep both."""

LEFT_RIGHT_MERGE: tuple[tuple[int, ...], ...] = ((1,), (2,), *_MIRROR_PAIRS)
"""DSA-reID's first merging: 13 groups of the 24 parts (Table 1, Figure 4)."""

FRONT_BACK_MERGE: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("torso", (0, 1)),
    ("hands", (2,)),
    ("feet", (3,)),
    ("upper legs", (4, 5)),
    ("lower legs", (6, 7)),
    ("upper arms", (8, 9)),
    ("lower arms", (10, 11)),
    ("head", (12,)),
)
"""DSA-reID's second merging: 8 named groups of indices into :data:`LEFT_RIGHT_MERGE`."""
