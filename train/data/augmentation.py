"""Joint augmentation of image, mask and DSAP: drawn per sample first, then applied to the whole batch.

The same code runs on CPU and GPU. The draw is made on the CPU from an explicit generator, so both see
the same numbers. A horizontal flip mirrors image and mask; the DSAP follows the body: left and right
parts change places, and some charts turn round (densereid.data_catalog.parts, measured on DensePose's output).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V
from densereid.train.config.train_config import AugmentationConfig
from densereid.train.data.batch import Batch, Inputs, TensorFields

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Of the RGB channels, in 0..1; torchvision's published values."""

ERASE_ATTEMPTS = 100
"""Rectangles tried before an image is left whole, as in Zhong et al.'s code."""


@dataclass(frozen=True)
class _Constants:
    mean: Tensor
    deviation: Tensor
    mirrored_parts: Tensor
    turned_u: Tensor
    turned_v: Tensor


@lru_cache
def _constants(device: torch.device) -> _Constants:
    """Made once per device: copying them in every step would make the host wait for the GPU."""
    with torch.inference_mode(False):
        return _Constants(
            255 * torch.tensor(IMAGENET_MEAN, device=device)[:, None, None],
            255 * torch.tensor(IMAGENET_DEVIATION, device=device)[:, None, None],
            torch.from_numpy(MIRROR_PART[1:].astype("int64")).to(device) - 1,
            torch.tensor(MIRROR_TURNS_U, device=device) - 1,
            torch.tensor(MIRROR_TURNS_V, device=device) - 1,
        )


@dataclass(frozen=True)
class Draw(TensorFields):
    """What is done to each of B samples.

    flip: bool (B,). top, left: int64 (B,), the crop's corner in the image padded by ``pad``, 0..2*pad.
    erase: int64 (B, 4), the erased rectangle's top, left, height, width; height 0 erases nothing.
    blank: bool (B,), part images emptied, as where no person was found.
    """

    flip: Tensor
    top: Tensor
    left: Tensor
    erase: Tensor
    blank: Tensor


def draw_augmentation(
    num_samples: int, config: AugmentationConfig, *, height: int, width: int, generator: torch.Generator
) -> Draw:
    """Random parameters for ``num_samples`` images of ``(height, width)``."""
    flip = torch.rand(num_samples, generator=generator) < config.flip
    corner = torch.randint(0, 2 * config.pad + 1, (2, num_samples), generator=generator)
    erase = _draw_rectangles(num_samples, config, height=height, width=width, generator=generator)
    blank = torch.rand(num_samples, generator=generator) < config.blank_parts
    return Draw(flip, corner[0], corner[1], erase, blank)


def _draw_rectangles(
    num_samples: int, config: AugmentationConfig, *, height: int, width: int, generator: torch.Generator
) -> Tensor:
    """The first of ERASE_ATTEMPTS rectangles that is smaller than the image (random erasing, AAAI 2020)."""
    draws = torch.rand(4, num_samples, ERASE_ATTEMPTS, generator=generator, dtype=torch.float64)
    area = (config.erase_area_min + (config.erase_area_max - config.erase_area_min) * draws[0]) * height * width
    aspect = config.erase_aspect_min + (config.erase_aspect_max - config.erase_aspect_min) * draws[1]
    heights, widths = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (heights < height) & (widths < width)
    first = fits.long().argmax(1, keepdim=True)
    chosen_height, chosen_width = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    top = (draws[2].gather(1, first)[:, 0] * (height - chosen_height + 1)).long()
    left = (draws[3].gather(1, first)[:, 0] * (width - chosen_width + 1)).long()
    erased = (torch.rand(num_samples, generator=generator) < config.erase) & fits.any(1)
    return torch.stack((top, left, chosen_height, chosen_width), 1) * erased[:, None]


def augment(batch: Batch, draw: Draw, *, pad: int, dsap_size: int | None = None, part_images: str = "dsap") -> Inputs:
    """The batch flipped, padded and cropped, normalised and erased as drawn; on the batch's device.

    Padding is ImageNet's mean in the image (0 after normalising), background in the mask. The DSAP is
    flipped only. ``dsap_size`` pools it; see :func:`normalise_dsap`. ``part_images`` says how the flip
    changes it: ``dsap`` lives on the body's charts, ``crops`` are pictures.
    """
    draw = draw.to(batch.image.device)
    height, width = batch.image.shape[2:]
    y, x = _source_pixels(draw, height, width, pad)
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    sample = torch.arange(len(batch), device=y.device)[:, None, None]
    source = (sample, y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :])
    kept = inside & ~_rectangles(draw.erase, height, width)
    pixels = batch.image.permute(0, 2, 3, 1)[source]
    image = normalise_image(pixels.permute(0, 3, 1, 2)) * kept[:, None]
    mask = None if batch.mask is None else batch.mask[source] * inside
    mirror = mirror_crops if part_images == "crops" else mirror_parts
    return Inputs(image, batch.identity, batch.camera, _augment_dsap(batch, draw, dsap_size, mirror), mask)


def _source_pixels(draw: Draw, height: int, width: int, pad: int) -> tuple[Tensor, Tensor]:
    """Row (B, H) and column (B, W) of the stored image that each output row and column shows."""
    device = draw.top.device
    y = torch.arange(height, device=device) + draw.top[:, None] - pad
    x = torch.arange(width, device=device) + draw.left[:, None] - pad
    return y, torch.where(draw.flip[:, None], width - 1 - x, x)


def _rectangles(erase: Tensor, height: int, width: int) -> Tensor:
    """bool (B, H, W), True inside each sample's rectangle."""
    top, left, tall, wide = erase.unbind(1)
    y, x = torch.arange(height, device=erase.device), torch.arange(width, device=erase.device)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    return rows[:, :, None] & columns[:, None, :]


def _augment_dsap(batch: Batch, draw: Draw, size: int | None, mirror: Callable[[Tensor], Tensor]) -> Tensor | None:
    if batch.dsap is None:
        return None
    assert batch.valid is not None, "a network that needs dsap needs dsap_valid too"
    dsap = torch.where(draw.flip[:, None, None, None, None], mirror(batch.dsap), batch.dsap)
    valid = torch.where(draw.flip[:, None, None, None], mirror(batch.valid), batch.valid)
    valid = valid & ~draw.blank[:, None, None, None]
    return normalise_dsap(dsap, valid, size=size)


def mirror_parts(parts: Tensor) -> Tensor:
    """(B, 24, ..., U, V) of the mirrored image: parts swapped left and right, turned charts reversed."""
    constants = _constants(parts.device)
    mirrored, turned_u, turned_v = (
        parts.index_select(1, constants.mirrored_parts),
        constants.turned_u,
        constants.turned_v,
    )
    mirrored.index_copy_(1, turned_u, mirrored.index_select(1, turned_u).flip(-2))
    return mirrored.index_copy_(1, turned_v, mirrored.index_select(1, turned_v).flip(-1))


def mirror_crops(parts: Tensor) -> Tensor:
    """(B, 24, ..., rows, columns) crops of the mirrored image: parts swapped left and right, columns reversed."""
    return parts.index_select(1, _constants(parts.device).mirrored_parts).flip(-1)


def normalise_image(image: Tensor) -> Tensor:
    """float32 of uint8 (..., 3, H, W) RGB: minus ImageNet's mean, over its deviation."""
    constants = _constants(image.device)
    return (image.float() - constants.mean) / constants.deviation


def normalise_dsap(dsap: Tensor, valid: Tensor, *, size: int | None = None) -> Tensor:
    """float32 (B, 24, 3, size, size); invalid texels are exactly 0.

    dsap uint8 (B, 24, 3, S, S), valid bool (B, 24, S, S). A ``size`` below S makes each texel the mean
    of the valid ones it covers; S must be its multiple.
    """
    values = normalise_image(dsap) * valid[:, :, None]
    if size is None or size == dsap.shape[-1]:
        return values
    kernel = dsap.shape[-1] // size
    total = F.avg_pool2d(values.flatten(0, 1), kernel)
    share = F.avg_pool2d(valid.flatten(0, 1).float()[:, None], kernel)
    return (total / share.clamp_min(1e-6)).view(*dsap.shape[:3], size, size)
