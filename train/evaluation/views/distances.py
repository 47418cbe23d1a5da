"""How far apart images of one person and of different people are: what a threshold could tell, beside ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.datasets.records import UNKNOWN
from densereid.train.evaluation.metrics import Labels, Points, chunks, matching_cells, squared_distances

BINS = 100
LARGEST = 2.0
"""The greatest distance of L2-normalised embeddings."""


@dataclass(frozen=True)
class DistanceHistogram:
    """Pairs of a query and a gallery image by their Euclidean distance: BINS equal bins from 0 to LARGEST."""

    same: Tensor
    """int64 (BINS,): pairs that match."""
    different: Tensor
    """int64 (BINS,): pairs of different people, distractors among them."""

    @property
    def edges(self) -> Tensor:
        """Of the bins, float64 (BINS + 1,)."""
        return torch.linspace(0, LARGEST, BINS + 1, dtype=torch.float64)


def distance_histogram(
    query: Tensor, query_labels: Labels, gallery: Tensor, gallery_labels: Labels
) -> DistanceHistogram:
    """The pairs of L2-normalised embeddings (num_query, D) and (num_gallery, D) that are ranked; junk is left out.

    Raises ScoringError where an embedding is not finite.
    """
    points = Points.of(gallery)
    ranked = (gallery_labels.person_id != UNKNOWN).nonzero()[:, 0]
    everything, same = torch.zeros(BINS, dtype=torch.int64), torch.zeros(BINS, dtype=torch.int64)
    dropped = torch.zeros(BINS, dtype=torch.int64)
    for rows in chunks(len(query), 256):
        place = _bins(squared_distances(query[rows], points)).cpu()
        everything += place[:, ranked].flatten().bincount(minlength=BINS)
        matches, away = matching_cells(query_labels.chosen(rows), gallery_labels)
        same += place[matches.row, matches.column].bincount(minlength=BINS)
        dropped += place[away.row, away.column].bincount(minlength=BINS)
    return DistanceHistogram(same, everything - same - dropped)


def _bins(squared: Tensor) -> Tensor:
    """The bin of each squared distance, int64; the last one takes what is beyond."""
    return (squared.sqrt() * (BINS / LARGEST)).long().clamp_(max=BINS - 1)
