"""What the network estimators have in common: their weights, and the charts of crops in groups of one input size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.batching import Size, group_by_network_size, run_in_batches
from densereid.preprocess.densepose.checkpoints import Architecture, OpenedCheckpoint, open_checkpoint
from densereid.preprocess.densepose.precision import Precision, check_precision
from densereid.preprocess.densepose.restricted_reader import UnreadableFile
from densereid.preprocess.densepose.weights import Weights, find_weights
from densereid.preprocess.densepose.zoo import published
from densereid.preprocess.estimators.base import Charts, EstimatorInputs
from densereid.preprocess.images import Crop


class _LoadedNetwork(Protocol):
    batch_limits: dict[Size, int]
    """Crops of each input size that fitted into memory."""


_Network = TypeVar("_Network", bound=_LoadedNetwork)


@dataclass(frozen=True)
class NetworkEstimator(ABC, Generic[_Network]):
    """DensePose of crops with one checkpoint; the network is loaded once per process, on first use.

    ``short_edge``: pixels of a crop's short edge inside the network.
    """

    weights: Weights
    architecture: Architecture
    device: str
    short_edge: int
    precision: Precision

    def settings(self) -> dict[str, Any]:
        """What changes the result of any network: config, digest of the weights, input size and precision."""
        return {
            "config": self.architecture.name,
            "weights_sha256": self.weights.sha256,
            "short_edge": self.short_edge,
            "precision": self.precision,
        }

    def inputs(self, image: str) -> EstimatorInputs:  # noqa: ARG002 - the same for every image
        """Nothing: the network sees the image alone."""
        return EstimatorInputs()

    def estimate(self, crops: Sequence[Crop], size: Size) -> Charts:
        """Charts of the crops at the canonical size, in their order; one person a crop.

        On a CPU the result depends neither on the number of threads nor on the other crops: each is computed alone,
        several at a time (see ``run_in_batches``). Raises UserError when not even one fits into the device's memory.
        """
        network = self.network()
        is_fallback: np.ndarray | None = None
        result = Charts(
            iuv=torch.zeros(len(crops), *size, 3, dtype=torch.uint8, device=self.device),
            score=np.zeros(len(crops), np.float32),
            box=whole_images(crops),
        )

        def compute(batch: list[int], network_size: Size) -> Charts:
            chosen = [crops[index] for index in batch]
            try:
                return self.charts(network, chosen, network_size, size)
            except FloatingPointError as error:
                raise self._overflow(chosen, error) from error

        groups = group_by_network_size(crops, self.short_edge)
        for batch, charts in run_in_batches(compute, groups, device=self.device, limits=network.batch_limits):
            result.iuv[batch], result.score[batch], result.box[batch] = charts.iuv, charts.score, charts.box
            if charts.is_fallback is not None:
                is_fallback = np.zeros(len(crops), bool) if is_fallback is None else is_fallback
                is_fallback[batch] = charts.is_fallback
        return replace(result, is_fallback=is_fallback)

    def _overflow(self, crops: Sequence[Crop], where: FloatingPointError) -> UserError:
        first = crops[0].record.path
        image = first if len(crops) == 1 else f"one of {len(crops)} images from {first} on"
        other = {"fp32": "", "bf16": "PRECISION=fp32", "fp16": "PRECISION=fp32, or bf16, whose range is as wide"}
        return UserError(
            f"DensePose with PRECISION={self.precision} and {self.weights.path} gives NaN or infinity in its {where} "
            f"for {image}: numbers outside what {self.precision} can hold are no person and no background",
            f"use {other[self.precision]}"
            if other[self.precision]
            else "the weights are damaged or of a training that diverged: use others",
        )

    @abstractmethod
    def network(self) -> _Network:
        """The loaded network; cheap after the first time in a process."""

    @abstractmethod
    def charts(self, network: _Network, crops: Sequence[Crop], network_size: Size, size: Size) -> Charts:
        """Charts at the canonical ``size`` of crops that all enter the network at ``network_size``; from any thread."""


def open_weights(
    name: str, *, device: str, precision: Precision, short_edge: int, notify: Callable[[str], None]
) -> tuple[Path, OpenedCheckpoint]:
    """The path of the weights of that name or path, and what they are: they are read once to be sure of them.

    They are to be pinned once a network has them. Raises UserError for everything that is wrong with them, for a
    published file of another network than its name says, and for what the device should not be asked.
    """
    if short_edge < 1:
        raise UserError(f"SHORT_EDGE is {short_edge}", "expected pixels, for example 256 (Detectron2's own is 800)")
    check_precision(device, precision)
    entry = published(name)

    def read(path: Path) -> OpenedCheckpoint:
        checkpoint = open_checkpoint(path)
        if entry is not None and checkpoint.architecture.name != entry.config:
            raise UnreadableFile(
                f"{path} holds {checkpoint.architecture.name}, and {entry.config} is published there",
                "move it away and get it again, or use WEIGHTS=FILE",
            )
        return checkpoint

    return find_weights(name, read, notify)


def whole_images(crops: Sequence[Crop]) -> np.ndarray:
    """The box of each image that its person fills: float32 (crops, 4), x0 y0 x1 y1."""
    return np.array([(0, 0, *crop.size[::-1]) for crop in crops], np.float32).reshape(-1, 4)
