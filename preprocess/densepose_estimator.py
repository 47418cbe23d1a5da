"""ESTIMATOR=densepose: DensePose of whole crops by our own network, with Detectron2's published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from data_catalog.errors import UserError
from preprocess.batches import Precision, Size, network_input
from preprocess.checkpoints import Architecture
from preprocess.decode import decode
from preprocess.densepose_crops import charts_of_crops, network_settings, open_weights, whole_images
from preprocess.densepose_network import Network, load_network
from preprocess.estimator import Charts, Crop
from preprocess.weights import Weights


@dataclass(frozen=True)
class DenseposeEstimator:
    """DensePose of crops with one checkpoint; the network is loaded once per process, on first use.

    ``short_edge``: the network's input size. ``compiled``: by ``torch.compile``, on a GPU.
    """

    weights: Weights
    architecture: Architecture
    device: str = "cpu"
    short_edge: int = 256
    precision: Precision = "fp32"
    compiled: bool = False
    name: str = "densepose"

    def settings(self) -> dict[str, Any]:
        """Config, digest of the weights, input size, precision, and whether the network is compiled."""
        settings = network_settings(
            self.weights, self.architecture, mode="crop", short_edge=self.short_edge, precision=self.precision
        )
        return settings | ({"compiled": True} if self.compiled else {})

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        """Charts of the crops, each of which is one person's; the score is the mean foreground probability on it.

        On a CPU the result depends neither on the number of threads nor on the other crops. Raises UserError when
        not even one crop fits into the device's memory.
        """
        network = load_network(self.weights, self.architecture, self.device, self.precision, self.compiled)
        return charts_of_crops(
            partial(self._charts, network, size),
            crops,
            size,
            short_edge=self.short_edge,
            device=self.device,
            limits=network.batch_limits,
        )

    @torch.inference_mode()
    def _charts(self, network: Network, size: Size, crops: Sequence[Crop], inner: Size) -> Charts:
        iuv, score = decode(network.scores(network_input(crops, inner, self.device)), size)
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
    """The estimator with the weights of that name or path, which are found, pinned and loaded once to be sure of them.

    Raises UserError where a detector is asked for, and for everything that is wrong with the weights.
    """
    if mode != "crop":
        raise UserError(
            f"ESTIMATOR=densepose takes every crop whole; MODE={mode} was asked for",
            "use MODE=crop, or ESTIMATOR=detectron2, which has a detector",
        )
    if compiled and torch.device(device).type == "cpu":
        raise UserError("COMPILED=1 was asked for on a CPU", "leave it out; it is for a GPU")
    found, architecture = open_weights(weights, short_edge=short_edge, notify=notify)
    load_network(found, architecture, device, precision, compiled)
    return DenseposeEstimator(found, architecture, device, short_edge, precision, compiled)
