"""DSA-reID's guiding stream (DSAG-Stream): from 24 DSAP images to one global and eight part features.

The multi-branch sub-networks and the head of table 1. All branches of a layer are one grouped
convolution, nothing is shared between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densereid.data_catalog.parts import FRONT_BACK_MERGE, LEFT_RIGHT_MERGE, NUM_BODY_PARTS
from densereid.train.networks.blocks import basic_stage, convolution_norm_relu, initialise

NUM_PAIRS = len(LEFT_RIGHT_MERGE)
NUM_REGIONS = len(FRONT_BACK_MERGE)


class Merge(nn.Module):
    """Adds up the branches of each group (table 1, "element-wise add"; figure 4)."""

    def __init__(self, groups: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        group_of = [-1] * sum(len(members) for members in groups)
        for index, members in enumerate(groups):
            for member in members:
                group_of[member] = index
        self.num_groups = len(groups)
        self.register_buffer("group_of", torch.tensor(group_of), persistent=False)
        self.group_of: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, groups * c, h, w) from (B, branches * c, h, w)."""
        branches = x.unflatten(1, (len(self.group_of), -1))
        sums = branches.new_zeros(len(x), self.num_groups, *branches.shape[2:])
        return sums.index_add(1, self.group_of, branches).flatten(1, 2)


class GuidingStream(nn.Module):
    """DSAG-Stream with widths in proportion to ``channels`` (c_A); 1024 gives table 1's numbers.

    ``branches``: the head's branches, ``global`` and ``local`` or one of them.
    """

    def __init__(self, channels: int, *, branches: Sequence[str] = ("global", "local")) -> None:
        super().__init__()
        width = channels // NUM_REGIONS
        self.conv1 = convolution_norm_relu(3, width // 4, 5, branches=NUM_BODY_PARTS)
        self.conv2 = convolution_norm_relu(width // 4, width // 2, 3, branches=NUM_BODY_PARTS)
        self.conv3_x = basic_stage(width // 2, width // 2, blocks=2, branches=NUM_BODY_PARTS, stride=2)
        self.merge_left_right = Merge(tuple(tuple(part - 1 for part in parts) for parts in LEFT_RIGHT_MERGE))
        self.conv4_x = basic_stage(width // 2, width, blocks=2, branches=NUM_PAIRS, stride=2)
        self.merge_front_back = Merge(tuple(pairs for _, pairs in FRONT_BACK_MERGE))
        if "global" in branches:
            self.conv5_g = basic_stage(channels, 2 * channels, blocks=2)
        if "local" in branches:
            self.conv5_l = basic_stage(width, 2 * width, blocks=2, branches=NUM_REGIONS)
        initialise(self)

    def regions(self, dsap: Tensor) -> Tensor:
        """D = [D_1, ..., D_8], (B, channels, S / 4, S / 4), of DSAP images (B, 24, 3, S, S)."""
        parts = self.conv3_x(self.conv2(self.conv1(dsap.flatten(1, 2))))
        pairs = self.conv4_x(self.merge_left_right(parts))
        regions: Tensor = self.merge_front_back(pairs)
        return regions

    def forward(self, dsap: Tensor) -> dict[str, Tensor]:
        """d_G (B, 2 * channels), equation 1, as ``global``; d_L (B, 8, channels / 4), equation 2, as ``local``."""
        regions = self.regions(dsap)
        features = {}
        if hasattr(self, "conv5_g"):
            features["global"] = self.conv5_g(regions).mean((2, 3))
        if hasattr(self, "conv5_l"):
            features["local"] = self.conv5_l(regions).mean((2, 3)).unflatten(1, (NUM_REGIONS, -1))
        return features
