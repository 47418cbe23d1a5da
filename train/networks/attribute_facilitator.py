"""The attribute facilitator of MagnifierNet v1 (section 3.5): attributes point at body regions that masks may miss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densereid.data_catalog.datasets.attributes import GROUPS, HEAD, LOWER, UPPER
from densereid.data_catalog.parts import LOWER_LABELS, MASK_LABELS, NUM_MASK_LABELS, UPPER_LABELS
from densereid.train.networks.blocks import bottleneck_stage, initialise

_HEAD_LABEL = MASK_LABELS.index("head")


def _group_of_label(label: int) -> int | None:
    """Which activation a part mask shares: the background has none, and the head is in no torso group here."""
    if label == _HEAD_LABEL:
        return GROUPS.index(HEAD)
    if label in UPPER_LABELS:
        return GROUPS.index(UPPER)
    return GROUPS.index(LOWER) if label in LOWER_LABELS else None


class AttributeFacilitator(nn.Module):
    """A bottleneck block, four sigmoid masks, and a linear classifier on the map under each mask.

    Of the official code: the bottleneck before the masks, which weigh the map that came in, and the mean over the
    map. A group without attributes has a mask that nothing trains.
    """

    def __init__(self, channels: int, groups: Sequence[str]) -> None:
        """``groups``: of each attribute, one of general, head, upper and lower, in the order of the logits."""
        super().__init__()
        self.bottleneck = bottleneck_stage(channels, channels, blocks=1)
        initialise(self.bottleneck)
        self.activate = nn.Conv2d(channels, len(GROUPS), 1)
        self.classify = nn.Linear(channels, len(groups))
        indices = torch.tensor([GROUPS.index(group) for group in groups], dtype=torch.long)
        self.register_buffer("group", indices, persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, A) and activations (B, 4, h, w) in 0..1: general, head, upper, lower.

        ``features``: layer4's map (B, channels, h, w).
        """
        activations = self.activate(self.bottleneck(features)).sigmoid()
        area = features.shape[2] * features.shape[3]
        pooled = torch.einsum("bchw,bghw->bgc", features, activations) / area
        group: Tensor = self.group  # type: ignore[assignment]
        logits = torch.einsum("bac,ac->ba", pooled[:, group], self.classify.weight) + self.classify.bias
        return logits, activations


def add_activations(part_masks: Tensor, activations: Tensor) -> Tensor:
    """The part masks (B, 8, h, w) plus the activation (B, 4, H, W) of each one's body region: (B, 8, h, w), 0..2.

    Head -> head; torso and arms -> upper; legs and feet -> lower; the background gets none. The activations learn
    from the attributes alone: no gradient of the masks reaches them, as in the official code, which does not add but
    puts 0.2 times the activation outside of the part. Another size is resampled by area.
    """
    size = part_masks.shape[-2:]
    resampled = activations.detach().to(part_masks.dtype)
    if resampled.shape[-2:] != size:
        resampled = F.interpolate(resampled, size, mode="area")
    nothing = torch.zeros_like(resampled[:, 0])
    groups = [_group_of_label(label) for label in range(NUM_MASK_LABELS)]
    return part_masks + torch.stack([nothing if group is None else resampled[:, group] for group in groups], 1)
