"""ESTIMATOR=iuv: DensePose IUV maps that already exist as PNG files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from densereid.data_catalog.datasets.iuv_files import iuv_path
from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.image_files import open_image
from densereid.data_catalog.files.refusals import read_text
from densereid.data_catalog.parts import NUM_BODY_PARTS
from densereid.preprocess.estimators.base import Charts, EstimatorInputs
from densereid.preprocess.estimators.blending import is_blended
from densereid.preprocess.estimators.dump import DumpEstimator, open_dump
from densereid.preprocess.images import Crop, paste_iuv, resize_iuv

ChannelOrder = Literal["vui", "iuv"]
"""Channels of an IUV file as Pillow reads it: ``vui`` is what OpenCV and DensePose write (B=I, G=U, R=V)."""

_BLENDED = "was resized by mixing pixels, or compressed with loss: parts lie between those of their neighbours"

BOXES_FILE = "boxes.csv"
_DETECTION_FILES = 64


@dataclass(frozen=True)
class IuvEstimator:
    """Reads each image's IUV map, at the size of the image or of a box listed in ``boxes.csv``.

    ``boxes`` maps an image path to the (x0, y0) of its map's top left corner in the image.
    """

    root: Path
    order: ChannelOrder
    boxes: dict[str, tuple[int, int]] = field(default_factory=dict)
    name: str = "iuv"

    def settings(self) -> dict[str, Any]:
        """The channel order; the folder may move."""
        return {"order": self.order}

    def inputs(self, image: str) -> EstimatorInputs:
        """The image's IUV map, where there is one, and where its corner lies."""
        path, corner = iuv_path(self.root, image), self.boxes.get(image)
        return EstimatorInputs(() if path is None else (path,), "" if corner is None else f"{corner[0]},{corner[1]}")

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        """Charts of the crops, resized by the nearest pixel; a crop without a usable map is a failure."""
        iuv = np.zeros((len(crops), *size, 3), np.uint8)
        box = np.zeros((len(crops), 4), np.float32)
        failures: dict[int, str] = {}
        for index, crop in enumerate(crops):
            try:
                full, box[index] = self._read(crop)
                iuv[index] = resize_iuv(full, size)
            except UserError as error:
                failures[index] = error.problem
        score = np.full(len(crops), np.nan, np.float32)
        return Charts(torch.from_numpy(iuv), score, box, failures)

    def _read(self, crop: Crop) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        path = iuv_path(self.root, crop.record.path)
        if path is None:
            self.root.stat()  # without the folder, every image would be a failed one
            raise UserError(f"no IUV map for {crop.record.path} under {self.root}")
        stored = _read_png(path)
        iuv = np.stack([stored[..., 2], stored[..., 1], stored[..., 0]], axis=-1) if self.order == "vui" else stored
        if iuv[..., 0].max() > NUM_BODY_PARTS:
            raise UserError(
                f"{path}: the part channel goes up to {iuv[..., 0].max()}, expected 0..{NUM_BODY_PARTS} "
                f"(channel order {self.order})"
            )
        if is_blended(iuv):
            raise UserError(
                f"{path} {_BLENDED}; it is no map of DensePose any more: resize maps by the nearest pixel "
                "(cv2.INTER_NEAREST), and keep them as PNG"
            )
        height, width = crop.size
        corner = self.boxes.get(crop.record.path)
        if corner is not None:
            (x0, y0), (tall, wide) = corner, iuv.shape[:2]
            return paste_iuv(iuv, corner, (height, width)), (x0, y0, x0 + wide, y0 + tall)
        if iuv.shape[:2] != (height, width):
            raise UserError(
                f"{path} is {iuv.shape[0]}x{iuv.shape[1]}, its image {crop.record.path} is {height}x{width}; a map of "
                f"a box needs a row (path,x0,y0) in {self.root / BOXES_FILE}"
            )
        return np.ascontiguousarray(iuv), (0, 0, width, height)


def _read_png(path: Path) -> np.ndarray:
    with open_image(path, ("PNG", "JPEG")) as image:
        kind, mode, pixels = image.format, image.mode, np.asarray(image)
    if kind != "PNG":
        raise UserError(f"{path} is a JPEG, whatever its name: that changes part numbers; an IUV map is a PNG")
    if mode == "RGBA" and (pixels[..., 3] == pixels[0, 0, 3]).all():
        return pixels[..., :3]
    if mode != "RGB" or pixels.dtype != np.uint8:
        alpha = ", whose fourth, alpha, is not the same everywhere" if mode == "RGBA" else ""
        raise UserError(
            f"{path} is {mode} of {pixels.dtype}{alpha}; an IUV map has three 8-bit channels, I, U and V (RGB), and an "
            "alpha that is the same everywhere is left out"
        )
    return pixels


def open_iuv(dataset: Dataset, order: str = "auto") -> IuvEstimator | DumpEstimator:
    """The IUV maps that belong to ``dataset``, with their channel order recognised where ``order`` is ``auto``.

    Its folder of maps may be a file: a dump of ``apply_net.py``. Raises UserError where there are no maps at all, or
    where their order cannot be recognised.
    """
    root = dataset.iuv_root
    if root is not None and root.is_file():
        return open_dump(dataset, root)
    paths = [iuv_path(root, record.path) for record in dataset.records] if root else []
    present = [path for path in paths if path is not None]
    if root is None or not present:
        looked = _what_lies_there(root, dataset) if root else "the dataset has no folder of IUV maps"
        raise UserError(
            f"{dataset.name} at {dataset.root} has no IUV maps: {looked}",
            "ESTIMATOR=iuv reads maps that exist: put NAME.png or NAME_IUV.png into the folder `iuv` beside the "
            "images, or set IUV_ROOT to their folder, or to a dump of apply_net.py (a .pkl file)",
        )
    if order == "auto":
        order = detect_order(present)
    if order not in ("vui", "iuv"):
        raise UserError(f"IUV_ORDER is '{order}'", "expected auto, vui (as OpenCV and DensePose write) or iuv")
    return IuvEstimator(root, order, _read_boxes(root / BOXES_FILE))  # type: ignore[arg-type]


def _what_lies_there(root: Path, dataset: Dataset) -> str:
    others = sorted(path.name for path in root.rglob("*.png")) if root.is_dir() else []
    if not others:
        return f"none under {root}"
    wanted = f"{Path(dataset.records[0].path).stem}_IUV.png"
    return f"{root} holds {len(others)} PNG files ({others[0]}), and none is named after an image, as {wanted} would be"


def detect_order(paths: Sequence[Path]) -> ChannelOrder:
    """Which channel holds the parts: the one that never exceeds 24 while the other end does.

    Looks at maps spread over the list. Raises UserError when both or neither could be the part channel, or when none
    of the maps can be read.
    """
    step = max(1, len(paths) // _DETECTION_FILES)
    highest, unreadable, blended = np.zeros(3, int), [], []
    for path in paths[::step]:
        try:
            pixels = _read_png(path)
        except UserError as error:  # reported with its image, where others can be read
            unreadable.append(error)
            continue
        highest = np.maximum(highest, pixels.reshape(-1, 3).max(axis=0))
        blended += [path] * (is_blended(pixels) or is_blended(pixels[..., ::-1]))
    if len(unreadable) == len(paths[::step]):
        raise UserError(
            f"none of the IUV maps in {paths[0].parent} that were looked at ({len(unreadable)}) can be used; the "
            f"first: {unreadable[0].problem}"
        )
    first, last = bool(highest[0] <= NUM_BODY_PARTS), bool(highest[2] <= NUM_BODY_PARTS)
    if first == last:
        raise _unknown_order(paths[0].parent, highest, blended)
    return "iuv" if first else "vui"


def _unknown_order(folder: Path, highest: np.ndarray, blended: Sequence[Path]) -> UserError:
    if blended:
        return UserError(
            f"the channel order of the IUV maps in {folder} cannot be recognised: {blended[0]} {_BLENDED}",
            "use the maps as DensePose wrote them, or resize them by the nearest pixel (cv2.INTER_NEAREST)",
        )
    return UserError(
        f"the channel order of the IUV maps in {folder} cannot be recognised: the highest values of the "
        f"channels (as Pillow reads them) are {highest.tolist()}, and the part channel must be the only end "
        f"that stays within {NUM_BODY_PARTS}",
        "set IUV_ORDER=vui (as OpenCV and DensePose write them) or IUV_ORDER=iuv",
    )


def _read_boxes(path: Path) -> dict[str, tuple[int, int]]:
    if not path.exists():
        return {}
    rows = csv.DictReader(io.StringIO(read_text(path, "list of boxes"), newline=""))
    try:
        if not {"path", "x0", "y0"} <= set(rows.fieldnames or ()):
            raise UserError(f"{path} has the columns {rows.fieldnames}", "expected path, x0, y0")
        return {row["path"]: (_pixel(row["x0"]), _pixel(row["y0"])) for row in rows}
    except (TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}", "x0 and y0 are whole pixels") from error


def _pixel(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**31:
        raise ValueError(f"{text} is no pixel")
    return value
