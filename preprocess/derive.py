"""From an image and its IUV map to the 7-part mask and the 24 DSAP images; the same bytes on CPU and GPU."""

from __future__ import annotations

from typing import Literal

import torch

from data_catalog.parts import NUM_BODY_PARTS, PART_TO_LABEL
from data_catalog.schema import DSAP_FILL

Collision = Literal["last", "mean"]
"""Which colour a texel gets when several pixels fall into it: the last in raster order, or their mean."""


def mask_from_iuv(iuv: torch.Tensor) -> torch.Tensor:
    """7-part mask, uint8 (batch, height, width), of uint8 IUV (batch, height, width, 3) in the order I, U, V."""
    table = torch.from_numpy(PART_TO_LABEL.copy()).to(iuv.device)
    return table[iuv[..., 0].long()]


def dsap_from_iuv(
    image: torch.Tensor, iuv: torch.Tensor, *, size: int = 32, collision: Collision = "last"
) -> tuple[torch.Tensor, torch.Tensor]:
    """DSAP images of a batch (DSA-reID, section 3.1): each part's pixels at row U, column V of its own image.

    ``image`` and ``iuv`` are uint8 (batch, height, width, 3), RGB and I, U, V. The byte q of U or V goes to
    ``min(size - 1, size * q // 255)``. Returns the DSAP images, uint8 (batch, 24, size, size, 3), with
    ImageNet's mean colour where no pixel fell, and their validity, bool (batch, 24, size, size).
    """
    batch = image.shape[0]
    texels = batch * NUM_BODY_PARTS * size * size
    source, target = _correspondence(iuv, size)
    colours = image.reshape(-1, 3)
    # Maxima and integer sums do not depend on the order of the additions, so no device needs a slow exact mode.
    if collision == "last":
        last = torch.full((texels,), -1, dtype=torch.int64, device=image.device)
        last.scatter_reduce_(0, target, source, "amax")
        valid = last >= 0
        values = colours[last.clamp(min=0)]
    else:
        count = torch.zeros(texels, dtype=torch.int64, device=image.device)
        count.scatter_add_(0, target, torch.ones_like(source))
        total = torch.zeros(texels, 3, dtype=torch.int64, device=image.device)
        total.index_add_(0, target, colours[source].long())
        valid = count > 0
        values = ((2 * total + count[:, None]) // (2 * count[:, None]).clamp(min=1)).to(torch.uint8)
    fill = torch.tensor(DSAP_FILL, dtype=torch.uint8, device=image.device)
    dsap = torch.where(valid[:, None], values, fill)
    shape = (batch, NUM_BODY_PARTS, size, size)
    return dsap.reshape(*shape, 3), valid.reshape(shape)


def _correspondence(iuv: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat pixel number and flat texel number, int64 (pixels on a person,), of every pixel that has a part."""
    flat = iuv.reshape(-1, 3)
    source = flat[:, 0].nonzero().squeeze(1)
    part, u, v = flat[source].long().unbind(1)
    row = (size * u // 255).clamp(max=size - 1)
    column = (size * v // 255).clamp(max=size - 1)
    pixels_per_image = iuv.shape[1] * iuv.shape[2]
    image = source // pixels_per_image
    return source, ((image * NUM_BODY_PARTS + part - 1) * size + row) * size + column
