"""ResNet and feature pyramid of the DensePose chart models, in plain torch.

Modules bear the names of Detectron2's keys, so that a checkpoint's state dict loads as it is. torchvision's and timm's
ResNets do not fit: the models put a stage's stride into its first 1x1 convolution (as MSRA's originals did) and their
batch norm has no counter. Facts: Detectron2's modeling/backbone/{resnet,fpn}.py and its defaults.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Bottlenecks of res2 to res5 by depth."""

LEVELS = (2, 3, 4, 5)
"""Of the pyramid; level n has a stride of 2^n pixels. Detectron2's sixth serves the RPN alone."""


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics; its four buffers are all that a checkpoint holds of it."""

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W), each channel shifted and scaled."""
        return F.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class Convolution(nn.Conv2d):
    """A convolution that keeps the size (before its stride), its norm, and a ReLU where one is wanted."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        norm: nn.Module | None = None,
        relu: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, size, stride, padding=size // 2, bias=norm is None)
        self.norm = norm
        self.relu = relu

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        features = super().forward(features)
        if self.norm is not None:
            features = self.norm(features)
        return F.relu_(features) if self.relu else features

    def fold_norm(self) -> None:
        """Multiply a frozen batch norm into weight and bias: the same function in one pass over the features."""
        if isinstance(norm := self.norm, FrozenBatchNorm):
            self.weight, self.bias = fuse_conv_bn_weights(
                self.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            self.norm = None


def _frozen(inputs: int, outputs: int, size: int, *, stride: int = 1, relu: bool = False) -> Convolution:
    return Convolution(inputs, outputs, size, stride=stride, norm=FrozenBatchNorm(outputs), relu=relu)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 beside a shortcut; the stride lies in the first."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = _frozen(inputs, middle, 1, stride=stride, relu=True)
        self.conv2 = _frozen(middle, middle, 3, relu=True)
        self.conv3 = _frozen(middle, outputs, 1)
        self.shortcut = nn.Identity() if inputs == outputs else _frozen(inputs, outputs, 1, stride=stride)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        residual = self.conv3(self.conv2(self.conv1(features)))
        return F.relu_(residual.add_(self.shortcut(features)))


class Stem(nn.Module):
    """7x7 convolution and maximum pooling: a stride of 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _frozen(3, width, 7, stride=2, relu=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, width, H / 4, W / 4)."""
        return F.max_pool2d(self.conv1(images), kernel_size=3, stride=2, padding=1)


class ResNet(nn.Module):
    """ResNet-50 or -101 whose stem has ``width`` channels (64 in the paper)."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem = Stem(width)
        inputs = width
        for level, blocks in zip(LEVELS, BLOCKS[depth], strict=True):
            outputs = width * 2**level
            strides = [1 if level == LEVELS[0] else 2] + [1] * (blocks - 1)
            stage = [Bottleneck(inputs if i == 0 else outputs, outputs, stride) for i, stride in enumerate(strides)]
            self.add_module(f"res{level}", nn.Sequential(*stage))
            inputs = outputs

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """res2 to res5: level n is (N, width x 2^n, H / 2^n, W / 2^n) of images (N, 3, H, W)."""
        features = self.stem(images)
        stages = []
        for level in LEVELS:
            features = self.get_submodule(f"res{level}")(features)
            stages.append(features)
        return stages


class Pyramid(nn.Module):
    """Feature pyramid over a ResNet."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.bottom_up = ResNet(depth, width)
        for level in LEVELS:
            self.add_module(f"fpn_lateral{level}", Convolution(width * 2**level, 4 * width, 1))
            self.add_module(f"fpn_output{level}", Convolution(4 * width, 4 * width, 3))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """p2 to p5: level n is (N, 4 x width, H / 2^n, W / 2^n) of images (N, 3, H, W), H and W multiples of 32."""
        levels: list[torch.Tensor] = []
        above: torch.Tensor | None = None
        for level, stage in zip(reversed(LEVELS), reversed(self.bottom_up(images)), strict=True):
            merged = self.get_submodule(f"fpn_lateral{level}")(stage)
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
            levels.insert(0, self.get_submodule(f"fpn_output{level}")(merged))
            above = merged
        return levels
