"""What a DensePose chart model puts upon the pyramid: decoder, region pooling, dense pose head, chart predictor.

Modules bear the names of Detectron2's keys. Facts: DensePose's modeling/roi_heads/{roi_head,v1convx,deeplab}.py and
modeling/predictors/chart*.py, Detectron2's modeling/poolers.py, torchvision's roi_align.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from densereid.data_catalog.parts import NUM_BODY_PARTS
from densereid.preprocess.densepose.backbone import LEVELS, Convolution

_CONVOLUTIONS = 8
_DILATIONS = (6, 12, 56)
_GROUPS = 32
_SAMPLES = 2
"""Points along each edge of a pooled cell at which ROIAlign samples (POOLER_SAMPLING_RATIO)."""

_LEAST_CONFIDENCE = 0.01
"""SEGM_CONFIDENCE.EPSILON."""


class Decoder(nn.Module):
    """Panoptic FPN's decoder: all levels at the first one's stride, summed, then a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for level in LEVELS:
            doublings = level - LEVELS[0]
            layers: list[nn.Module] = []
            for _ in range(max(1, doublings)):
                layers.append(Convolution(channels, channels, 3, relu=True))
                if doublings:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.add_module(f"p{level}", nn.Sequential(*layers))
        self.predictor = Convolution(channels, channels, 1)

    def forward(self, pyramid: Sequence[torch.Tensor]) -> torch.Tensor:
        """(N, channels, H / 4, W / 4) of the levels p2 to p5."""
        first, *others = LEVELS
        total = self.get_submodule(f"p{first}")(pyramid[0])
        for level, features in zip(others, pyramid[1:], strict=True):
            total = total + self.get_submodule(f"p{level}")(features)
        return self.predictor(total)


def pool_whole(features: torch.Tensor, extent: tuple[float, float], cells: int) -> torch.Tensor:
    """ROIAlign of one box from the corner (0, 0) over ``extent`` (height, width), in features: (N, C, cells, cells).

    Equal to torchvision's ``roi_align`` with 2 samples and aligned=False. Of a box with axes it is a linear map along
    each axis, so two small matrix products do it. Computed in float32, returned in the features' type.
    """
    down, along = (
        _pooling_matrix(length, extent[axis], cells, features.device) for axis, length in enumerate(features.shape[2:])
    )
    return (down @ (features.float() @ along.T)).to(features.dtype)


def _pooling_matrix(length: int, extent: float, cells: int, device: torch.device) -> torch.Tensor:
    """Weight of each of ``length`` features in each cell, float32 (cells, length); rows sum to 1."""
    step = max(extent, 1.0) / (cells * _SAMPLES)
    positions = ((torch.arange(cells * _SAMPLES, device=device) + 0.5) * step).clamp(max=length - 1)
    # Linear interpolation: a feature's weight falls from 1 at its own position to 0 at its neighbours'.
    near = 1 - (positions[:, None] - torch.arange(length, device=device)).abs()
    return near.clamp(min=0).reshape(cells, _SAMPLES, length).mean(dim=1)


def level_of_whole(size: tuple[int, int]) -> int:
    """Pyramid level whose features serve a box of (height, width) ``size``: equation 1 of the FPN paper."""
    level = math.floor(4 + math.log2(math.sqrt(size[0] * size[1]) / 224 + 1e-8))
    return min(max(level, LEVELS[0]), LEVELS[-1])


class Aspp(nn.Module):
    """DeepLab's atrous spatial pyramid pooling, with group norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = [nn.Conv2d(channels, channels, 3, padding=step, dilation=step, bias=False) for step in _DILATIONS]
        branches = [nn.Conv2d(channels, channels, 1, bias=False), *wide]
        self.convs = nn.ModuleList(nn.Sequential(*_normed(branch)) for branch in branches)
        everywhere = nn.Conv2d(channels, channels, 1, bias=False)
        self.convs.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), *_normed(everywhere)))
        self.project = nn.Sequential(nn.Conv2d(len(self.convs) * channels, channels, 1, bias=False), nn.ReLU())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Of the features' own shape."""
        branches = [branch(features) for branch in self.convs]
        branches[-1] = branches[-1].expand_as(features)  # one value a channel, so interpolation is repetition
        return self.project(torch.cat(branches, dim=1))


def _normed(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.GroupNorm(_GROUPS, convolution.out_channels), nn.ReLU()


def dense_pose_head(inputs: int, width: int, *, deeplab: bool) -> nn.Sequential:
    """Eight 3x3 convolutions, in the DeepLab head with group norm and after ASPP.

    Without DeepLab's non-local block, which none of DensePose's configs switches on.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if deeplab:
        layers["ASPP"] = Aspp(inputs)
    for index in range(_CONVOLUTIONS):
        norm = nn.GroupNorm(_GROUPS, width) if deeplab else None
        layers[f"body_conv_fcn{index + 1}"] = Convolution(width if index else inputs, width, 3, norm=norm, relu=True)
    return nn.Sequential(layers)


class ChartPredictor(nn.Module):
    """Raw coarse, fine, U and V, at four times the pooled cells.

    Confidences of U and V are loaded and never computed, since nothing here asks for them. Confidences of the
    segmentation multiply its scores.
    """

    def __init__(self, inputs: int, coarse_channels: int, *, uv_confidence: str, segm_confidence: bool) -> None:
        super().__init__()
        charts = NUM_BODY_PARTS + 1
        outputs = {"ann_index": coarse_channels, "index_uv": charts, "u": charts, "v": charts}
        outputs |= {"sigma_2": charts} if uv_confidence else {}
        outputs |= {"kappa_u": charts, "kappa_v": charts} if uv_confidence == "indep_aniso" else {}
        outputs |= {"fine_segm_confidence": 1, "coarse_segm_confidence": 1} if segm_confidence else {}
        for name, channels in outputs.items():
            self.add_module(f"{name}_lowres", nn.ConvTranspose2d(inputs, channels, 4, stride=2, padding=1))
        self.segm_confidence = segm_confidence

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Coarse (N, 2 or 15, 4 H, 4 W), fine, U and V (N, 25, 4 H, 4 W) of (N, inputs, H, W)."""
        coarse, fine, u, v = (self._map(name, features) for name in ("ann_index", "index_uv", "u", "v"))
        if self.segm_confidence:
            fine = fine * self._confidence("fine", features)
            coarse = coarse * self._confidence("coarse", features)
        return coarse, fine, u, v

    def _map(self, name: str, features: torch.Tensor) -> torch.Tensor:
        small = self.get_submodule(f"{name}_lowres")(features)
        return F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)

    def _confidence(self, name: str, features: torch.Tensor) -> torch.Tensor:
        return F.softplus(self._map(f"{name}_segm_confidence", features)) + _LEAST_CONFIDENCE
