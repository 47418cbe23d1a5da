"""Where a network fails: its scores by the cameras of query and gallery, and by the body parts that a query shows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from densereid.data_catalog.parts import seen_labels
from densereid.train.data.dataset import StoreReader, read_rows
from densereid.train.evaluation.metrics import Labels, chunks
from densereid.train.evaluation.query_scores import QueryScores, score_queries

_IMAGES_AT_ONCE = 512


def by_camera_pair(
    query: Tensor, query_labels: Labels, gallery: Tensor, gallery_labels: Labels
) -> dict[tuple[int, int], dict[str, float]]:
    """Means of the queries of one camera against the gallery images of another, by (query camera, gallery camera).

    Only the gallery images of that camera are ranked, distractors of it too; pairs without any match are left out.
    Values as :meth:`densereid.train.evaluation.query_scores.QueryScores.means`.
    """
    found = {}
    for camera in gallery_labels.camera_id.unique().tolist():
        columns = torch.nonzero(gallery_labels.camera_id == camera)[:, 0]
        embeddings = gallery[columns.to(gallery.device)]
        scores = score_queries(query, query_labels, embeddings, gallery_labels.chosen(columns))
        for own in query_labels.camera_id.unique().tolist():
            means = scores.means(query_labels.camera_id == own)
            if means["queries"]:
                found[own, camera] = means
    return dict(sorted(found.items()))


def by_visible_parts(scores: QueryScores, visible: Tensor) -> dict[int, dict[str, float]]:
    """Means of the queries that show a number of the seven parts, by this number; ``visible``: int64 (num_query,)."""
    return {number: scores.means(visible == number) for number in sorted(set(visible.tolist()))}


def visible_parts(store: StoreReader, rows: np.ndarray) -> Tensor:
    """How many of the seven body parts the masks of the store's ``rows`` have a pixel of, int64 (N,) in 0..7."""
    return seen_parts(store, rows).sum(1)


def seen_parts(store: StoreReader, rows: np.ndarray) -> Tensor:
    """Which of the seven body parts the masks of the store's ``rows`` have a pixel of, bool (N, 7)."""
    parts = (rows[part] for part in chunks(len(rows), _IMAGES_AT_ONCE))
    return torch.from_numpy(np.concatenate([seen_labels(read_rows(store, "mask", part)) for part in parts]))
