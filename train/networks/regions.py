"""The body regions of MagnifierNet: masks at the size of a feature map, and which regions a batch keeps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from densereid.data_catalog.parts import LOWER_LABELS, NUM_MASK_LABELS, UPPER_LABELS
from densereid.train.config.magnifiernet import MagnifierConfig


def one_hot_part_maps(labels: Tensor) -> Tensor:
    """float32 (B, 8, h, w) of label maps (B, h, w), integers 0..7: map i is 1 where the label is i, else 0."""
    numbers = torch.arange(NUM_MASK_LABELS, device=labels.device, dtype=labels.dtype)
    return (labels[:, None] == numbers[:, None, None]).float()


def resize_part_maps(part_maps: Tensor, size: tuple[int, int], *, resize: str) -> Tensor:
    """(B, 8, *size) of part maps (B, 8, h, w); at every position they still sum to 1.

    No third part can come of two, as from interpolated label numbers. ``bilinear``: between the four pixels at a cell's
    centre (both papers), which leaves most cells to one part. ``area``: each part's share of a cell, of which few are
    one part's alone. ``nearest``: the map at the cell's centre.
    """
    if resize == "bilinear":
        return F.interpolate(part_maps, size, mode="bilinear", align_corners=False)
    if resize == "area":
        return F.adaptive_avg_pool2d(part_maps, size)
    rows, columns = (
        ((torch.arange(new, device=part_maps.device) + 0.5) * (old / new)).long()
        for new, old in zip(size, part_maps.shape[2:], strict=True)
    )
    return part_maps[:, :, rows[:, None], columns]


def mask_target(part_maps: Tensor) -> Tensor:
    """int64 (B, h, w): the part with the largest share at each position, of equal ones the lowest label."""
    return part_maps.argmax(1)


def draw_regions(config: MagnifierConfig, random: torch.Generator) -> Tensor | None:
    """bool (8,) on the CPU: the regions that the regularising branch sees of every image of a batch.

    The background is always kept. SAB, Random-torso: keep / 2 of each torso group; Random-baseline:
    keep of all seven parts (v2, section 3.2). SRB: keep_upper and keep_lower of the groups (v1,
    section 3.2), 0 being all of a group. None without a regularising branch.
    """
    if config.regularisation == "none":
        return None
    kept_regions = torch.zeros(NUM_MASK_LABELS, dtype=torch.bool)
    kept_regions[0] = True
    for labels, number in _groups(config):
        order = torch.randperm(len(labels), generator=random)
        kept_regions[torch.tensor(labels)[order[:number]]] = True
    return kept_regions


def _groups(config: MagnifierConfig) -> tuple[tuple[tuple[int, ...], int], ...]:
    """(labels, how many of them are kept) of each group that is drawn from."""
    if config.regularisation == "srb":
        upper, lower = config.keep_upper or len(UPPER_LABELS), config.keep_lower or len(LOWER_LABELS)
        return ((UPPER_LABELS, upper), (LOWER_LABELS, lower))
    if config.sampling == "baseline":
        return ((UPPER_LABELS + LOWER_LABELS, config.keep),)
    return ((UPPER_LABELS, config.keep // 2), (LOWER_LABELS, config.keep // 2))
