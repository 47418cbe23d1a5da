"""Part images without warping: each body part's bounding box, cropped and resized (CSA, DSA-reID table 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from densereid.data_catalog.parts import NUM_BODY_PARTS


def crop_parts(image: Tensor, parts: Tensor, *, size: int) -> tuple[Tensor, Tensor]:
    """Box crops of the 24 parts, uint8 (B, 24, 3, size, size), and their validity, bool (B, 24, size, size).

    image: uint8 (B, H, W, 3) RGB. parts: uint8 (B, H, W), 0..24. A crop holds all pixels of its
    part's box, its neighbours too, sampled bilinearly at the centres of size x size cells; row is y,
    column is x. The crop of a part that is not seen is 0 and invalid.
    """
    seen = parts[:, None] == torch.arange(1, NUM_BODY_PARTS + 1, dtype=parts.dtype)[:, None, None]
    top, bottom = _edges(seen.any(3))
    left, right = _edges(seen.any(2))
    y, x = _centres(top, bottom, size), _centres(left, right, size)
    crops = _bilinear(image, y, x).round().to(torch.uint8)
    valid = seen.flatten(2).any(2)[:, :, None, None].expand(-1, -1, size, size)
    return crops.permute(0, 1, 4, 2, 3) * valid[:, :, None], valid.clone()


def _edges(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True along the last axis of bool (B, 24, N); 0 and N where none is."""
    length = occupied.shape[-1]
    return occupied.int().argmax(-1), length - occupied.flip(-1).int().argmax(-1)


def _centres(start: Tensor, stop: Tensor, size: int) -> Tensor:
    """Pixel positions (B, 24, size) of the centres of ``size`` equal cells between two edges; pixel 0's centre is 0."""
    share = (torch.arange(size) + 0.5) / size
    position = start[..., None] + (stop - start)[..., None] * share - 0.5
    return torch.minimum(torch.maximum(position, start[..., None]), stop[..., None] - 1)


def _bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """float32 (B, 24, rows, columns, 3): the image at each pair of positions y (B, 24, rows), x (B, 24, columns)."""
    sample = torch.arange(len(image))[:, None, None, None]
    y, x = y[..., :, None], x[..., None, :]
    top, left = y.long(), x.long()
    bottom, right = (top + 1).clamp_max(image.shape[1] - 1), (left + 1).clamp_max(image.shape[2] - 1)
    down, across = (y - top)[..., None], (x - left)[..., None]
    upper = torch.lerp(image[sample, top, left].float(), image[sample, top, right].float(), across)
    lower = torch.lerp(image[sample, bottom, left].float(), image[sample, bottom, right].float(), across)
    return torch.lerp(upper, lower, down)
