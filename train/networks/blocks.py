"""Convolution blocks that compute several separate branches at once, as grouped convolutions.

A tensor of ``branches`` feature maps is (B, branches * channels, h, w), one branch after the other.
Batch normalisation works per channel, so it needs no grouping. ``branches=1`` is the ordinary block.
Sources: ResNet (CVPR 2016), figures 2 and 5; DSA-reID table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densereid.train.networks.recomputation import ResidualStage


def convolution(in_channels: int, out_channels: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias (a batch norm follows), padded to keep the map's size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, size, stride, size // 2, groups=groups, bias=False)


def convolution_norm_relu(in_channels: int, out_channels: int, size: int, *, branches: int) -> nn.Sequential:
    """Convolution, batch norm and ReLU in each branch; channel counts are per branch."""
    layer = convolution(branches * in_channels, branches * out_channels, size, groups=branches)
    return nn.Sequential(layer, nn.BatchNorm2d(branches * out_channels), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """ResNet's basic or bottleneck block in each of ``branches`` branches.

    ``sizes`` are the kernel sizes, (3, 3) or (1, 3, 1); ``widths`` the output channels per branch of
    each convolution. The stride is in the first 3x3. With ``shared_input`` every branch reads the
    same (B, in_channels, h, w) map; otherwise the input holds in_channels per branch.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        *,
        sizes: Sequence[int],
        branches: int = 1,
        stride: int = 1,
        shared_input: bool = False,
    ) -> None:
        super().__init__()
        strided = list(sizes).index(3)
        channels = in_channels if shared_input else branches * in_channels
        layers: list[nn.Module] = []
        for index, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            groups = 1 if shared_input and index == 0 else branches
            step = stride if index == strided else 1
            layers += [convolution(channels, branches * width, size, stride=step, groups=groups)]
            layers += [nn.BatchNorm2d(branches * width), nn.ReLU(inplace=True)]
            channels = branches * width
        self.residual = nn.Sequential(*layers[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or shared_input or in_channels != widths[-1]:
            source, groups = (in_channels, 1) if shared_input else (branches * in_channels, branches)
            project = convolution(source, channels, 1, stride=stride, groups=groups)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """ReLU(residual(x) + shortcut(x)), (B, branches * widths[-1], h / stride, w / stride)."""
        return torch.relu(self.residual(x) + self.shortcut(x))


def basic_stage(in_channels: int, out_channels: int, *, blocks: int, **block: int | bool) -> ResidualStage:
    """``blocks`` basic blocks (3x3, 3x3); ``block`` may hold branches, stride and shared_input."""
    return _stage(in_channels, (out_channels, out_channels), (3, 3), blocks, block)


def bottleneck_stage(in_channels: int, out_channels: int, *, blocks: int, **block: int | bool) -> ResidualStage:
    """``blocks`` bottleneck blocks (1x1, 3x3, 1x1) with out_channels / 4 in the middle, otherwise as basic_stage."""
    middle = out_channels // 4
    return _stage(in_channels, (middle, middle, out_channels), (1, 3, 1), blocks, block)


def _stage(
    in_channels: int, widths: Sequence[int], sizes: Sequence[int], blocks: int, block: dict[str, int | bool]
) -> ResidualStage:
    branches = int(block.get("branches", 1))
    first = ResidualBlock(
        in_channels,
        widths,
        sizes=sizes,
        branches=branches,
        stride=int(block.get("stride", 1)),
        shared_input=bool(block.get("shared_input", False)),
    )
    rest = [ResidualBlock(widths[-1], widths, sizes=sizes, branches=branches) for _ in range(blocks - 1)]
    return ResidualStage(first, *rest)


class Classifier(nn.Module):
    """Two fully connected layers over each of ``branches`` feature vectors (DSA-reID section 3.2.4).

    Hidden layer, batch norm, LeakyReLU, dropout, logits: what the paper leaves open follows the template that BDB's
    authors and layumi's Person_reID_baseline_pytorch share (the same group's SAN has a single layer). Every branch has
    weights of its own.
    """

    def __init__(
        self, in_features: int, num_identities: int, *, hidden: int, slope: float, dropout: float, branches: int = 1
    ) -> None:
        super().__init__()
        self.hidden_weight = nn.Parameter(torch.empty(branches, hidden, in_features))
        self.weight = nn.Parameter(torch.empty(branches, num_identities, hidden))
        self.bias = nn.Parameter(torch.zeros(branches, num_identities))
        nn.init.normal_(self.hidden_weight, std=(2 / in_features) ** 0.5)
        # Small logits at the start, as in the strong baseline, so that the triplet loss leads first.
        nn.init.normal_(self.weight, std=0.001)
        self.norm = nn.BatchNorm1d(branches * hidden)
        self.activation = nn.LeakyReLU(slope)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, branches, num_identities) of features (B, branches, in_features)."""
        hidden = torch.einsum("bri,rhi->brh", features, self.hidden_weight)
        hidden = self.activation(self.norm(hidden.flatten(1)).view_as(hidden))
        return torch.einsum("brh,rnh->brn", self.dropout(hidden), self.weight) + self.bias


def concat_normalise(features: dict[str, Tensor]) -> Tensor:
    """The branches' features concatenated and L2-normalised, float32 (B, D): an embedding."""
    return F.normalize(torch.cat([feature.flatten(1) for feature in features.values()], 1).float())


def initialise(module: nn.Module) -> None:
    """What every stage that starts at random has: He initialisation of the convolutions, batch norms of 1 and 0.

    By fan-in: torch counts the fan-out of a grouped convolution over all groups together, which would
    make each branch's weights too small by the square root of their number. No batch norm starts at 0 (timm's
    ``zero_init_last``): of two branches under one joint norm, the other one would lead.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
