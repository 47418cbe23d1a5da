"""What the network estimators have in common: their weights, and the charts of crops in groups of one input size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch

from data_catalog.errors import UserError
from preprocess.batches import Precision, Size, group_by_network_size, run_in_batches
from preprocess.checkpoints import Architecture, architecture_of, read_checkpoint
from preprocess.estimator import Charts, Crop
from preprocess.weights import Weights, find_weights


def open_weights(name: str, *, short_edge: int, notify: Callable[[str], None]) -> tuple[Weights, Architecture]:
    """The weights of that name or path, pinned, and what they are: they are read once to be sure of them.

    Raises UserError for everything that is wrong with them, and for a short edge without pixels.
    """
    if short_edge < 1:
        raise UserError(f"SHORT_EDGE is {short_edge}", "expected pixels, for example 256 (Detectron2's own is 800)")
    found = find_weights(name, notify)
    return found, architecture_of(read_checkpoint(found), found.path)


def network_settings(
    weights: Weights, architecture: Architecture, *, mode: str, short_edge: int, precision: Precision
) -> dict[str, Any]:
    """What changes the result of any network: config, digest of the weights, mode, input size and precision."""
    return {
        "config": architecture.name,
        "weights_sha256": weights.sha256,
        "mode": mode,
        "short_edge": short_edge,
        "precision": precision,
    }


def whole_images(crops: Sequence[Crop]) -> np.ndarray:
    """The box of each image that its person fills: float32 (crops, 4), x0 y0 x1 y1."""
    return np.array([(0, 0, *crop.pixels.shape[1::-1]) for crop in crops], np.float32).reshape(-1, 4)


def charts_of_crops(
    compute: Callable[[Sequence[Crop], Size], Charts],
    crops: Sequence[Crop],
    size: Size,
    *,
    short_edge: int,
    device: str,
    limits: MutableMapping[Size, int],
) -> Charts:
    """Charts at the canonical ``size`` by ``compute`` of crops that enter a network at one size, in the given order.

    On a CPU ``compute`` gets one crop at a time and is called from several threads (see ``run_in_batches``). Raises
    UserError when not even one crop fits into the device's memory.
    """
    result = Charts(
        iuv=torch.zeros(len(crops), *size, 3, dtype=torch.uint8, device=device),
        score=np.zeros(len(crops), np.float32),
        box=whole_images(crops),
    )
    groups: Mapping[Size, list[int]] = group_by_network_size(crops, short_edge)
    for inner, members in groups.items():

        def batch_charts(batch: list[int], inner: Size = inner) -> Charts:
            return compute([crops[index] for index in batch], inner)

        for batch, charts in run_in_batches(batch_charts, members, inner, device=device, limits=limits):
            result.iuv[batch], result.score[batch], result.box[batch] = charts.iuv, charts.score, charts.box
    return result
