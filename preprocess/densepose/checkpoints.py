"""Reading DensePose checkpoints without running what is in them, and recognising the architecture that they hold."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from densereid.data_catalog.errors import UserError, first_line
from densereid.preprocess.densepose.backbone import BLOCKS
from densereid.preprocess.densepose.numpy_unpickler import PickledArray, unpickle_arrays
from densereid.preprocess.densepose.weights import Weights

_BUILT_FROM_CONFIG = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.")
"""Beginnings of keys that some checkpoints carry and others leave to the config; Detectron2 ignores them too."""

DETECTOR_KEYS = frozenset(
    f"{layer}.{kind}"
    for layer in (
        *(f"proposal_generator.rpn_head.{name}" for name in ("conv", "objectness_logits", "anchor_deltas")),
        *(f"roi_heads.{name}" for name in ("box_head.fc1", "box_head.fc2")),
        *(f"roi_heads.box_predictor.{name}" for name in ("cls_score", "bbox_pred")),
    )
    for kind in ("weight", "bias")
)
"""Keys of the person detector (RPN and box head), which a model of whole crops has no use for."""

State = dict[str, torch.Tensor]


def read_checkpoint(weights: Weights) -> State:
    """Every tensor of a .pkl (numpy arrays) or .pth (torch) checkpoint, by Detectron2's own names, on the CPU.

    Raises UserError where the file is not the pinned one, is cut off, is no checkpoint, or holds anything but arrays.
    """
    path = weights.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"the weights {path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != weights.sha256:
        raise UserError(f"{path} changed while it was in use: its SHA-256 is {digest}, it was {weights.sha256}")
    is_torch = content[:2] == b"PK" or path.suffix != ".pkl"
    loaded = _load_torch(content, path) if is_torch else _load_pickle(content, path)
    return _tensors(loaded, path)


def _load_torch(content: bytes, path: Path) -> Any:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise _unreadable(path, len(content), f"{type(error).__name__}: {first_line(error)}") from error


def _load_pickle(content: bytes, path: Path) -> Any:
    try:
        return unpickle_arrays(content, path)
    except UserError:
        raise
    except Exception as error:  # a broken pickle can raise anything
        raise _unreadable(path, len(content), f"{type(error).__name__}: {error}") from error


def _unreadable(path: Path, size: int, reason: str) -> UserError:
    return UserError(
        f"{path} ({size} bytes) cannot be read as a checkpoint: {reason}",
        "it may be cut off: delete it and get it again",
    )


def _tensors(loaded: Any, path: Path) -> State:
    arrays = loaded.get("model", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(arrays, Mapping):
        raise UserError(
            f"{path} holds a {type(loaded).__name__}, not a checkpoint", "expected named arrays, alone or under 'model'"
        )
    state: State = {}
    for key, value in arrays.items():
        if isinstance(value, PickledArray):
            value = torch.from_numpy(value.values)
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UserError(f"{path}: {key!r} is a {type(value).__name__}; a checkpoint holds named arrays only")
        state[key.removeprefix("module.")] = value
    return state


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one DensePose chart model from another; its ``name`` is the model zoo's name of the config."""

    depth: int
    deeplab: bool = False
    uv_confidence: str = ""
    """Detectron2's word: empty, ``iid_iso`` (WC1) or ``indep_aniso`` (WC2)."""
    segm_confidence: bool = False
    decoder: bool = True
    coarse_channels: int = 2
    width: int = 64
    """Channels of the ResNet's stem, a multiple of 16: 64 in every published model. All other widths follow."""

    @property
    def name(self) -> str:
        """For example ``densepose_rcnn_R_50_FPN_DL_s1x``."""
        confidence = {"": "", "iid_iso": "_WC1", "indep_aniso": "_WC2"}[self.uv_confidence]
        middle = "_DL" * self.deeplab + confidence + "M" * self.segm_confidence
        end = "_legacy" * (not self.decoder) + f"_width{self.width}" * (self.width != 64)
        return f"densepose_rcnn_R_{self.depth}_FPN{middle}_s1x{end}"


def architecture_of(state: Mapping[str, torch.Tensor], path: Path) -> Architecture:
    """The architecture that a checkpoint's keys belong to. Raises UserError where it is no DensePose chart model."""
    depths = {blocks[2]: depth for depth, blocks in BLOCKS.items()}  # res4 is where they differ
    predictor = "roi_heads.densepose_predictor"
    blocks = {key.split(".")[3] for key in state if key.startswith("backbone.bottom_up.res4.")}
    coarse, stem = state.get(f"{predictor}.ann_index_lowres.weight"), state.get("backbone.bottom_up.stem.conv1.weight")
    width = stem.shape[0] if stem is not None and stem.ndim == 4 else 0
    if len(blocks) not in depths or coarse is None or coarse.ndim != 4 or width == 0 or width % 16:
        raise UserError(
            f"{path} is not a DensePose chart model of a ResNet-50 or -101: {len(blocks)} blocks in res4, "
            f"{width} channels in the stem, "
            f"{sum(key.startswith(predictor) for key in state)} arrays of a chart predictor, first keys "
            f"{', '.join(list(state)[:3])}",
            "expected a model from DensePose's doc/DENSEPOSE_IUV.md (not CSE, HRNet or a detector alone)",
        )
    aniso, confident = f"{predictor}.kappa_u_lowres.weight" in state, f"{predictor}.sigma_2_lowres.weight" in state
    return Architecture(
        depth=depths[len(blocks)],
        deeplab=any(key.startswith("roi_heads.densepose_head.ASPP.") for key in state),
        uv_confidence="indep_aniso" if aniso else "iid_iso" if confident else "",
        segm_confidence=f"{predictor}.fine_segm_confidence_lowres.weight" in state,
        decoder=any(key.startswith("roi_heads.decoder.") for key in state),
        coarse_channels=coarse.shape[1],
        width=width,
    )


def check_keys(
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    path: Path,
    *,
    ignored: Collection[str] = (),
) -> None:
    """Raise UserError naming the keys of ``state`` that are missing, extra or misshapen against ``wanted``'s.

    ``ignored`` are keys that may be there and are not wanted.
    """
    missing = [key for key in wanted if key not in state and not key.startswith(_BUILT_FROM_CONFIG)]
    known = {*wanted, *ignored}
    extra = [key for key in state if key not in known and not key.startswith(_BUILT_FROM_CONFIG)]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    wrong = {"missing": missing, "not known": extra, "misshapen": misshapen}
    if any(wrong.values()):
        listed = "; ".join(f"{len(keys)} {word}: {', '.join(keys[:3])}" for word, keys in wrong.items() if keys)
        raise UserError(f"{path} does not fit the network ({listed})", "the checkpoint is of another architecture")
