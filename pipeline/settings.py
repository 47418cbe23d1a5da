"""The defaults of every command, and what is named by them: sizes, devices, workers, models."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural

if TYPE_CHECKING:  # torch takes seconds that --help does not need
    from densereid.preprocess.densepose.precision import AskedPrecision, Precision
    from densereid.preprocess.estimators.detectron2 import Mode
    from densereid.preprocess.semantics.derive import Collision

STORE_FORMATS = ("zarr", "hdf5")
"""The keys of :data:`densereid.data_catalog.store.store.FORMATS`, known without zarr and h5py."""

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
"""The values of :data:`densereid.preprocess.densepose.precision.Precision`, known without torch."""

MASK_LAYOUTS = ("bpbreid", "label-png", "npy")
"""The keys of :data:`densereid.pipeline.commands.export_masks.LAYOUTS`, known without numpy."""


@dataclass(frozen=True)
class Defaults:
    """The values of ``defaults.yaml`` as they stand there; each is the default of the option of its name."""

    dataset: str
    model: str
    estimator: str
    weights: str
    mode: Mode
    short_edge: int
    precision: AskedPrecision
    store: str
    size: str
    dsap_size: int
    collision: Collision
    device: str
    workers: int
    seed: int
    data_root: str
    store_root: str
    run_root: str


@cache
def defaults() -> Defaults:
    """The content of ``defaults.yaml``."""
    return Defaults(**yaml.safe_load((Path(__file__).parent / "defaults.yaml").read_text(encoding="utf-8")))


_MOST_WORKERS = 512

LARGEST_EDGE = 4096
"""Pixels of an edge of an image inside a store or a network; no crop of a person has more."""


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from HEIGHTxWIDTH."""
    match = re.fullmatch(r"0*(\d{1,9})x0*(\d{1,9})", text.strip().lower())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 1 or max(size) > LARGEST_EDGE:
        raise UserError(
            f"SIZE is '{_shortened(text)}'",
            f"expected HEIGHTxWIDTH in pixels, each from 1 to {LARGEST_EDGE}, for example 256x128",
        )
    return size


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:50]}..."


def size_text(size: tuple[int, int]) -> str:
    """HEIGHTxWIDTH of (height, width)."""
    return f"{size[0]}x{size[1]}"


def resolve_device(name: str) -> tuple[str, str]:
    """The device for ``name`` and the reason for it. A device asked for and absent is a UserError, not a CPU."""
    import torch  # here, because it takes seconds and most commands never ask

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if count:
            return "cuda:0", f"CUDA is available: {torch.cuda.get_device_name(0)}"
        return "cpu", "no CUDA device was found"
    if name == "cpu":
        return "cpu", "asked for"
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise UserError(f"DEVICE is '{name}'", "expected auto, cpu, cuda or cuda:N")
    index = int(match[1] or 0)
    if index >= count:
        raise UserError(
            f"DEVICE={name} was asked for; this machine has {plural(count, 'CUDA device')}", "use DEVICE=auto or cpu"
        )
    return f"cuda:{index}", f"asked for: {torch.cuda.get_device_name(index)}"


def gpus_to_share(name: str) -> list[str]:
    """The GPUs that the workers of DEVICE=``name`` share, as CUDA_VISIBLE_DEVICES names them.

    All that are visible where the device is ``auto`` or ``cuda``. None for ``cpu``, and none for one GPU asked for by
    its number, which all workers then use.
    """
    import torch

    if name not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    given = [device.strip() for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device.strip()]
    return given[:count] or [str(index) for index in range(count)]


def parse_workers(text: str | int) -> int:
    """A number of worker processes; ``auto`` is one for each GPU where there are several, else 0, this process."""
    text = str(text).strip()
    if text == "auto":
        count = len(gpus_to_share("auto"))
        return count if count > 1 else 0
    if not re.fullmatch(r"\d{1,9}", text) or int(text) > _MOST_WORKERS:
        raise UserError(
            f"WORKERS is '{_shortened(text)}'",
            f"expected a number of processes up to {_MOST_WORKERS}, 0 for this one, or auto",
        )
    return int(text)


def choose_model(name: str, device: str, paper: str = "dsa-reid") -> tuple[str, str]:
    """The config for ``name`` and the reason for it: ``auto`` takes the ``paper``'s network only where a GPU is."""
    if name != "auto":
        return name, "asked for"
    if device == "cpu":
        from densereid.train.config.experiment import small_form  # here, because most commands train nothing

        return small_form(paper), f"on a CPU the paper's ResNet-50 network would take days; MODEL={paper} trains it"
    return paper, "the paper's network, on a GPU"
