"""The defaults of every command, and what is named by them: sizes, store paths, devices, models."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.store import FORMATS

ESTIMATORS = ("auto", "iuv", "densepose", "detectron2")


@cache
def defaults() -> dict[str, Any]:
    """The content of ``defaults.yaml``."""
    content: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "defaults.yaml").read_text(encoding="utf-8"))
    return content


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from HEIGHTxWIDTH."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if not match or min(int(match[1]), int(match[2])) < 1:
        raise UserError(f"SIZE is '{text}'", "expected HEIGHTxWIDTH in pixels, for example 256x128")
    return int(match[1]), int(match[2])


def store_path(
    store_root: AnyPath, dataset: str, size: tuple[int, int], format: str, *, dsap_size: int, collision: str
) -> AnyPath:
    """Where the store of a dataset at one canonical size lives: its name says both.

    It also says how its DSAP images are made where that is not the default: ``-dsap64``, ``-mean``.
    """
    unusual = f"-dsap{dsap_size}" if dsap_size != defaults()["dsap_size"] else ""
    unusual += f"-{collision}" if collision != defaults()["collision"] else ""
    return store_root / f"{dataset}-{size[0]}x{size[1]}{unusual}{FORMATS[format].SUFFIX}"


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
        raise UserError(f"DEVICE={name} was asked for; this machine has {count} CUDA devices", "use DEVICE=auto or cpu")
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
    if not text.isdecimal():
        raise UserError(f"WORKERS is '{text}'", "expected a number of processes, 0 for this one, or auto")
    return int(text)


def choose_model(name: str, device: str, paper: str = "dsa-reid") -> tuple[str, str]:
    """The config for ``name`` and the reason for it: ``auto`` takes the ``paper``'s network only where a GPU is."""
    if name != "auto":
        return name, "asked for"
    if device == "cpu":
        return f"{paper}-small", f"on a CPU the paper's ResNet-50 network would take days; MODEL={paper} trains it"
    return paper, "the paper's network, on a GPU"
