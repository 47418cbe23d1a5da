"""The parts MagnifierNet is made of: masked pooling, its mask module, its branches and its classifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densereid.data_catalog.parts import NUM_MASK_LABELS
from densereid.train.networks.blocks import bottleneck_stage, initialise


def masked_max_pool(features: Tensor, part_maps: Tensor) -> Tensor:
    """Semantic aligned representation, max-pooled: (B, P, C) of a map (B, C, h, w) under P part maps
    (B, P, h, w).

    v2, equation 1, and GMP; v1, equations 1 and 2. All maps at once: the product is (B, P, h * w, C),
    whose last axis is that of channels-last memory.
    """
    positions = features.flatten(2).transpose(1, 2)
    weights = part_maps.to(features.dtype).flatten(2)
    # max and not amax: its gradient needs the winners' positions alone, amax keeps the whole product.
    pooled: Tensor = (positions[:, None] * weights[..., None]).max(2).values
    return pooled


def bn_neck(width: int) -> nn.BatchNorm1d:
    """BNNeck (Luo et al., CVPRW 2019): batch norm with a bias that stays 0, between triplet and identity loss."""
    norm = nn.BatchNorm1d(width)
    norm.bias.requires_grad_(False)
    return norm


class LinearClassifier(nn.Module):
    """A linear classifier without bias for each of ``branches`` vectors; ``neck`` puts BNNecks before them."""

    def __init__(self, width: int, num_identities: int, *, branches: int = 1, neck: bool = False) -> None:
        super().__init__()
        self.norm = bn_neck(branches * width) if neck else nn.Identity()
        self.weight = nn.Parameter(torch.empty(branches, num_identities, width))
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, branches, num_identities) of features (B, branches, width)."""
        normed = self.norm(features.flatten(1)).view_as(features)
        return torch.einsum("brc,rnc->brn", normed, self.weight)


class MaskHead(nn.Sequential):
    """The mask module: logits (B, 8, 2h, 2w) of a map (B, channels, h, w); EANet's part segmentation head."""

    def __init__(self, channels: int) -> None:
        hidden = channels // 8
        rise = nn.ConvTranspose2d(channels, hidden, 3, stride=2, padding=1, output_padding=1, bias=False)
        predict = nn.Conv2d(hidden, NUM_MASK_LABELS, 1)
        for layer in (rise, predict):
            nn.init.normal_(layer.weight, std=0.001)
        nn.init.zeros_(predict.bias)  # type: ignore[arg-type]
        super().__init__(rise, nn.BatchNorm2d(hidden), nn.ReLU(inplace=True), predict)


class RegularisingBranch(nn.Module):
    """SAB (v2, equation 2) and SRB (v1, equation 3): they differ in how the regions are drawn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bottleneck = bottleneck_stage(channels, channels, blocks=1)
        initialise(self.bottleneck)
        self.reduce = nn.Linear(channels, channels, bias=False)  # starts with deviation 1 / sqrt(3 n), torch's own

    def forward(self, conv4_map: Tensor, part_maps: Tensor | None, kept_regions: Tensor | None) -> Tensor:
        """(B, channels) of the trunk's map under the ``kept_regions``, bool (8,); None sees everything."""
        features = self.bottleneck(conv4_map)
        if kept_regions is None or part_maps is None:
            pooled = features.amax((2, 3))
        else:
            seen = (part_maps * kept_regions[:, None, None]).sum(1, keepdim=True)
            pooled = masked_max_pool(features, seen)[:, 0]
        reduced: Tensor = self.reduce(pooled)
        return reduced


class FusionBranch(nn.Module):
    """SFB (section 3.3 of both versions): eight part vectors, background first, through a cell into one."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.bottleneck = bottleneck_stage(channels, channels, blocks=1)
        initialise(self.bottleneck)
        self.cell: nn.Module = AblationCell(channels) if kind == "ab" else SequenceCell(channels, kind)

    def forward(self, conv4_map: Tensor, part_maps: Tensor) -> tuple[Tensor, Tensor]:
        """Part features (B, 8, channels) and the fused one (B, channels)."""
        parts = masked_max_pool(self.bottleneck(conv4_map), part_maps)
        return parts, self.cell(parts)


class SequenceCell(nn.Module):
    """One layer of GRU (v2) or LSTM (v1) over the parts in the order of the mask labels, 0 to 7."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.layer = layer(channels, channels, batch_first=True)

    def forward(self, parts: Tensor) -> Tensor:
        """The last output (B, channels) of parts (B, 8, channels)."""
        outputs: Tensor = self.layer(parts)[0]
        return outputs[:, -1]


class AblationCell(nn.Module):
    """AB (v1, section 4.4.3; v2, section 4.4): each part reduced by a 1x1 convolution of its own, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(NUM_MASK_LABELS, channels // NUM_MASK_LABELS, channels))
        nn.init.uniform_(self.weight, -(channels**-0.5), channels**-0.5)  # as torch's convolutions of that size

    def forward(self, parts: Tensor) -> Tensor:
        """(B, channels) of parts (B, 8, channels)."""
        return torch.einsum("bpc,poc->bpo", parts, self.weight).flatten(1)
