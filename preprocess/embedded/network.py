"""The embedded dense pose network: fully convolutional, under 3 million parameters, in plain torch.

A residual encoder down to a 32nd of the input and a feature pyramid back up to half of it (He et al., CVPR 2016; Lin et
al., CVPR 2017), with DensePose's chart head as the output: coarse, fine, U and V (Güler et al., CVPR 2018).
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from densereid.data_catalog.parts import NUM_BODY_PARTS
from densereid.preprocess.densepose.decode import ChartScores

STRIDE = 32
"""Inputs are padded to a multiple of this."""

_COARSE, _CHARTS = 2, NUM_BODY_PARTS + 1


class EmbeddedNetwork(nn.Module):
    """A batch of crops in, the chart scores of the one person in each out, at half the input's size.

    ``widths``: channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input. ``depths``: residual blocks at the last four.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        widths: tuple[int, ...] = (24, 48, 96, 128, 160),
        depths: tuple[int, ...] = (2, 3, 4, 1),
        pyramid: int = 64,
        head: int = 48,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255, persistent=False)
        self.stem = _convolution(3, widths[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, width, stride=2), *(_Residual(width) for _ in range(depth)))
            for before, width, depth in zip(widths, widths[1:], depths, strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, pyramid, 1) for width in widths[1:])
        self.smooth = nn.ModuleList(_convolution(pyramid, pyramid) for _ in widths[2:])
        self.fine_lateral = nn.Conv2d(widths[0], head, 1)
        self.narrow = nn.Conv2d(pyramid, head, 1)
        self.head = nn.Sequential(_convolution(head, head), nn.Conv2d(head, _COARSE + 3 * _CHARTS, 1))

    def forward(self, images: Tensor) -> ChartScores:
        """Scores of RGB images (N, 3, H, W) of any floating type, 0..255, H and W multiples of 32."""
        finest = self.stem((images - self.mean) / self.deviation)
        maps = [finest]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        top = self.lateral[-1](maps[-1])
        for lateral, smooth, below in zip(
            reversed(self.lateral[:-1]), reversed(self.smooth), reversed(maps[1:-1]), strict=True
        ):
            top = smooth(_twice(top) + lateral(below))
        scores = self.head(F.relu(_twice(self.narrow(top)) + self.fine_lateral(finest)))
        return ChartScores(*scores.split((_COARSE, _CHARTS, _CHARTS, _CHARTS), dim=1))


def fused(network: EmbeddedNetwork) -> EmbeddedNetwork:
    """A copy for inference whose batch normalisations are part of the convolutions before them."""
    result = deepcopy(network).eval()
    for module in list(result.modules()):
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                convolution, normalisation = module[index], module[index + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                    module[index], module[index + 1] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return result


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.second(self.first(maps)))


def _convolution(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def _twice(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")
