"""ResNets as trunks: conv1 to conv4_x shared, conv5_x with its last stride removed; timm's, a small one, IBN-a."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from densereid.train.networks.recomputation import ResidualStage

SMALL_CHANNELS = (16, 32, 64, 128)
"""Widths of the four stages of the ResNet for a CPU."""

_WITH_INSTANCE_NORM = "_ibn_a"


class Trunk(nn.Module):
    """conv1, conv2_x, conv3_x and conv4_x of a ResNet; other trunks are subclasses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name in ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3"):
            module = getattr(network, name)
            self.add_module(name, ResidualStage(*module) if name.startswith("layer") else module)

    def forward(self, image: Tensor) -> Tensor:
        """What the last stage reads, of normalised images (B, 3, H, W): here the map (B, channels, H / 16, W / 16)."""
        for stage in self.children():
            image = stage(image)
        return image

    def as_map(self, shared: Tensor) -> Tensor:
        """What ``forward`` gave as the map (B, channels, h, w) that the branches read."""
        return shared


class InstanceBatchNorm(nn.Module):
    """IBN-a (Pan et al., ECCV 2018): instance norm of the first half of the channels, batch norm of the others.

    Its weights have the names that IBN-Net, fast-reid and CION give them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.instance_channels = channels // 2
        self.IN = nn.InstanceNorm2d(self.instance_channels, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.instance_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w), of the same shape."""
        return torch.cat((self.IN(x[:, : self.instance_channels]), self.BN(x[:, self.instance_channels :])), 1)


def small_network() -> nn.Module:
    """A ResNet of four basic blocks, for a CPU."""
    return ResNet(BasicBlock, layers=[1, 1, 1, 1], channels=SMALL_CHANNELS, stem_width=16, num_classes=0)


def plain_resnet(name: str) -> str | None:
    """The ResNet that ``name`` is with IBN-a: ``resnet50`` of ``resnet50_ibn_a``; None for all other names."""
    plain = name.removesuffix(_WITH_INSTANCE_NORM)
    return None if plain == name else plain


def resnet_with_instance_norm(name: str, options: Mapping[str, Any]) -> nn.Module:
    """timm's ResNet with IBN-a in place of the first norm of each block of conv2_x, conv3_x and conv4_x.

    timm has no ResNet-IBN; where the norm is replaced is IBN-Net's. ``options`` are for timm. Raises ValueError where
    the network is no ResNet.
    """
    network = timm.create_model(name, **options)
    if not isinstance(network, ResNet):
        raise ValueError(f"{name} is no ResNet, whose blocks have the norms that IBN-a replaces")
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in stage:
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    return network


def split_resnet(network: nn.Module) -> tuple[Trunk, nn.Module]:
    """The trunk, and conv5_x without its stride.

    "The last spatial down-sample operation in the Conv5 layer is removed" (DSA-reID, section 4.2); no dilation instead,
    which timm's own ``output_stride`` has.
    """
    conv5 = network.layer4
    assert isinstance(conv5, nn.Sequential)
    for module in conv5.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.dilation != (1, 1):
                module.dilation, module.padding = (1, 1), (module.kernel_size[0] // 2,) * 2
    return Trunk(network), ResidualStage(*conv5)
