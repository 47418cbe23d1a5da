"""Files of a trunk's weights, as they lie about: torch.save's and safetensors, bare or wrapped, under several names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from densereid.data_catalog.errors import UserError, why_not_loaded
from densereid.data_catalog.files.pickle_limits import check_torch_file
from densereid.data_catalog.files.refusals import unreadable

_WRAPPERS = ("state_dict", "model", "teacher", "student", "model_state_dict", "net")
"""Keys under which training programs keep the weights, beside their optimisers and counters."""

_PREFIXES = {
    "module.encoder_q.": "MoCo's (LUPerson, LUPerson-NL)",
    "encoder_q.": "MoCo's (LUPerson, LUPerson-NL)",
    "module.backbone.": "DINO's (CION)",
    "backbone.": "fast-reid's, or DINO's without its wrapper (CION)",
    "module.base.": "reid-strong-baseline's",
    "base.": "reid-strong-baseline's",
    "module.": "DataParallel's (IBN-Net)",
    "": "timm's or torchvision's",
}
"""What the names of a network's weights begin with, by whom; read off the programs that write or load such files."""

_SAFETENSORS = re.compile(rb".{7}\x00\{", re.DOTALL)

_CONVNEXT = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"^norm\.", "head.norm."),
)
_TORCHVISION_CONVNEXT = (
    *((rf"^features\.{2 * stage}\.", f"downsample_layers.{stage}.") for stage in range(4)),
    *((rf"^features\.{2 * stage + 1}\.", f"stages.{stage}.") for stage in range(4)),
    (r"\.block\.0\.", ".dwconv."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".pwconv1."),
    (r"\.block\.5\.", ".pwconv2."),
    (r"\.layer_scale$", ".gamma"),
    (r"^classifier\.0\.", "norm."),
    (r"^classifier\.2\.", "head.fc."),
    *_CONVNEXT,
)
_TORCHVISION_TRANSFORMER = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    (r"^heads\.(?:head\.)?", "head."),
)
_RENAMED = {
    "downsample_layers.0.0.weight": ("ConvNeXt's authors' (CION)", _CONVNEXT),
    "features.1.0.layer_scale": ("torchvision's", _TORCHVISION_CONVNEXT),
    "encoder.layers.encoder_layer_0.ln_1.weight": ("torchvision's", _TORCHVISION_TRANSFORMER),
}
"""A weight by which an architecture under other names is known: whose they are, and what each becomes in timm.

torchvision's ResNets have timm's names.
"""


@dataclass(frozen=True)
class NamedWeights:
    """Weights by the names that timm's network may have, and what else is in the file."""

    weights: dict[str, Tensor]
    layout: str
    """Whose names they were, in words."""
    elsewhere: tuple[str, ...]
    """Names in the file that do not begin as the weights of the network do."""


class _Arguments:
    """Stands for the ``argparse.Namespace`` that many programs keep beside the weights; what is in it is not used."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, out of whatever wraps it, without running what is in the file.

    Raises UserError where the file is missing, damaged, or holds no tensors by name.
    """
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist", "Set model.pretrained to auto, never or a file.")
    try:
        content = _content(path)
    except Exception as error:  # torch raises many types for a damaged or unsafe file
        problem = f"weights file {path} cannot be read: {why_not_loaded(error)}"
        raise unreadable(path, error) or UserError(problem, "Save it as a plain state dict.") from error
    state = _unwrapped(content)
    if state is None:
        held = f": it holds {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, Mapping) else ""
        raise UserError(
            f"weights file {path} holds no state dict{held}",
            "Save model.state_dict() of the network, bare or under 'state_dict', 'model' or 'teacher'.",
        )
    return state


def _content(path: Path) -> object:
    with path.open("rb") as file:
        if _SAFETENSORS.match(file.read(64)):
            return load_safetensors(path.read_bytes())
        file.seek(0)
        check_torch_file(file)
    known = [(_Arguments, f"{argparse.Namespace.__module__}.{argparse.Namespace.__qualname__}")]
    with torch.serialization.safe_globals(known):  # type: ignore[arg-type]
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrapped(content: object) -> dict[str, Tensor] | None:
    for _ in _WRAPPERS:  # no file wraps more often than there are wrappers
        if not isinstance(content, Mapping):
            return None
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
        content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
    return None


def named_weights(state: Mapping[str, Tensor], wanted: Mapping[str, object]) -> NamedWeights:
    """The weights of a file under the names of the network, by the layout of which the most are ``wanted``."""
    found = list(_layouts(state))
    return max(found, key=lambda each: len(each.weights.keys() & wanted.keys()))  # of equals the first


def _layouts(state: Mapping[str, Tensor]) -> Iterator[NamedWeights]:
    for prefix, whose in _PREFIXES.items():
        inside = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        outside = tuple(name for name in state if not name.startswith(prefix))
        yield NamedWeights(inside, whose, outside)
        for known, (architecture, rules) in _RENAMED.items():
            if known in inside:
                names = f"{architecture} under {whose}" if prefix else architecture
                yield NamedWeights({_renamed(name, rules): inside[name] for name in inside}, names, outside)


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def known_beginnings() -> str:
    """What a network's names may begin with, in words."""
    return ", ".join(prefix for prefix in _PREFIXES if prefix) + ", or nothing"
