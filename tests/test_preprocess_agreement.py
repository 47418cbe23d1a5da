"""The agreement of two sets of IUV maps, against a slow version."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
from reference import random_iuv
from reference_densepose import agreement_slowly

from densereid.preprocess.semantics.agreement import agreement


def test_agreement_equals_the_slow_version() -> None:
    generator = np.random.default_rng(0)
    for share in (0.2, 0.9):
        first, second = (np.stack([random_iuv(generator, 12, 7) for _ in range(3)]) for _ in range(2))
        taken = generator.random(first.shape[:3]) < share
        first[taken] = second[taken]
        first[..., 1:][taken] ^= 1  # near, not equal
        ours = agreement(first, second)
        expected = agreement_slowly(first, second)
        np.testing.assert_allclose(astuple(ours), expected, rtol=1e-12)


def test_agreement_at_its_ends() -> None:
    nobody, somebody = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 7, np.uint8)
    same = agreement(somebody, somebody)
    assert astuple(same) == (1, 1, 1, 0)
    empty = agreement(nobody, nobody)
    assert empty.foreground_iou == 1
    assert math.isnan(empty.part_accuracy)
    assert math.isnan(empty.mask_iou)
    lost = agreement(nobody, somebody)
    assert lost.foreground_iou == lost.mask_iou == 0
    assert math.isnan(lost.part_accuracy)
    assert math.isnan(lost.uv_distance)
    other = somebody.copy()
    other[..., 0] = 8
    assert agreement(somebody, other).part_accuracy == 0
