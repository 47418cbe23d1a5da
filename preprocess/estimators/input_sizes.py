"""How near DensePose at a smaller input comes to DensePose at Detectron2's own, on a user's images and weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from densereid.preprocess.densepose.precision import Precision, processor_has_bf16
from densereid.preprocess.estimators.densepose import DenseposeEstimator
from densereid.preprocess.images import Crop
from densereid.preprocess.semantics.agreement import Agreement, agreement

REFERENCE_SHORT_EDGE = 800
"""Detectron2's INPUT.MIN_SIZE_TEST, at which DensePose's own figures are given."""

_BATCH = 64
"""Images handed to the estimator at once, as preprocessing does."""


@dataclass(frozen=True)
class SizeResult:
    """What one short edge costs and gives, in one arithmetic."""

    short_edge: int
    precision: Precision
    images_per_second: float
    agreement: Agreement
    compared_with: str
    """What the agreement is with: a short edge and its arithmetic."""


def tries_bf16(estimator: DenseposeEstimator) -> bool:
    """Whether :func:`compare_sizes` also computes in bf16: on a CPU with instructions for it, where fp32 is asked."""
    return estimator.device == "cpu" and estimator.precision == "fp32" and processor_has_bf16()


def compare_sizes(
    estimator: DenseposeEstimator, crops: Sequence[Crop], size: tuple[int, int], short_edges: Sequence[int]
) -> Iterator[SizeResult]:
    """Agreement of each short edge with 800, which comes first, at the canonical ``size``, and its images a second.

    Where :func:`tries_bf16` says so, each short edge follows in bf16, compared with itself in fp32. A short edge's
    first images are computed once before the clock starts.
    """
    found: dict[int, np.ndarray] = {}
    for short_edge in (REFERENCE_SHORT_EDGE, *(edge for edge in short_edges if edge != REFERENCE_SHORT_EDGE)):
        found[short_edge], rate = _timed(replace(estimator, short_edge=short_edge), crops, size)
        same = agreement(found[short_edge], found[REFERENCE_SHORT_EDGE])
        precision = estimator.precision
        yield SizeResult(short_edge, precision, rate, same, f"{REFERENCE_SHORT_EDGE}, {precision}")
    for short_edge in short_edges if tries_bf16(estimator) else ():
        iuv, rate = _timed(replace(estimator, short_edge=short_edge, precision="bf16"), crops, size)
        yield SizeResult(short_edge, "bf16", rate, agreement(iuv, found[short_edge]), f"{short_edge}, fp32")


def _timed(estimator: DenseposeEstimator, crops: Sequence[Crop], size: tuple[int, int]) -> tuple[np.ndarray, float]:
    batches = [crops[start : start + _BATCH] for start in range(0, len(crops), _BATCH)]
    on_cpu = estimator.device == "cpu"
    estimator.estimate(batches[0][:1] if on_cpu else batches[0], size)
    start = time.perf_counter()
    iuv = np.concatenate([estimator.estimate(batch, size).iuv.cpu().numpy() for batch in batches])
    return iuv, len(crops) / (time.perf_counter() - start)
