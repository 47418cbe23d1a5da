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

ENLARGED = 1.125
"""Size of what is cropped after enlarging, in images (DaRe, CVPR 2018, which DSA-reID's section 4.2 cites; SAN)."""

ERASE_ATTEMPTS = 100
"""Rectangles tried before an image is left whole, as in Zhong et al.'s code."""


@dataclass(frozen=True)
class _Constants:
    mean: Tensor
    deviation: Tensor
    black: Tensor
    mirrored_parts: Tensor
    turned_u: Tensor
    turned_v: Tensor


@lru_cache
def _constants(device: torch.device) -> _Constants:
    """Made once per device: copying them in every step would make the host wait for the GPU."""
    with torch.inference_mode(False):
        mean, deviation = (
            255 * torch.tensor(values, device=device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
        )
        return _Constants(
            mean,
            deviation,
            -mean / deviation,
            torch.from_numpy(MIRROR_PART[1:].astype("int64")).to(device) - 1,
            torch.tensor(MIRROR_TURNS_U, device=device) - 1,
            torch.tensor(MIRROR_TURNS_V, device=device) - 1,
        )


@dataclass(frozen=True)
class Draw(TensorFields):
    """What is done to each of B samples.

    flip: bool (B,). top, left: int64 (B,), the crop's corner in the padded or enlarged image, from 0.
    whole: bool (B,), images that are not cropped.
    erase: int64 (B, 4), the erased rectangle's top, left, height, width; height 0 erases nothing.
    blank: bool (B,), part images emptied, as where no person was found.
    """

    flip: Tensor
    top: Tensor
    left: Tensor
    whole: Tensor
    erase: Tensor
    blank: Tensor


def draw_augmentation(
    num_samples: int, config: AugmentationConfig, *, height: int, width: int, generator: torch.Generator
) -> Draw:
    """Random parameters for ``num_samples`` images of ``(height, width)``."""
    flip = torch.rand(num_samples, generator=generator) < config.flip
    rooms = [2 * config.pad] * 2
    if config.crop == "enlarge":
        rooms = [enlarged(length) - length for length in (height, width)]
    corner = [torch.randint(0, room + 1, (num_samples,), generator=generator) for room in rooms]
    erase = _draw_rectangles(num_samples, config, height=height, width=width, generator=generator)
    blank = torch.rand(num_samples, generator=generator) < config.blank_parts
    whole = torch.zeros(num_samples, dtype=torch.bool)
    if config.crop_probability < 1:
        whole = torch.rand(num_samples, generator=generator) >= config.crop_probability
    return Draw(flip, corner[0], corner[1], whole, erase, blank)


def enlarged(length: int) -> int:
    """Pixels of a side that has ``length`` before ``augmentation.crop: enlarge`` enlarges it."""
    return round(ENLARGED * length)


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


def augment(
    batch: Batch, draw: Draw, config: AugmentationConfig, *, dsap_size: int | None = None, part_images: str = "dsap"
) -> Inputs:
    """The batch flipped, cropped, normalised and erased as drawn; on the batch's device.

    Padding is ImageNet's mean in the image (0 after normalising) or black, background in the mask. Of an enlarged
    image, bilinear, the mask has the nearest label. The DSAP is flipped only. ``dsap_size`` pools it; see
    :func:`normalise_dsap`. ``part_images`` says how the flip changes it: ``dsap`` lives on the body's charts, ``crops``
    are pictures.
    """
    draw = draw.to(batch.image.device)
    height, width = batch.image.shape[2:]
    y, x = _source_positions(draw, height, width, config)
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    image, kept = _image_at(batch.image, y, x), ~_rectangles(draw.erase, height, width)
    if config.pad_colour == "black":
        image = torch.where(inside[:, None], image, _constants(image.device).black)
    else:
        kept = kept & inside
    image = image * kept[:, None]
    mask = None if batch.mask is None else batch.mask[_pixels(batch.mask, y, x)] * inside
    mirror = mirror_crops if part_images == "crops" else mirror_parts
    return Inputs(image, batch.identity, batch.camera, _augment_dsap(batch, draw, dsap_size, mirror), mask)


def _source_positions(draw: Draw, height: int, width: int, config: AugmentationConfig) -> tuple[Tensor, Tensor]:
    """Row (B, H) and column (B, W) of the stored image that each output row and column shows: int64, or float32."""
    lines = []
    for corner, length in ((draw.top, height), (draw.left, width)):
        own = torch.arange(length, device=corner.device)
        if config.crop == "enlarge":
            shown = ((own + corner[:, None] + 0.5) * (length / enlarged(length)) - 0.5).clamp(0, length - 1)
        else:
            shown = own + corner[:, None] - config.pad
        lines.append(torch.where(draw.whole[:, None], own.to(shown.dtype), shown))
    y, x = lines
    return y, torch.where(draw.flip[:, None], width - 1 - x, x)


def _pixels(image: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The index (sample, row, column) into (B, H, W, ...) of the pixels nearest to rows (B, H) and columns (B, W)."""
    height, width = image.shape[1:3]
    rows, columns = (line if line.dtype == torch.int64 else line.round().long() for line in (y, x))
    sample = torch.arange(len(image), device=y.device)[:, None, None]
    return sample, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]


def _image_at(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Normalised pixels (B, 3, H, W) of uint8 (B, 3, H, W) at rows (B, H) and columns (B, W), bilinear between them."""
    last = image.permute(0, 2, 3, 1)
    if y.dtype == torch.int64:
        return normalise_image(last[_pixels(last, y, x)].permute(0, 3, 1, 2))
    above, before = y.floor(), x.floor()
    down, right = (y - above)[:, :, None, None], (x - before)[:, None, :, None]
    rows = [
        last[_pixels(last, row, before)] * (1 - right) + last[_pixels(last, row, before + 1)] * right
        for row in (above, above + 1)
    ]
    return normalise_image((rows[0] * (1 - down) + rows[1] * down).permute(0, 3, 1, 2))


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
    return image.to(torch.float32, copy=True).sub_(constants.mean).div_(constants.deviation)


def normalise_dsap(dsap: Tensor, valid: Tensor, *, size: int | None = None) -> Tensor:
    """float32 (B, 24, 3, size, size); invalid texels are exactly 0.

    dsap uint8 (B, 24, 3, S, S), valid bool (B, 24, S, S). A ``size`` below S makes each texel the mean
    of the valid ones it covers; S must be its multiple.
    """
    values = normalise_image(dsap).mul_(valid[:, :, None])
    if size is None or size == dsap.shape[-1]:
        return values
    kernel = dsap.shape[-1] // size
    total = F.avg_pool2d(values.flatten(0, 1), kernel)
    share = F.avg_pool2d(valid.flatten(0, 1).float()[:, None], kernel)
    return total.div_(share.clamp_min_(1e-6)).view(*dsap.shape[:3], size, size)
