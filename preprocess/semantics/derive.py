"""From an image and its IUV map to the 7-part mask and the 24 DSAP images; the same bytes on CPU and GPU."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch

from densereid.data_catalog.parts import NUM_BODY_PARTS, PART_TO_LABEL
from densereid.data_catalog.store.schema import DSAP_FILL

Collision = Literal["last", "mean"]
"""Which colour a texel gets when several pixels fall into it: the last in raster order, or their mean."""


def derive(
    image: torch.Tensor, iuv: torch.Tensor, *, size: int, collision: Collision, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """The store's ``image``, ``iuv``, ``mask``, ``dsap`` and ``dsap_valid`` of a batch, computed on ``device``.

    ``image`` and ``iuv`` are uint8 (batch, height, width, 3), RGB and I, U, V, on any device. On a GPU the host waits
    once, for this batch's results, and not for what was started after it.
    """
    if torch.device(device).type == "cpu":
        # Here, because numba takes time that most commands do not need.
        from densereid.preprocess.semantics import warp_cpu

        chart, colours = iuv.cpu().numpy(), image.cpu().numpy()
        # torch's number of threads is the one budget: OMP_NUM_THREADS sets it, and Dask gives each worker one.
        threads = torch.get_num_threads()
        warped = warp_cpu.derive_on_cpu(colours, chart, size=size, collision=collision, threads=threads)
        return {"image": colours, "iuv": chart, **dict(zip(("mask", "dsap", "dsap_valid"), warped, strict=True))}
    colours_there, chart_there = (_sent(batch, device) for batch in (image, iuv))
    dsap, valid = dsap_from_iuv(colours_there, chart_there, size=size, collision=collision)
    mask, packed = mask_from_iuv(chart_there), _packed(valid)
    return _fetched(
        {"image": colours_there, "iuv": chart_there, "mask": mask, "dsap": dsap, "dsap_valid": packed}, device
    )


def mask_from_iuv(iuv: torch.Tensor) -> torch.Tensor:
    """7-part mask, uint8 (batch, height, width), of uint8 IUV (batch, height, width, 3) in the order I, U, V."""
    return _bytes(tuple(PART_TO_LABEL.tolist()), iuv.device)[iuv[..., 0].long()]


def dsap_from_iuv(
    image: torch.Tensor, iuv: torch.Tensor, *, size: int, collision: Collision
) -> tuple[torch.Tensor, torch.Tensor]:
    """DSAP images of a batch (DSA-reID, section 3.1): each part's pixels at row U, column V of its own image.

    ``image`` and ``iuv`` are uint8 (batch, height, width, 3), RGB and I, U, V. The byte q of U or V goes to
    ``min(size - 1, size * q // 255)``. Returns the DSAP images, uint8 (batch, 24, size, size, 3), with
    ImageNet's mean colour where no pixel fell, and their validity, bool (batch, 24, size, size).
    """
    batch = image.shape[0]
    texels = batch * NUM_BODY_PARTS * size * size
    on_body, target = _correspondence(iuv, size)
    colours = image.reshape(-1, 3)
    # Maxima and integer sums do not depend on the order of the additions, so no device needs a slow exact mode.
    if collision == "last":
        pixel = torch.arange(len(target), device=image.device)
        last = torch.full((texels,), -1, dtype=torch.int64, device=image.device)
        last.scatter_reduce_(0, target, torch.where(on_body, pixel, -1), "amax")
        valid = last >= 0
        values = colours[last.clamp(min=0)]
    else:
        count = torch.zeros(texels, dtype=torch.int64, device=image.device)
        count.scatter_add_(0, target, on_body.long())
        total = torch.zeros(texels, 3, dtype=torch.int64, device=image.device)
        total.index_add_(0, target, colours.long() * on_body[:, None])
        valid = count > 0
        values = ((2 * total + count[:, None]) // (2 * count[:, None]).clamp(min=1)).to(torch.uint8)
    dsap = torch.where(valid[:, None], values, _bytes(DSAP_FILL, image.device))
    shape = (batch, NUM_BODY_PARTS, size, size)
    return dsap.reshape(*shape, 3), valid.reshape(shape)


def _correspondence(iuv: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether each pixel has a part, bool (pixels,), and its flat texel number, int64 (pixels,).

    Picking out the pixels on a person would make the host wait for their number. So the background takes part, too:
    it adds nothing, and to all texels in turn, so that its pixels do not wait for each other at one.
    """
    part, u, v = iuv.reshape(-1, 3).long().unbind(1)
    row = (size * u // 255).clamp(max=size - 1)
    column = (size * v // 255).clamp(max=size - 1)
    pixel = torch.arange(len(part), device=iuv.device)
    image = pixel // (iuv.shape[1] * iuv.shape[2])
    texel = ((image * NUM_BODY_PARTS + part - 1) * size + row) * size + column
    texels = iuv.shape[0] * NUM_BODY_PARTS * size * size
    return part > 0, torch.where(part > 0, texel, pixel % texels)


def _packed(valid: torch.Tensor) -> torch.Tensor:
    """:func:`densereid.data_catalog.store.schema.pack_validity` on a device."""
    bits = valid.reshape(*valid.shape[:-1], -1, 8)
    return (bits * _bytes((128, 64, 32, 16, 8, 4, 2, 1), valid.device)).sum(-1, dtype=torch.uint8)


@cache
def _bytes(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """A small constant on a device; sending it for every batch would make the host wait each time."""
    return torch.tensor(values, dtype=torch.uint8, device=device)


def _sent(batch: torch.Tensor, device: str) -> torch.Tensor:
    return batch.pin_memory().to(device, non_blocking=True) if batch.device.type == "cpu" else batch.to(device)


def _fetched(batches: dict[str, torch.Tensor], device: str) -> dict[str, np.ndarray]:
    """The tensors on the host, after one wait for all of them."""
    here = {name: torch.empty(batch.shape, dtype=batch.dtype, pin_memory=True) for name, batch in batches.items()}
    for name, batch in batches.items():
        here[name].copy_(batch, non_blocking=True)
    with torch.cuda.device(device):
        ready = torch.cuda.Event()
        ready.record()
    ready.synchronize()
    return {name: batch.numpy() for name, batch in here.items()}
