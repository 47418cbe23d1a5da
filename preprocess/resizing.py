"""Images at another size, a batch at a time: by Pillow on a CPU, by the same integers as Pillow's on a GPU.

Pillow takes a quarter of a millisecond to one and a half for an image, one after the other in the thread that feeds the
network: a GPU waited five sixths of the time for its input (bench/RESULTS.md). The arithmetic is that of Pillow's
``Resample.c`` for 8-bit channels: a pass along the rows, one along the columns, weights with 22 bits behind the point.
Since Pillow 13 the second comes first where the height shrinks much; the rounding between them depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from math import ceil

import numpy as np
import torch
from torch import Tensor

from densereid.preprocess.images import resize_image

_BITS = 22
"""Of a weight behind the point, so that a sum of 8-bit values fits into 32 bits with its sign."""

_ROWS_FIRST = (2, 1)
"""Along the rows of (N, H, W, 3), then along its columns."""

Size = tuple[int, int]


def resized_batch(images: Sequence[np.ndarray], size: Size, device: str) -> Tensor:
    """The images at ``size`` (height, width), as :func:`densereid.preprocess.images.resize_image` gives each.

    ``images``: uint8 (H, W, 3) of any sizes. Returns uint8 (N, height, width, 3) on ``device``; the same on each.
    """
    if torch.device(device).type == "cpu":
        pixels = [resize_image(image, size) for image in images]
        return torch.from_numpy(np.stack(pixels) if pixels else np.zeros((0, *size, 3), np.uint8))
    result = torch.empty(len(images), *size, 3, dtype=torch.uint8, device=device)
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        alike.setdefault(image.shape, []).append(index)
    for shape, indices in alike.items():
        chosen = [images[index] for index in indices]
        axes = _pass_order((shape[0], shape[1]), size)
        if axes is None:
            same = torch.from_numpy(np.stack([resize_image(image, size) for image in chosen])).to(device)
        else:
            same = _in_passes(torch.from_numpy(np.stack(chosen)).to(device), size, axes)
        if len(indices) == len(images):
            return same
        result[torch.tensor(indices, device=device)] = same
    return result


def _pass_order(before: Size, after: Size) -> tuple[int, int] | None:
    """The axes of the installed Pillow's passes in their order; None where its arithmetic is another one."""
    order = _order_where_the_height_shrinks()
    down, across = before[0] - after[0], before[1] - after[1]
    return order if order is None or down > max(0, 2 * across) else _ROWS_FIRST


@cache
def _order_where_the_height_shrinks() -> tuple[int, int] | None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)
    size = (24, 40)
    wanted, given = torch.from_numpy(resize_image(noise, size).copy()), torch.from_numpy(noise)[None]
    found = [axes for axes in (_ROWS_FIRST, (1, 2)) if torch.equal(_in_passes(given, size, axes)[0], wanted)]
    return found[0] if found else None


def _in_passes(images: Tensor, size: Size, axes: tuple[int, int]) -> Tensor:
    """uint8 (N, H, W, 3) at ``size`` (height, width), bilinear and antialiased."""
    for axis in axes:
        images = _along(images, axis, size[axis - 1])
    return images


def _along(images: Tensor, axis: int, length: int) -> Tensor:
    """One pass: every pixel of the result is a weighted sum of neighbours along the axis, rounded to 8 bits."""
    if images.shape[axis] == length:
        return images
    first, weights = _weights_on(images.shape[axis], length, images.device)
    shape = [length if each == axis else 1 for each in range(images.dim())]
    last, total = images.shape[axis] - 1, None
    for tap in range(weights.shape[1]):
        taken = images.index_select(axis, (first + tap).clamp(max=last)).int()
        weighted = taken * weights[:, tap].reshape(shape)
        total = weighted.add_(1 << (_BITS - 1)) if total is None else total.add_(weighted)
    assert total is not None
    return total.bitwise_right_shift_(_BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=256)
def _weights_on(before: int, after: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of every pixel of the result: its first neighbour, int64 (after,), and the weights, int32 (after, taps)."""
    first, weights = bilinear_weights(before, after)
    return torch.from_numpy(first).to(device), torch.from_numpy(weights).to(device)


def bilinear_weights(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Pillow's weights for ``before`` pixels in a line made ``after``: a triangle as wide as a step, at least 1.

    Returns the number of the first neighbour, int64 (after,), and the weights in units of 2**-22, int32 (after, taps),
    0 beyond the last neighbour.
    """
    step = before / after
    support = max(step, 1.0)
    first, weights = np.zeros(after, np.int64), np.zeros((after, ceil(support) * 2 + 1), np.int32)
    for index in range(after):
        centre = (index + 0.5) * step
        begin = max(0, int(centre - support + 0.5))
        end = min(before, int(centre + support + 0.5))
        taps = [max(0.0, 1.0 - abs((place - centre + 0.5) * (1.0 / support))) for place in range(begin, end)]
        whole = sum(taps)
        first[index] = begin
        weights[index, : len(taps)] = [int(0.5 + tap / whole * (1 << _BITS)) for tap in taps]
    return first, weights
