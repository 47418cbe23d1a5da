"""The store's rows of a batch of images: read, estimated, derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data_catalog.errors import UserError
from data_catalog.records import ImageRecord
from data_catalog.schema import Status, pack_validity
from preprocess.derive import dsap_from_iuv, mask_from_iuv
from preprocess.estimator import Crop, Estimator
from preprocess.images import read_image, resize_image
from preprocess.plan import PreprocessConfig


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and why."""

    record: ImageRecord
    reason: str


def read_crop(root: Path, record: ImageRecord) -> Crop | Unreadable:
    """The record's image from its file under ``root``, or the reason why it cannot be had."""
    try:
        return Crop(record, read_image(root / record.path))
    except UserError as error:
        return Unreadable(record, error.problem)


def compute_rows(
    estimator: Estimator, config: PreprocessConfig, items: Sequence[Crop | Unreadable]
) -> tuple[dict[str, np.ndarray], dict[str, str], int]:
    """The ``shard`` arrays of a batch of crops, the reason of each failure by path, and how many were taken whole.

    The row of an unreadable image is black with no person in it.
    """
    crops = [item for item in items if isinstance(item, Crop)]
    places = [index for index, item in enumerate(items) if isinstance(item, Crop)]
    failures = {item.record.path: item.reason for item in items if isinstance(item, Unreadable)}
    image = torch.zeros(len(items), *config.size, 3, dtype=torch.uint8)
    iuv = torch.zeros_like(image)
    score = np.full(len(items), np.nan, np.float32)
    box = np.full((len(items), 4), np.nan, np.float32)
    taken_whole = 0
    if crops:
        charts = estimator.estimate(crops, config.size)
        failures |= {crops[index].record.path: reason for index, reason in charts.failures.items()}
        image[places] = torch.from_numpy(np.stack([resize_image(crop.pixels, config.size) for crop in crops]))
        iuv[places] = charts.iuv.cpu()
        score[places], box[places] = charts.score, charts.box
        taken_whole = 0 if charts.whole is None else int(np.sum(charts.whole))
    failed = np.array([item.record.path in failures for item in items])
    rows = {**derive(image, iuv, config), "score": score, "box": box}
    rows["status"] = np.where(failed, Status.FAILED, _status(iuv)).astype(np.uint8)
    return rows, failures, taken_whole


def derive(image: torch.Tensor, iuv: torch.Tensor, config: PreprocessConfig) -> dict[str, np.ndarray]:
    """The store's image, iuv, mask, dsap and dsap_valid of a batch, computed on ``config.device``."""
    image_there, iuv_there = image.to(config.device), iuv.to(config.device)
    dsap, valid = dsap_from_iuv(image_there, iuv_there, size=config.dsap_size, collision=config.collision)
    return {
        "image": image.numpy(),
        "iuv": iuv.numpy(),
        "mask": mask_from_iuv(iuv_there).cpu().numpy(),
        "dsap": dsap.cpu().numpy(),
        "dsap_valid": pack_validity(valid.cpu().numpy()),
    }


def _status(iuv: torch.Tensor) -> np.ndarray:
    found = iuv[..., 0].flatten(1).any(dim=1).numpy()
    return np.where(found, Status.OK, Status.NO_PERSON)
