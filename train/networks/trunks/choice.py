"""Which network of timm a name means, and what its feature maps are like: read from it, not assumed.

A network is built and run without memory or arithmetic ("meta") before it is built for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any

import timm
import torch
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.networks.trunks.resnet import Trunk, plain_resnet, resnet_with_instance_norm, split_resnet
from densereid.train.networks.trunks.stages import split_stages
from densereid.train.networks.trunks.tokens import split_transformer

_OURS = ("small", "resnet50_ibn_a")


@dataclass(frozen=True)
class Shape:
    """Widths and strides of the map that the branches share, and of the last stage's."""

    channels: int
    deep_channels: int
    stride: int
    deep_stride: int


@dataclass(frozen=True)
class TimmNetwork:
    """A network of timm: how it is built for a size of images, and what its maps are like."""

    name: str
    options: Mapping[str, Any]
    """For timm.create_model."""
    shape: Shape = field(default_factory=lambda: Shape(0, 0, 0, 0))
    grid: tuple[int, ...] = ()
    """Rows and columns of patches, where it is a transformer."""
    is_resnet: bool = False

    def create(self) -> nn.Module:
        """The whole network, with random weights."""
        plain = plain_resnet(self.name)
        if plain is not None:
            return resnet_with_instance_norm(plain, self.options)
        network: nn.Module = timm.create_model(self.name, **self.options)
        return network

    def split(self, network: nn.Module) -> tuple[Trunk, nn.Module]:
        """What the branches share, and the last stage. Raises UserError where the network gives no feature maps."""
        if isinstance(network, ResNet):
            return split_resnet(network)
        parts = split_transformer(network) if isinstance(network, VisionTransformer) else split_stages(network)
        if parts is None:
            raise _without_maps(self.name, "its stages are not simply one after the other")
        return parts


@cache
def choose_network(name: str, size: tuple[int, int]) -> TimmNetwork:
    """The network that ``model.backbone`` names, for images of ``size`` (height, width).

    A name of timm, with or without the tag of its weights; or ``resnet50_ibn_a`` and its like, which timm has not. The
    last stage keeps the shared map's size where timm can build it so (``output_stride``). Raises UserError for a name
    that timm does not know, a network without feature maps, and a size that it does not take.
    """
    _check_name(name)
    with torch.device("meta"), torch.no_grad():
        chosen, network = _buildable(name, size)
        if isinstance(network, VisionTransformer):
            _check_patches(name, network, size)
            chosen = TimmNetwork(name, chosen.options, grid=tuple(network.patch_embed.grid_size))
        trunk, last = chosen.split(network)
        image = torch.empty(2, 3, *size)
        try:
            shared = trunk(image)
            maps = (trunk.as_map(shared), last(shared))
        except Exception as error:  # whatever an architecture of timm says of a size that it does not take
            problem = f"{name} does not take images of {size[0]}x{size[1]}: {first_line(error)}"
            raise UserError(problem, _SIZES) from error
    return TimmNetwork(name, chosen.options, _shape(name, size, maps), chosen.grid, isinstance(network, ResNet))


_SIZES = "Set height and width to a size that it takes, or choose another model.backbone."


def _check_name(name: str) -> None:
    plain = plain_resnet(name)
    architecture, _, tag = (plain or name).partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(name.partition(".")[0], [*timm.list_models(), *_OURS])
        meant = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UserError(
            f"model.backbone is {name!r}; expected resnet50, {', '.join(_OURS)} or another network of timm "
            f"{timm.__version__}, which has none of that name",
            f"{meant}`python -c 'import timm; print(*timm.list_models())'` lists timm's.",
        )
    if tag and (plain or name) not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise UserError(
            f"model.backbone is {name!r}; timm {timm.__version__} has no weights {tag!r} for {architecture}",
            f"It has {', '.join(tagged) or 'none'}; without a tag timm chooses.",
        )


def _buildable(name: str, size: tuple[int, int]) -> tuple[TimmNetwork, nn.Module]:
    """The network with the first options that its architecture takes."""
    errors: list[Exception] = []
    for options in ({"output_stride": 16}, {"img_size": size}, {}):
        chosen = TimmNetwork(name, {**options, "num_classes": 0})
        try:
            return chosen, chosen.create()
        except Exception as error:  # of architectures that know no such option, each in its own way
            errors.append(error)
    raise UserError(f"timm cannot build {name}: {first_line(errors[-1])}", "Choose another model.backbone.")


def _check_patches(name: str, network: VisionTransformer, size: tuple[int, int]) -> None:
    sides = tuple(int(side) for side in network.patch_embed.patch_size)
    if any(whole % side for whole, side in zip(size, sides, strict=True)):
        raise UserError(
            f"{name} reads patches of {sides[0]}x{sides[1]} pixels, which do not fill images of {size[0]}x{size[1]}",
            f"Set height to a multiple of {sides[0]} and width to one of {sides[1]} (both to multiples of 16, too), or "
            "choose a transformer with other patches.",
        )


def _shape(name: str, size: tuple[int, int], maps: tuple[Tensor, Tensor]) -> Shape:
    strides = []
    for each in maps:
        if not isinstance(each, Tensor) or each.ndim != 4:
            raise _without_maps(name, "what its stages give is no map")
        rows, columns = each.shape[2:]
        stride = size[0] // rows
        if (rows * stride, columns * stride) != size:
            raise UserError(
                f"{name} gives maps of {rows}x{columns} for images of {size[0]}x{size[1]}, which do not divide them",
                _SIZES,
            )
        strides.append(stride)
    return Shape(maps[0].shape[1], maps[1].shape[1], *strides)


def _without_maps(name: str, why: str) -> UserError:
    return UserError(
        f"model.backbone is {name!r}, which gives no feature maps that branches could share: {why}",
        "Choose a network in stages (a ResNet, ConvNeXt, EfficientNet, RegNet, Swin, ...) or a vision transformer.",
    )
