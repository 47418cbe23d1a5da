"""What every network-based estimator does with a batch of crops: network size, equal sizes together, room in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import TypeVar

import numpy as np
import torch

from data_catalog.errors import UserError
from preprocess.estimator import Crop
from preprocess.images import resize_image

MAX_LONG_EDGE = 1333
"""Detectron2's INPUT.MAX_SIZE_TEST."""

_BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**23}
"""Network input pixels in a batch, to begin with: 8 crops of 512x256 on a CPU, where more brings nothing."""

Size = tuple[int, int]
_Result = TypeVar("_Result")


def network_size(height: int, width: int, short_edge: int) -> Size:
    """(height, width) of the network's input: the short edge scaled, unless the long one would pass 1333.

    The rule and its rounding are Detectron2's (``ResizeShortestEdge``).
    """
    scale = short_edge / min(height, width)
    scaled = (short_edge * 1.0, scale * width) if height < width else (scale * height, short_edge * 1.0)
    if max(scaled) > MAX_LONG_EDGE:
        shrink = MAX_LONG_EDGE / max(scaled)
        scaled = scaled[0] * shrink, scaled[1] * shrink
    return max(1, int(scaled[0] + 0.5)), max(1, int(scaled[1] + 0.5))


def group_by_network_size(crops: Sequence[Crop], short_edge: int) -> dict[Size, list[int]]:
    """Positions of the crops that enter the network at one size, by that size, so that no batch is padded unevenly."""
    groups: dict[Size, list[int]] = {}
    for index, crop in enumerate(crops):
        groups.setdefault(network_size(*crop.size, short_edge), []).append(index)
    return groups


def network_input(crops: Sequence[Crop], size: Size, device: str) -> torch.Tensor:
    """The crops at ``size`` as DensePose takes them: float32 (batch, 3, height, width), BGR, 0..255."""
    pixels = np.stack([resize_image(crop.pixels, size) for crop in crops])
    return torch.from_numpy(pixels).to(device).flip(3).permute(0, 3, 1, 2).float()


def run_in_batches(
    compute: Callable[[list[int]], _Result],
    indices: Sequence[int],
    size: Size,
    *,
    device: str,
    limits: MutableMapping[Size, int],
) -> Iterator[tuple[list[int], _Result]]:
    """``compute`` of the indices, batch by batch; a batch that does not fit into memory is halved and tried again.

    ``limits`` remembers what fitted at each input size. Raises UserError when not even one crop fits.
    """
    start = 0
    limits.setdefault(size, max(1, _BATCH_PIXELS[torch.device(device).type] // (size[0] * size[1])))
    while start < len(indices):
        batch = list(indices[start : start + limits[size]])
        try:
            result = compute(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise UserError(
                    f"{device} has not enough memory for one crop at {size[0]}x{size[1]}",
                    "use a smaller SHORT_EDGE, PRECISION=bf16, or DEVICE=cpu",
                ) from error
            limits[size] = len(batch) // 2
        else:
            start += len(batch)
            yield batch, result
            continue
        # Out of the except clause: the error held the failed batch's tensors until here.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
