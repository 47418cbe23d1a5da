"""Dense semantics of images outside a store: IUV maps, 7-part masks and DSAP images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from densereid.data_catalog.datasets.records import UNKNOWN, ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Geometry, Split, unpack_validity
from densereid.images import Images, in_batches
from densereid.pipeline.console import print_status
from densereid.pipeline.settings import defaults, parse_size, resolve_device
from densereid.preprocess.densepose.precision import resolve_precision
from densereid.preprocess.estimators.base import Estimator
from densereid.preprocess.estimators.densepose import open_densepose
from densereid.preprocess.estimators.embedded import open_embedded
from densereid.preprocess.images import Crop
from densereid.preprocess.resizing import resized_batch
from densereid.preprocess.semantics.derive import Collision, derive

_AT_ONCE = 64
"""Images in memory as they are in their files."""


@dataclass(frozen=True)
class Semantics:
    """Dense semantics of N images, as a store has them (:mod:`densereid.data_catalog.store.schema`)."""

    image: np.ndarray
    """uint8 (N, height, width, 3), RGB: the images at the size of what follows."""
    iuv: np.ndarray
    """uint8 (N, height, width, 3): I = part 0..24, U and V = round(255 x value)."""
    mask: np.ndarray
    """uint8 (N, height, width), 0..7: the index in :data:`densereid.MASK_LABELS`."""
    dsap: np.ndarray
    """uint8 (N, 24, S, S, 3): part p of :data:`densereid.BODY_PARTS` at p - 1; row is U, column is V."""
    valid: np.ndarray
    """bool (N, 24, S, S): the DSAP texels that a pixel reached; the others hold ImageNet's mean colour."""
    score: np.ndarray
    """float32 (N,), 0..1: the estimator's confidence in the person."""

    @property
    def has_person(self) -> np.ndarray:
        """bool (N,): whether any pixel is on a person."""
        return np.asarray(self.mask.any(axis=(1, 2)))

    def __len__(self) -> int:
        return len(self.image)


def estimate_semantics(
    images: Images,
    *,
    estimator: str = "embedded",
    weights: str | Path | None = None,
    size: tuple[int, int] | None = None,
    dsap_size: int | None = None,
    collision: Collision = "last",
    device: str = "auto",
) -> Semantics:
    """IUV map, 7-part mask and 24 DSAP images of one image or several, each a crop of one person.

    ``images`` are as :meth:`densereid.EmbeddingModel.embed` takes them. ``estimator``: ``embedded``, the network that
    comes with the project, or ``densepose``, with published ``weights`` or a file, downloaded on first use. The values
    are those that ``preprocess`` writes with the same ``size`` (height, width), ``dsap_size`` and ``collision``, whose
    defaults are the commands'. Raises UserError that names an image or a file that cannot be used.
    """
    height, width = size or parse_size(defaults().size)
    geometry = Geometry(1, height, width, dsap_size or defaults().dsap_size)
    if collision not in ("last", "mean"):
        raise UserError(f"collision is {collision!r}", "Expected last or mean.")
    chosen, _ = resolve_device(device)
    opened = _open(estimator, weights, chosen)
    found = list(_batches(images, opened, geometry, collision, chosen)) or [_nothing(geometry)]
    return Semantics(*(np.concatenate([getattr(each, field.name) for each in found]) for field in fields(Semantics)))


def _open(name: str, weights: str | Path | None, device: str) -> Estimator:
    if name == "embedded":
        precision = resolve_precision(defaults().precision, name, device)
        return open_embedded(device, None if weights is None else Path(weights).expanduser(), precision=precision)
    if name != "densepose":
        raise UserError(
            f"unknown estimator {name!r}",
            "Expected embedded or densepose; `densereid preprocess` has detectron2 and iuv, too.",
        )
    usual = defaults()
    return open_densepose(
        str(Path(weights).expanduser() if weights else usual.weights),
        device=device, mode="crop", short_edge=usual.short_edge,
        precision=resolve_precision(usual.precision, name, device), compiled=False, notify=print_status,
    )  # fmt: skip


def _batches(
    images: Images, estimator: Estimator, geometry: Geometry, collision: Collision, device: str
) -> Iterator[Semantics]:
    size = (geometry.height, geometry.width)
    for batch in in_batches(images, _AT_ONCE):
        crops = [Crop(ImageRecord(name, UNKNOWN, UNKNOWN, Split.TRAIN), pixels) for name, pixels in batch]
        resized = resized_batch([crop.pixels for crop in crops], size, device)
        charts = estimator.estimate(crops, size)
        rows = derive(resized, charts.iuv, size=geometry.dsap_size, collision=collision, device=device)
        valid = unpack_validity(rows["dsap_valid"])
        yield Semantics(rows["image"], rows["iuv"], rows["mask"], rows["dsap"], valid, charts.score)


def _nothing(geometry: Geometry) -> Semantics:
    height, width, side = geometry.height, geometry.width, geometry.dsap_size
    pixels = np.zeros((0, height, width, 3), np.uint8)
    parts = np.zeros((0, 24, side, side, 3), np.uint8)
    return Semantics(pixels, pixels, pixels[..., 0], parts, parts[..., 0] > 0, np.zeros(0, np.float32))
