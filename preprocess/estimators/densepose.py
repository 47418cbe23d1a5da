"""ESTIMATOR=densepose: DensePose of whole crops by our own network, with Detectron2's published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.batching import Size, network_input
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.densepose.network import InferenceNetwork, load_densepose
from densereid.preprocess.densepose.precision import Precision, check_finite, tell_precision
from densereid.preprocess.densepose.weights import Weights, pin
from densereid.preprocess.estimators.base import Charts
from densereid.preprocess.estimators.network_estimator import NetworkEstimator, open_weights, whole_images
from densereid.preprocess.images import Crop


@dataclass(frozen=True)
class DenseposeEstimator(NetworkEstimator[InferenceNetwork]):
    """DensePose of whole crops; a crop's score is the mean foreground probability on the body.

    ``compiled``: the network runs through ``torch.compile``, on a GPU.
    """

    compiled: bool = False
    name: str = "densepose"

    def settings(self) -> dict[str, Any]:
        """What changes the result, and whether the network is compiled."""
        return super().settings() | {"mode": "crop"} | ({"compiled": True} if self.compiled else {})

    def network(self) -> InferenceNetwork:
        """The loaded network; the last one asked for is kept."""
        return load_densepose(self.weights, self.architecture, self.device, self.precision, self.compiled)

    @torch.inference_mode()
    def charts(self, network: InferenceNetwork, crops: Sequence[Crop], network_size: Size, size: Size) -> Charts:
        """Charts of crops of one input size."""
        scores = network.scores(network_input(crops, network_size, self.device))
        check_finite(scores.all(), "charts")
        iuv, score = decode_charts(scores, size)
        return Charts(iuv, score.cpu().numpy(), whole_images(crops))


def open_densepose(
    weights: str,
    *,
    device: str,
    mode: str,
    short_edge: int,
    precision: Precision,
    compiled: bool,
    notify: Callable[[str], None],
) -> DenseposeEstimator:
    """The estimator with the weights of that name or path, which are found, loaded to be sure of them, and pinned.

    Raises UserError where a detector is asked for, and for everything that is wrong with the weights.
    """
    if mode != "crop":
        raise UserError(
            f"ESTIMATOR=densepose uses every crop whole; MODE={mode} was asked for",
            "use MODE=crop, or ESTIMATOR=detectron2, which has a detector",
        )
    if compiled and torch.device(device).type == "cpu":
        raise UserError("COMPILED=1 was asked for on a CPU", "leave it out; it is for a GPU")
    path, found = open_weights(weights, device=device, precision=precision, short_edge=short_edge, notify=notify)
    estimator = DenseposeEstimator(
        Weights(path, found.sha256), found.architecture, device, short_edge, precision, compiled
    )
    estimator.network()
    pin(estimator.weights)
    tell_precision(device, precision, notify)
    return estimator
