"""Reading DensePose checkpoints without running what is in them, and recognising the architecture that they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.backbone import BLOCKS
from densereid.preprocess.densepose.restricted_reader import PickledArray, UnreadableFile, read_restricted
from densereid.preprocess.densepose.weights import Weights
from densereid.preprocess.densepose.zoo import NAMES_IN_WORDS

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

PIXEL_MEAN = (103.53, 116.28, 123.675)
"""Of the BGR channels, 0..255, in every published model (MODEL.PIXEL_MEAN)."""

_NORMALISATION = {"pixel_mean": PIXEL_MEAN, "pixel_std": (1.0, 1.0, 1.0)}

State = dict[str, torch.Tensor]

_waiting: dict[str, State] = {}
"""What was opened last, by its SHA-256, until a network takes it: no file is read twice to begin with."""


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint that was read: the SHA-256 of its file, and what it is."""

    sha256: str
    architecture: Architecture


def open_checkpoint(path: Path) -> OpenedCheckpoint:
    """Read a .pkl (numpy arrays) or .pth (torch) checkpoint of a DensePose chart model, to be sure of it.

    It stays in memory until :func:`read_checkpoint` takes it. Raises UserError where it cannot be read, is cut off,
    holds anything but finite numbers, expects other pixels than the published models do, or is of another network.
    """
    digest, state = _read(path)
    architecture = architecture_of(state, path)
    _check_normalisation(state, path)
    _check_finite(state, path)
    _waiting.clear()
    _waiting[digest] = state
    return OpenedCheckpoint(digest, architecture)


def read_checkpoint(weights: Weights) -> State:
    """Every tensor of a checkpoint, by Detectron2's own names, on the CPU; not to be written to.

    Raises UserError where the file is not the pinned one, or cannot be read.
    """
    state = _waiting.pop(weights.sha256, None)
    if state is not None:
        return state
    digest, state = _read(weights.path)
    if digest != weights.sha256:
        raise UserError(f"{weights.path} changed while it was in use: its SHA-256 is {digest}, it was {weights.sha256}")
    return state


def _read(path: Path) -> tuple[str, State]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            return digest, _tensors(read_restricted(file, path, what="a checkpoint"), path)
    except OSError as error:
        raise UserError(f"the weights {path} cannot be read: {error.strerror or error}") from error


def _tensors(loaded: Any, path: Path) -> State:
    if isinstance(loaded, Mapping) and "blobs" in loaded:
        raise UnreadableFile(
            f"{path} is a model of the old Detectron (Caffe2): its arrays are blobs, under other names and of another "
            "network than Detectron2's",
            f"use a model of Detectron2's DensePose; {NAMES_IN_WORDS}",
        )
    arrays = loaded.get("model", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(arrays, Mapping):
        raise UnreadableFile(
            f"{path} holds a {type(loaded).__name__}, not a checkpoint", "expected named arrays, alone or under 'model'"
        )
    state: State = {}
    for key, value in arrays.items():
        if isinstance(value, PickledArray):
            value = value.tensor()
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UnreadableFile(f"{path}: {key!r} is a {type(value).__name__}; a checkpoint holds named arrays only")
        state[key.removeprefix("module.")] = value
    return state


def _check_normalisation(state: State, path: Path) -> None:
    for name, expected in _NORMALISATION.items():
        found = state.get(name)
        if found is not None and not (
            found.numel() == len(expected) and torch.allclose(found.flatten().double(), torch.tensor(expected).double())
        ):
            raise UserError(
                f"{path} has {name} {[round(float(value), 3) for value in found.flatten()]}, the published models have "
                f"{list(expected)}: its network was trained on other pixels than it would get here",
                "use a model whose input is BGR pixels of 0..255, of which that mean is subtracted",
            )


def _check_finite(state: State, path: Path) -> None:
    broken = [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise UserError(
            f"{path} holds NaN or infinity in {len(broken)} of {len(state)} arrays, the first is {broken[0]}",
            "the file was damaged, or its training diverged: get it again, or use another one",
        )


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
        raise UnreadableFile(
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
