"""Scores with query and gallery in turn, as small datasets of two cameras are scored: CUHK01, VIPeR."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor

from densereid.train.evaluation.metrics import Labels, Scores, score_embeddings


def score_both_directions(query: Tensor, query_labels: Labels, gallery: Tensor, gallery_labels: Labels) -> Scores:
    """The means of the scores of the query images against the gallery and of the gallery images against the query.

    Embeddings (., D) as :func:`densereid.train.evaluation.metrics.score_embeddings` takes them; numbers of queries and
    of gallery images are those of both directions together. Raises ScoringError where one direction has no match.
    """
    there = score_embeddings(query, query_labels, gallery, gallery_labels)
    back = score_embeddings(gallery, gallery_labels, query, query_labels)
    means: dict[str, Any] = {field.name: _both(field.name, there, back) for field in fields(Scores)}
    return Scores(**means)


def _both(name: str, there: Scores, back: Scores) -> float | int:
    total: float | int = getattr(there, name) + getattr(back, name)
    return total if name.startswith("num_") else total / 2
