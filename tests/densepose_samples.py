"""Random weights and crops for DensePose networks, the same bytes on every machine."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from densereid.preprocess.densepose.checkpoints import Architecture
from densereid.preprocess.densepose.network import DenseposeNetwork
from densereid.preprocess.densepose.weights import Weights
from densereid.preprocess.densepose.zoo import ZOO

TINY = Architecture(50, width=16)
"""R_50_FPN_s1x at a quarter of the channels: the whole architecture in a tenth of a second."""

_SPREAD = {
    "stem.conv1.norm.weight": 0.01,  # brings 0..255 to the size of a feature
    "conv3.norm.weight": 0.2,  # otherwise every residual block doubles what goes through it
    "decoder.predictor.weight": 0.06,
    "predictor.u_lowres.weight": 0.5,
    "predictor.v_lowres.weight": 0.5,
}
_CENTRE = {
    "norm.weight": 1.0,
    "running_var": 1.0,
    "predictor.u_lowres.bias": 0.5,
    "predictor.v_lowres.bias": 0.5,
}
"""Of parameters that do not lie around 0: U and V mostly within 0..1, some outside."""


def zoo_architectures() -> dict[str, Architecture]:
    """Each of the model zoo's names with what its config asks for, read off the name."""
    return {name: _architecture_named(name) for name in ZOO}


def _architecture_named(name: str) -> Architecture:
    _, depth, _, *words = name.split("_")
    kind = next((word for word in words if word.startswith("WC")), "")
    legacy = "legacy" in words
    return Architecture(
        int(depth),
        deeplab="DL" in words,
        uv_confidence={"": "", "WC1": "iid_iso", "WC2": "indep_aniso"}[kind.removesuffix("M")],
        segm_confidence=kind.endswith("M"),
        decoder=not legacy,
        coarse_channels=15 if legacy else 2,
    )


def shapes_of(architecture: Architecture) -> dict[str, torch.Tensor]:
    """The state dict of the whole-crop network on torch's meta device: names and shapes without values."""
    with torch.device("meta"):
        return DenseposeNetwork(architecture).state_dict()


def random_state(shapes: Mapping[str, torch.Tensor], *, seed: int) -> dict[str, torch.Tensor]:
    """Values of that shape that depend on the key and the seed alone, calm enough to give neither huge nor flat charts.

    They are integers of numpy's Mersenne Twister, whose stream never changes, times a power of two or a constant.
    """
    return {key: _values(key, tuple(value.shape), seed) for key, value in shapes.items()}


def _values(key: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = np.random.RandomState(zlib.crc32(f"{seed} {key}".encode()))
    unit = generator.randint(-(2**15), 2**15, shape).astype(np.float32) / 2**15
    centre = next((value for end, value in _CENTRE.items() if key.endswith(end)), 0.0)
    scale = next((value for end, value in _SPREAD.items() if key.endswith(end)), 1.0)
    # Of a convolution, what keeps the variance through a ReLU; uniform numbers have a third of their bound squared.
    bound = math.sqrt(6 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
    return torch.from_numpy((centre + bound * unit) * (scale if centre != 0.5 else 1)).float()


def smooth_noise(seed: int, size: tuple[int, int]) -> np.ndarray:
    """A crop of coloured blobs, uint8 (height, width, 3)."""
    small = np.random.RandomState(seed).randint(0, 256, (9, 5, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


class Hostile:
    """Unpickles by running a command that leaves the file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def weights_at(path: Path) -> Weights:
    """A file as it is, without its having been opened or pinned."""
    return Weights(path, hashlib.sha256(path.read_bytes()).hexdigest())


def write_zoo_file(path: Path, state: Mapping[str, torch.Tensor]) -> Path:
    """A .pkl as the model zoo writes them."""
    arrays = {key: value.numpy() for key, value in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "nobody"}, protocol=2))
    return path
