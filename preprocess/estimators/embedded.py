"""ESTIMATOR=embedded: the dense pose network that comes with the project; nothing to download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.batching import Size, run_in_batches
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.densepose.precision import Precision, tell_precision
from densereid.preprocess.densepose.weights import Weights
from densereid.preprocess.embedded.bilateral import ALIKE, NEAR, SPACING, STRENGTH, follow_image
from densereid.preprocess.embedded.both_sides import scores_of_both_sides
from densereid.preprocess.embedded.foreground import TEMPERATURE, maximise_expected_iou
from densereid.preprocess.embedded.network import STRIDE, EmbeddedNetwork
from densereid.preprocess.embedded.weights import SHA256, WEIGHTS, digest, load_embedded
from densereid.preprocess.estimators.base import Charts, EstimatorInputs
from densereid.preprocess.estimators.network_estimator import whole_images
from densereid.preprocess.images import Crop
from densereid.preprocess.resizing import resized_batch

SHORT_EDGE = 96
"""Pixels of a crop's short edge inside the network, as in its training."""

_LONGEST = 4
"""The long edge is at most this many times the short one inside the network."""

_limits: dict[Size, int] = {}


@dataclass(frozen=True)
class EmbeddedEstimator:
    """Dense pose of whole crops by the embedded network; a crop's score is the mean foreground probability on the body.

    Each crop is seen from both sides (:mod:`densereid.preprocess.embedded.both_sides`), the foreground is the one of
    the highest expected IoU (:mod:`densereid.preprocess.embedded.foreground`), and follows the crop's colours
    (:mod:`densereid.preprocess.embedded.bilateral`).

    The network was trained on rendered people alone: see docs/embedded.md for what it gets right and wrong.
    """

    weights: Weights
    device: str
    precision: Precision = "fp32"
    name: str = "embedded"

    def settings(self) -> dict[str, Any]:
        """What changes the result: the weights, the size of the network's input, and how its scores are used."""
        return {
            "weights_sha256": self.weights.sha256,
            "short_edge": SHORT_EDGE,
            "precision": self.precision,
            "mirrored": True,
            "temperature": TEMPERATURE,
            "bilateral_filter": [STRENGTH, NEAR, ALIKE, SPACING],
        }

    def inputs(self, image: str) -> EstimatorInputs:  # noqa: ARG002 - the same for every image
        """Nothing: the network sees the image alone."""
        return EstimatorInputs()

    def estimate(self, crops: Sequence[Crop], size: Size) -> Charts:
        """Charts of the crops at the canonical size, in their order; one person a crop.

        On a CPU a result depends neither on the number of threads nor on the other crops (see ``run_in_batches``).
        """
        network = load_embedded(self.weights.path, self.weights.sha256, self.device, self.precision)
        result = Charts(
            iuv=torch.zeros(len(crops), *size, 3, dtype=torch.uint8, device=self.device),
            score=np.zeros(len(crops), np.float32),
            box=whole_images(crops),
        )
        groups: dict[Size, list[int]] = {}
        for index, crop in enumerate(crops):
            groups.setdefault(input_size(*crop.size), []).append(index)

        def compute(batch: list[int], entered: Size) -> tuple[torch.Tensor, torch.Tensor]:
            return charts_of(network, [crops[index].pixels for index in batch], entered, size, self.device)

        for batch, (iuv, score) in run_in_batches(compute, groups, device=self.device, limits=_limits):
            result.iuv[batch], result.score[batch] = iuv, score.cpu().numpy()
        return result


def input_size(height: int, width: int) -> Size:
    """(height, width) of the network's input for a crop: the short edge at 96, the long one near its share of that."""
    long = min(max(height, width) / min(height, width), _LONGEST) * SHORT_EDGE
    rounded = max(SHORT_EDGE, round(long / STRIDE) * STRIDE)
    return (rounded, SHORT_EDGE) if height >= width else (SHORT_EDGE, rounded)


@torch.inference_mode()
def charts_of(
    network: EmbeddedNetwork, images: Sequence[np.ndarray], entered: Size, size: Size, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """IUV (N, *size, 3) uint8 and score (N,) float32 of images (H, W, 3) uint8 that enter the network at one size."""
    batch = resized_batch(images, entered, device).permute(0, 3, 1, 2)
    scores = maximise_expected_iou(scores_of_both_sides(network, batch))
    return decode_charts(follow_image(scores, batch), size)


def open_embedded(
    device: str,
    weights: Path | None = None,
    *,
    precision: Precision = "fp32",
    notify: Callable[[str], None] = lambda _: None,
) -> EmbeddedEstimator:
    """The estimator with the package's own weights, or with a file that ``make embedded-weights`` wrote elsewhere.

    ``notify`` is told what else the processor could do. Raises UserError where the file is not there, is damaged, or is
    not the one that was released, and for fp16.
    """
    if precision == "fp16":
        raise UserError(
            "ESTIMATOR=embedded has no PRECISION=fp16: its network was scored in fp32 and in bf16 alone",
            "use PRECISION=bf16 on a GPU and on a CPU with instructions for it, or fp32",
        )
    path, sha256 = (WEIGHTS, SHA256) if weights is None else (weights.resolve(), digest(weights))
    load_embedded(path, sha256, device, precision)
    tell_precision(device, precision, notify)
    return EmbeddedEstimator(Weights(path, sha256), device, precision)
