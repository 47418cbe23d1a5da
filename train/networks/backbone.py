"""The ResNet trunk that both network families share, and its ImageNet weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError, first_line, why_not_loaded
from densereid.data_catalog.files.pickle_limits import check_torch_file
from densereid.data_catalog.files.refusals import unreadable
from densereid.train.networks.blocks import basic_stage, bottleneck_stage, initialise
from densereid.train.networks.finite import not_finite

log = logging.getLogger(__name__)

PRETRAINED_MODEL = "resnet50.tv_in1k"
"""torchvision's original ImageNet weights: those the papers of 2018 and 2019 started from."""

_SMALL_CHANNELS = (16, 32, 64, 128)
_HEAD = ("fc.",)


@dataclass(frozen=True)
class Backbone:
    """conv1 to conv4_x (stride 16, ``channels`` out), and conv5_x with its last stride removed (2 * ``channels``)."""

    trunk: nn.Module
    conv5: nn.Module
    channels: int
    bottleneck: bool

    def branch_stage(self, *, branches: int) -> nn.Sequential:
        """conv5_x with an eighth of the channels in each of ``branches`` branches, all reading the trunk's map.

        DSA-reID section 4.2. Output (B, branches * channels / 4, h, w); random weights.
        """
        make, blocks = (bottleneck_stage, 3) if self.bottleneck else (basic_stage, 1)
        stage = make(self.channels, self.channels // 4, blocks=blocks, branches=branches, shared_input=True)
        initialise(stage)
        return stage


class Trunk(nn.Module):
    """conv1, conv2_x, conv3_x and conv4_x of a ResNet."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name in ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3"):
            self.add_module(name, getattr(network, name))

    def forward(self, image: Tensor) -> Tensor:
        """Feature map (B, channels, H / 16, W / 16) of normalised images (B, 3, H, W)."""
        for stage in self.children():
            image = stage(image)
        return image


def build_backbone(name: str, *, pretrained: str = "never", conv5_pretrained: bool = True) -> Backbone:
    """``resnet50`` or ``small``, on the CPU.

    ``pretrained``: ``never``; ``auto`` (timm's ImageNet weights, or a logged notice and random ones
    where they cannot be loaded; the small one has none); or the path of a state dict, for the small one
    as :func:`backbone_state` gives it. DSA-reID starts conv5_x at random (``conv5_pretrained=False``).
    Raises UserError for a file that is missing, does not fit, or holds values that are not finite.
    """
    small = name == "small"
    network = _small_network() if small else timm.create_model("resnet50", pretrained=False)
    state = _weights("never" if small and pretrained == "auto" else pretrained)
    if state is not None:
        skip = _HEAD if conv5_pretrained else (*_HEAD, "layer4.")
        _load(network, state, pretrained, "the small backbone" if small else "ResNet-50", skip=skip)
    return _split(network, channels=_SMALL_CHANNELS[2] if small else 1024, bottleneck=not small)


def backbone_state(trunk: nn.Module, conv5: nn.Module) -> dict[str, Tensor]:
    """The state dict, with timm's names, that :func:`build_backbone` reads back as ``pretrained``."""
    return {**trunk.state_dict(), **{f"layer4.{name}": value for name, value in conv5.state_dict().items()}}


def _small_network() -> nn.Module:
    return ResNet(BasicBlock, layers=[1, 1, 1, 1], channels=_SMALL_CHANNELS, stem_width=16, num_classes=0)


def _split(network: nn.Module, *, channels: int, bottleneck: bool) -> Backbone:
    conv5 = network.layer4
    assert isinstance(conv5, nn.Sequential)
    # "The last spatial down-sample operation in the Conv5 layer is removed" (section 4.2); no dilation instead.
    for module in conv5[0].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return Backbone(Trunk(network), conv5, channels, bottleneck)


def _weights(pretrained: str) -> dict[str, Tensor] | None:
    if pretrained == "never":
        return None
    if pretrained == "auto":
        return _download()
    path = Path(pretrained)
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist", "Set model.pretrained to auto, never or a file.")
    try:
        with path.open("rb") as file:
            check_torch_file(file)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged or unsafe file
        problem = f"weights file {path} cannot be read: {why_not_loaded(error)}"
        raise unreadable(path, error) or UserError(problem, "Save it as a plain state dict.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights file {path} holds no state dict", "Save model.state_dict() of a ResNet-50.")
    return state


def _download() -> dict[str, Tensor] | None:
    try:
        network = timm.create_model(PRETRAINED_MODEL, pretrained=True)
    except Exception as error:  # the hub's clients raise their own types for every kind of failure
        log.warning(
            "ImageNet weights (%s) could not be loaded: %s. Training starts from RANDOM weights, which costs "
            "accuracy; give a file as model.pretrained to avoid it.", PRETRAINED_MODEL, first_line(error),
        )  # fmt: skip
        return None
    log.info("ResNet-50 starts from ImageNet weights (%s).", PRETRAINED_MODEL)
    return dict(network.state_dict())


def _load(
    network: nn.Module, state: dict[str, Tensor], source: str, architecture: str, *, skip: tuple[str, ...]
) -> None:
    """Load everything but ``skip`` strictly; the classifier of 1,000 classes is never wanted."""
    wanted = {key: value for key, value in network.state_dict().items() if not key.startswith(skip)}
    given = {key: value for key, value in state.items() if not key.startswith(skip)}
    if problem := not_finite(given):
        raise UserError(f"weights {source!r}: {problem}", "They cannot train anything: give other weights.")
    different = [key for key in wanted if key in given and wanted[key].shape != given[key].shape]
    problems = {
        "missing": sorted(set(wanted) - set(given)),
        "unexpected": sorted(set(given) - set(wanted)),
        "of another shape": different,
    }
    summary = "; ".join(f"{len(keys)} {kind} ({keys[0]}, ...)" for kind, keys in problems.items() if keys)
    if summary:
        raise UserError(
            f"the weights {source!r} do not fit {architecture}: {summary}", f"Give a state dict of {architecture}."
        )
    network.load_state_dict(given, strict=False)
