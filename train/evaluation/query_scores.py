"""The scores of each query by itself: what means over cameras, visible parts or several runs are made of.

The protocol is that of :mod:`densereid.train.evaluation.metrics`, whose means these have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.datasets.records import UNKNOWN
from densereid.train.evaluation.metrics import Labels, chunks, squared_distances

_Parts = Iterator[tuple[Tensor, slice]]
RANKS_OF_A_TABLE = (1, 5, 10, 20)


@dataclass(frozen=True)
class QueryScores:
    """Of N queries, (N,) each."""

    num_matches: Tensor
    """int64; a query without any is counted and not scored: its other values mean nothing."""
    first_match: Tensor
    """int64: the rank of the first match, from 1."""
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
    parts = ((squared_distances(query[rows], gallery), rows) for rows in chunks(len(query), 256))
    return score_each_query(parts, query_labels, gallery_labels)


def score_each_query(parts: _Parts, query: Labels, gallery: Labels) -> QueryScores:
    """The scores of distances (queries of the slice, num_gallery) that come part by part, all queries in order."""
    rows = []
    for distances, part in parts:
        labels, values = query.chosen(part), distances.cpu()
        for row in range(len(values)):
            matching, kept = match_gallery(labels, row, gallery)
            rows.append(_scores(_ranks(values[row], matching, kept)))
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    return QueryScores(table[:, 0].long(), table[:, 1].long(), table[:, 2], table[:, 3], table[:, 4])


def match_gallery(query: Labels, row: int, gallery: Labels) -> tuple[Tensor, Tensor]:
    """Which gallery images match one of the queries, and which are ranked for it, bool (num_gallery,) each."""
    person, camera = query.person_id[row], query.camera_id[row]
    same_person = gallery.person_id == person
    same_view = (gallery.camera_id == camera) & (camera != UNKNOWN)
    if query.content is not None and gallery.content is not None:
        unknown = (gallery.camera_id == UNKNOWN) | (camera == UNKNOWN)
        same_view = same_view | (unknown & (gallery.content == query.content[row]))
    kept = (gallery.person_id != UNKNOWN) & ~(same_person & same_view)
    return same_person & kept & (person > 0), kept


def _ranks(distances: Tensor, matching: Tensor, kept: Tensor) -> Tensor:
    """The ranks of the matches, from 1 and sorted, int64; of equal distances the first in the gallery leads."""
    match = torch.nonzero(matching)[:, 0]
    others, values = torch.nonzero(kept)[:, 0], distances[kept][None]
    own = distances[match][:, None]
    before = (values < own) | ((values == own) & (others[None] < match[:, None]))
    return (before.sum(1) + 1).sort().values


def _scores(ranks: Tensor) -> tuple[float, ...]:
    """The number of matches, the rank of the first, AP, trapezoid AP, INP."""
    if not len(ranks):
        return (0.0,) * 5
    rank, number = ranks.double(), torch.arange(1, len(ranks) + 1, dtype=torch.float64)
    precision = number / rank
    before = torch.where(rank > 1, (number - 1) / (rank - 1).clamp_min(1), 1.0)
    trapezoid = (before + precision).mean() / 2
    return len(ranks), int(ranks[0]), float(precision.mean()), float(trapezoid), len(ranks) / int(ranks[-1])
