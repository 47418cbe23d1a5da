"""The store's rows of a batch of images: read, estimated, derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Status
from densereid.preprocess.estimators.base import Estimator, EstimatorInputs
from densereid.preprocess.images import Crop, read_reduced, resize_image
from densereid.preprocess.resizing import resized_batch
from densereid.preprocess.semantics.derive import Collision, derive
from densereid.preprocess.writing.inputs import digest_of


@dataclass(frozen=True)
class DecodedImage:
    """An image file as it was read: the crop, or the reason why there is none.

    ``resized``: its pixels at the canonical size, where that is a CPU's work. A GPU does it by batches.
    """

    record: ImageRecord
    digest: str
    crop: Crop | None = None
    resized: np.ndarray | None = None
    reason: str = ""


@dataclass(frozen=True)
class EstimatedBatch:
    """A batch of images whose dense pose is known, all that the rest of its rows follows from.

    ``image``: uint8 (batch, height, width, 3) RGB. ``iuv``: of the same shape, I, U, V. On the CPU or the estimator's
    device.
    ``score``: float32 (batch,). ``box``: float32 (batch, 4). ``failures``: path and reason by position in the batch.
    """

    image: torch.Tensor
    iuv: torch.Tensor
    score: np.ndarray
    box: np.ndarray
    inputs: Sequence[str] = ()
    """Digest of what each row was made from (:mod:`densereid.preprocess.writing.inputs`)."""
    failures: Mapping[int, dict[str, str]] = field(default_factory=dict)
    taken_whole: Mapping[int, str] = field(default_factory=dict)
    """Paths of the images that are used whole because a detector found no person in them, by position."""


def read_record(
    root: Path, record: ImageRecord, size: tuple[int, int] | None, inputs: EstimatorInputs, *, is_absent: bool = False
) -> DecodedImage:
    """The record's image from its file under ``root``, also at the canonical ``size`` if given, or why it is not read.

    ``inputs`` is what else its dense pose is read from. The digest comes before the pixels: a file that changes in
    between is taken as changed the next time. Raises OSError where the file is gone, unless it never was there
    (``is_absent``), or where it cannot be read for the moment: that is no fault of the image.
    """
    digest = digest_of(root / record.path, inputs)
    try:
        pixels, file_size = read_reduced(root / record.path)
    except UserError as error:
        return DecodedImage(record, digest, reason=error.problem)
    except FileNotFoundError:
        if not is_absent:
            raise
        return DecodedImage(record, digest, reason=f"{root / record.path} is not there")
    resized = None if size is None else resize_image(pixels, size)
    return DecodedImage(record, digest, Crop(record, pixels, file_size), resized)


def estimate(
    estimator: Estimator, size: tuple[int, int], images: Sequence[DecodedImage], *, device: str
) -> EstimatedBatch:
    """The batch with its dense pose at the canonical ``size``; an unreadable image is black with no person in it.

    Images that are not at that size yet are resized on ``device``.
    """
    image = _stacked(images, size, device)
    score = np.full(len(images), np.nan, np.float32)
    box = np.full((len(images), 4), np.nan, np.float32)
    reasons = {index: image.reason for index, image in enumerate(images) if image.crop is None}
    indices = [index for index in range(len(images)) if index not in reasons]
    crops = [image.crop for image in images if image.crop is not None]
    iuv = None
    taken_whole: dict[int, str] = {}
    if crops:
        charts = estimator.estimate(crops, size)
        score[indices], box[indices] = charts.score, charts.box
        if charts.is_fallback is not None:
            taken_whole = {indices[index]: crops[index].record.path for index in np.flatnonzero(charts.is_fallback)}
        reasons |= {indices[index]: reason for index, reason in charts.failures.items()}
        iuv = charts.iuv if len(indices) == len(images) else _spread(charts.iuv, indices, len(images))
    iuv = torch.zeros_like(image) if iuv is None else iuv
    failures = {index: {"path": images[index].record.path, "reason": reasons[index]} for index in sorted(reasons)}
    inputs = [decoded.digest for decoded in images]
    return EstimatedBatch(image, iuv, score, box, inputs, failures, taken_whole)


def _stacked(images: Sequence[DecodedImage], size: tuple[int, int], device: str) -> torch.Tensor:
    """The images at the canonical size; those that cannot be read are black."""
    if any(decoded.crop is not None and decoded.resized is None for decoded in images):
        crops = {index: decoded.crop.pixels for index, decoded in enumerate(images) if decoded.crop is not None}
        resized = resized_batch(list(crops.values()), size, device)
        return resized if len(crops) == len(images) else _spread(resized, list(crops), len(images))
    pixels = np.zeros((len(images), *size, 3), np.uint8)
    for row, decoded in zip(pixels, images, strict=True):
        if decoded.resized is not None:
            row[...] = decoded.resized
    return torch.from_numpy(pixels)


def _spread(iuv: torch.Tensor, indices: list[int], batch: int) -> torch.Tensor:
    spread = iuv.new_zeros(batch, *iuv.shape[1:])
    spread[indices] = iuv
    return spread


def derive_rows(batch: EstimatedBatch, *, dsap_size: int, collision: Collision, device: str) -> dict[str, np.ndarray]:
    """Every ``shard`` array of the batch; mask and DSAP images are computed on ``device``."""
    derived = derive(batch.image, batch.iuv, size=dsap_size, collision=collision, device=device)
    has_person = derived["dsap_valid"].reshape(len(batch.image), -1).any(axis=1)
    status = np.where(has_person, Status.OK, Status.NO_PERSON).astype(np.uint8)
    status[list(batch.failures)] = Status.FAILED
    return {**derived, "status": status, "score": batch.score, "box": batch.box}
