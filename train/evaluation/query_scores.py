"""The scores of each query by itself: what means over cameras, visible parts or several runs are made of.

The protocol is that of :mod:`densereid.train.evaluation.metrics`, whose means these have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.train.evaluation.metrics import Labels, Points, chunks, scores_of_queries, squared_distances

RANKS_OF_A_TABLE = (1, 5, 10, 20)


@dataclass(frozen=True)
class QueryScores:
    """Of N queries, (N,) each."""

    num_matches: Tensor
    """int64; a query without any is counted and not scored: its other values mean nothing."""
    first_match: Tensor
    """float64: the rank of the first match, from 1."""
    average_precision: Tensor
    """float64: information retrieval's, the mean of the precision at each match."""
    trapezoid_average_precision: Tensor
    """float64: as the original code of Market-1501, from Oxford buildings: the area of trapezoids below the curve."""
    inverse_negative_penalty: Tensor
    """float64: matches / rank of the last match (Ye et al., Deep Learning for Person Re-identification: A Survey and
    Outlook, TPAMI 2021, equation 6)."""

    def means(self, chosen: Tensor | None = None) -> dict[str, float]:
        """Means over the queries with a match, of all or of those ``chosen``, bool (N,); in 0..1, NaN of none.

        By name: ``rank_1`` to ``rank_20``, ``mean_average_precision``, ``trapezoid_average_precision``,
        ``mean_inverse_negative_penalty``; ``queries`` and ``queries_without_match`` are numbers.
        """
        chosen = torch.ones(len(self.num_matches), dtype=torch.bool) if chosen is None else chosen
        valid = chosen & (self.num_matches > 0)
        found = {f"rank_{k}": (self.first_match[valid] <= k).double().mean() for k in RANKS_OF_A_TABLE}
        found["mean_average_precision"] = self.average_precision[valid].mean()
        found["trapezoid_average_precision"] = self.trapezoid_average_precision[valid].mean()
        found["mean_inverse_negative_penalty"] = self.inverse_negative_penalty[valid].mean()
        counts = {"queries": int(valid.sum()), "queries_without_match": int((chosen & ~valid).sum())}
        return {name: float(value) for name, value in found.items()} | counts


def score_queries(query: Tensor, query_labels: Labels, gallery: Tensor, gallery_labels: Labels) -> QueryScores:
    """The scores of each query embedding (num_query, D) against gallery embeddings (num_gallery, D).

    Raises ScoringError where an embedding is not finite.
    """
    points = Points.of(gallery)
    parts = ((squared_distances(query[rows], points), rows) for rows in chunks(len(query), 256))
    average, trapezoid, penalty, first, matches = scores_of_queries(parts, query_labels, gallery_labels).unbind(1)
    return QueryScores(matches.long(), first, average, trapezoid, penalty)
