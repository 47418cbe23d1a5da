"""The trunk that both network families share, the last stage that one branch goes on with, and their weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import timm
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.networks.blocks import basic_stage, bottleneck_stage, initialise
from densereid.train.networks.recomputation import ResidualStage
from densereid.train.networks.trunks.choice import Shape, TimmNetwork, choose_network
from densereid.train.networks.trunks.filling import Filled, fill
from densereid.train.networks.trunks.resnet import SMALL_CHANNELS, Trunk, plain_resnet, small_network, split_resnet
from densereid.train.networks.trunks.weights_file import read_state

PRETRAINED_MODEL = "resnet50.tv_in1k"
"""torchvision's original ImageNet weights: those the papers of 2018 and 2019 started from."""

_PAPERS = {
    "resnet50": Shape(channels=1024, deep_channels=2048, stride=16, deep_stride=16),
    "small": Shape(channels=SMALL_CHANNELS[2], deep_channels=SMALL_CHANNELS[3], stride=16, deep_stride=16),
}


@dataclass(frozen=True)
class Backbone:
    """What the branches share (conv1 to conv4_x of a ResNet), and the last stage (conv5_x, its stride removed)."""

    trunk: Trunk
    conv5: nn.Module
    shape: Shape
    bottleneck: bool

    @property
    def channels(self) -> int:
        """Width of the map that the branches share."""
        return self.shape.channels

    def branch_stage(self, *, branches: int) -> ResidualStage:
        """conv5_x with a share of its channels in each of ``branches`` branches, all reading the trunk's map.

        DSA-reID section 4.2: an eighth in each of eight. Output (B, deep_channels, h, w); random weights. ResNet's
        blocks behind every trunk.
        """
        make, blocks = (bottleneck_stage, 3) if self.bottleneck else (basic_stage, 1)
        width = self.shape.deep_channels // branches
        stage = make(self.channels, width, blocks=blocks, branches=branches, shared_input=True)
        initialise(stage)
        return stage


def build_backbone(
    name: str, *, pretrained: str = "never", conv5_pretrained: bool = True, size: tuple[int, int] = (256, 128)
) -> Backbone:
    """``resnet50``, ``small`` or another network (:func:`densereid.train.networks.trunks.choice.choose_network`), on
    the CPU, for images of ``size`` (height, width).

    ``pretrained``: ``never``; ``auto`` (timm's ImageNet weights; the small one has none); or the path of a state dict,
    for the small one as :func:`backbone_state` gives it. DSA-reID starts conv5_x at random
    (``conv5_pretrained=False``), as its part branches: :func:`densereid.train.networks.blocks.initialise`; the last
    stage of what is no ResNet then starts as timm starts it. Raises UserError for an unknown network or one that gives
    no feature maps, where ImageNet weights cannot be loaded, and for a file that is missing, does not fit, or holds
    values that are not finite.
    """
    network, shape, chosen = _network(name, size)
    everything = dict(network.state_dict(keep_vars=True))
    trunk, conv5 = split_resnet(network) if chosen is None else chosen.split(network)
    state = _state(name, pretrained, chosen)
    if state is not None:
        parts = (trunk, conv5) if conv5_pretrained else (trunk,)
        source = (
            pretrained if pretrained != "auto" else f"timm's weights ({chosen.name if chosen else PRETRAINED_MODEL})"
        )
        fill(_filled(name, everything, parts, chosen), state, source)
    if (state is None or not conv5_pretrained) and (chosen is None or chosen.is_resnet):
        initialise(conv5)
    return Backbone(trunk, conv5, shape, bottleneck=name != "small")


def backbone_state(trunk: nn.Module, conv5: nn.Module) -> dict[str, Tensor]:
    """The state dict, with timm's names, that :func:`build_backbone` reads back as ``pretrained``; of a ResNet."""
    return {**trunk.state_dict(), **{f"layer4.{name}": value for name, value in conv5.state_dict().items()}}


def _network(name: str, size: tuple[int, int]) -> tuple[nn.Module, Shape, TimmNetwork | None]:
    """The whole network, what its maps are like, and how it was chosen where it is neither of the papers' two."""
    if name in _PAPERS:
        network = small_network() if name == "small" else timm.create_model("resnet50", pretrained=False)
        return network, _PAPERS[name], None
    chosen = choose_network(name, size)
    return chosen.create(), chosen.shape, chosen


def _filled(
    name: str, everything: dict[str, Tensor], parts: tuple[nn.Module, ...], chosen: TimmNetwork | None
) -> Filled:
    kept = {id(tensor) for part in parts for tensor in part.state_dict(keep_vars=True).values()}
    wanted = {key: tensor for key, tensor in everything.items() if id(tensor) in kept}
    called = {"resnet50": "ResNet-50", "small": "the small backbone"}.get(name, name)
    return Filled(wanted, frozenset(everything.keys() - wanted.keys()), called, chosen.grid if chosen else ())


def _state(name: str, pretrained: str, chosen: TimmNetwork | None) -> dict[str, Tensor] | None:
    if pretrained == "never" or (name == "small" and pretrained == "auto"):
        return None
    return _download(chosen) if pretrained == "auto" else read_state(Path(pretrained))


def _download(chosen: TimmNetwork | None) -> dict[str, Tensor]:
    name, called = (PRETRAINED_MODEL, "ResNet-50") if chosen is None else (chosen.name, chosen.name)
    if plain_resnet(name) is not None:
        raise UserError(
            f"timm has no weights for {name}",
            f"Give a file, as IBN-Net's {name}-*.pth: --set model.pretrained=FILE; or ask for random weights: --set "
            "model.pretrained=never.",
        )
    try:
        with _quiet_hub():
            network = timm.create_model(name, pretrained=True, **({} if chosen is None else chosen.options))
    except Exception as error:  # the hub's clients raise their own types for every kind of failure
        raise UserError(
            f"timm's weights ({name}) could not be loaded: {first_line(error)}",
            f"Give the file of a {called}'s state dict: --set model.pretrained=FILE; or ask for random weights, which "
            "cost accuracy: --set model.pretrained=never.",
        ) from error
    return dict(network.state_dict())


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Without the hub client's lines about each of its attempts: the error of the last one says the same."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)
