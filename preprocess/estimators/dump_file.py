"""What DensePose's ``apply_net.py dump`` wrote: read without DensePose, and without running what is in it.

Source: DensePose's apply_net.py (DumpAction) and structures/chart_result.py, and before October 2020 class
DensePoseResult of structures.py, whose results are PNG files as text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.image_files import decoding
from densereid.data_catalog.parts import NUM_BODY_PARTS
from densereid.preprocess.densepose.decode import to_byte
from densereid.preprocess.densepose.restricted_reader import PickledArray, read_restricted


@dataclass(frozen=True)
class DumpEntry:
    """One image: its path when it was dumped, ``scores`` (N,), ``boxes`` (N, 4) as x0 y0 x1 y1, a result for each."""

    file_name: str
    scores: torch.Tensor
    boxes: torch.Tensor
    results: list[Any]

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's folders and its stem, of either system's separators."""
        path = PureWindowsPath(self.file_name) if "\\" in self.file_name else PurePosixPath(self.file_name)
        return path.with_suffix("").parts


class _Result:
    """Stands for a result of DensePose: whatever attributes the file gives it."""


class _Embedding(_Result):
    """Stands for a result of DensePose's other kind of network, CSE."""


_STRUCTURES = "densepose.structures"
_NAMES = {
    **{
        (f"{_STRUCTURES}.chart_result", f"DensePoseChartResult{kind}"): _Result
        for kind in ("", "WithConfidences", "Quantized", "Compressed")
    },
    (_STRUCTURES, "DensePoseResult"): _Result,
    ("densepose.data.structures", "DensePoseResult"): _Result,
    (f"{_STRUCTURES}.cse", "DensePoseEmbeddingPredictorOutput"): _Embedding,
}


def read_dump(path: Path) -> list[DumpEntry]:
    """Every image of a dump, in its order. Large tensors stay on disk until they are used, where the file allows it.

    Raises UserError where the file is cut off, is no dump, asks for anything else than results of DensePose's chart
    models, or is of CSE.
    """
    try:
        with path.open("rb") as file:
            content = read_restricted(file, path, what="a dump of apply_net.py", names=_NAMES, mapped=True)
    except OSError as error:
        raise UserError(f"the dump {path} cannot be read: {error.strerror or error}") from error
    if not isinstance(content, list) or not all(isinstance(item, Mapping) and "file_name" in item for item in content):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a dump of apply_net.py",
            "expected a list with an entry for each image, as `apply_net.py dump` writes it",
        )
    return [_entry(item, path) for item in content]


def _entry(item: Mapping[str, Any], path: Path) -> DumpEntry:
    name = str(item["file_name"])
    results = item.get("pred_densepose")
    if isinstance(results, _Embedding):
        raise UserError(
            f"{path} holds embeddings of a CSE model, from which no IUV map follows",
            "dump with a chart model: a config of DensePose's doc/DENSEPOSE_IUV.md",
        )
    listed = results.__dict__.get("results", []) if isinstance(results, _Result) else results
    scores, boxes = (_tensor(item.get(key)) for key in ("scores", "pred_boxes_XYXY"))
    entry = DumpEntry(name, scores.flatten(), boxes.reshape(-1, 4), list(listed or []))
    if entry.results and not len(entry.scores) == len(entry.boxes) == len(entry.results):
        raise UserError(
            f"{path}: {name} has {len(entry.scores)} scores, {len(entry.boxes)} boxes and {len(entry.results)} results"
        )
    return entry


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, PickledArray):
        value = value.tensor()
    return value.float() if isinstance(value, torch.Tensor) else torch.empty(0)


def iuv_of(result: Any) -> np.ndarray:
    """The map of a result, at its box's own size: uint8 (height, width, 3) in the order I, U, V.

    U and V are clamped to 0..1, as our own estimators do it. Raises ValueError in words where there is no such map.
    """
    fields = result.__dict__ if isinstance(result, _Result) else {}
    if {"labels", "uv"} <= fields.keys():
        return _of_charts(_tensor(fields["labels"]), _tensor(fields["uv"]))
    if "labels_uv_uint8" in fields:
        iuv = np.ascontiguousarray(_tensor(fields["labels_uv_uint8"]).byte().permute(1, 2, 0).numpy())
    else:
        text = result[1] if isinstance(result, tuple) and len(result) == 2 else fields.get("labels_uv_str")
        iuv = _of_png(text)
    return _checked(iuv)


def _of_charts(labels: torch.Tensor, uv: torch.Tensor) -> np.ndarray:
    if labels.ndim != 2 or uv.shape != (2, *labels.shape):
        raise ValueError(f"its labels are {tuple(labels.shape)} and its U and V {tuple(uv.shape)}")
    if not bool(uv.isfinite().all()):
        raise ValueError("its U and V hold NaN or infinity")
    body = (labels > 0) & (labels <= 255)
    return _checked(torch.stack([labels.clamp(0, 255).byte(), *(to_byte(uv) * body)], dim=-1).numpy())


def _of_png(text: Any) -> np.ndarray:
    if not isinstance(text, str):
        raise ValueError("it is no result of a chart model")
    try:
        with decoding(base64.b64decode(text), ["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ValueError(f"its PNG cannot be read: {error}") from error


def _checked(iuv: np.ndarray) -> np.ndarray:
    if iuv.size and iuv[..., 0].max() > NUM_BODY_PARTS:
        raise ValueError(f"its parts go up to {iuv[..., 0].max()}, expected 0..{NUM_BODY_PARTS}")
    return iuv


def dump_digest(path: Path) -> str:
    """SHA-256 of a dump in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
