"""What several test files share and nothing outside the tests needs."""

from __future__ import annotations

from torch import Tensor

from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.train.data.augmentation import normalise_dsap, normalise_image
from densereid.train.data.batch import Batch, Inputs
from densereid.train.evaluation.metrics import Labels, Scores, chunks, score_parts


def exact_config(**changes: int | bool | None) -> SyntheticConfig:
    """A config in which every pixel with I >= 1 is its texture's texel: nothing between albedo and file."""
    exact: dict[str, int | bool | None] = {"shading": False, "camera_effects": False, "jpeg_quality": None}
    return SyntheticConfig(**{**exact, **changes})  # type: ignore[arg-type]


def plain_inputs(batch: Batch, *, dsap_size: int | None = None) -> Inputs:
    """The batch normalised and otherwise unchanged."""
    dsap = None
    if batch.dsap is not None and batch.valid is not None:
        dsap = normalise_dsap(batch.dsap, batch.valid, size=dsap_size)
    return Inputs(normalise_image(batch.image), batch.identity, batch.camera, dsap, batch.mask)


def score_distances(distances: Tensor, query_labels: Labels, gallery_labels: Labels, *, chunk: int = 256) -> Scores:
    """Scores of given distances (num_query, num_gallery), which come part by part."""
    parts = ((distances[rows], rows) for rows in chunks(len(distances), chunk))
    return score_parts(parts, query_labels, gallery_labels)
