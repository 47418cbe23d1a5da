"""Retrieval scores of re-identification: CMC, mAP and mINP with the same-camera rule.

Protocol (torchreid, fast-reid and recent papers): gallery images of the query's own identity and
camera are dropped, junk (-1) is dropped, distractors (0) stay and never match, queries without a
match are skipped. Average precision is information retrieval's: the mean of the precision at each
match. The original Market-1501 evaluation's trapezoid is reported beside it. Equal distances are
ordered by gallery index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.errors import UserError

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class Scores:
    """All in 0..1, means over the valid queries."""

    rank_1: float
    rank_5: float
    rank_10: float
    mean_average_precision: float
    """mAP with information retrieval's AP."""
    trapezoid_average_precision: float
    """mAP as the original Market-1501 code computes it; never more than the other."""
    mean_inverse_negative_penalty: float
    """mINP (fast-reid): matches / rank of the last match."""
    num_valid_queries: int
    num_queries: int
    num_gallery: int
    """Gallery images without junk."""


@dataclass(frozen=True)
class Labels:
    """person_id and camera_id of N images, int64 (N,) each."""

    person_id: Tensor
    camera_id: Tensor


def squared_distances(query: Tensor, gallery: Tensor) -> Tensor:
    """Squared Euclidean distances, float32 (num_query, num_gallery), of embeddings (., D); at least 0.

    On L2-normalised embeddings they order like the cosine.
    """
    query, gallery = query.float(), gallery.float()
    squares = query.square().sum(1)[:, None] + gallery.square().sum(1)[None]
    return (squares - 2 * query @ gallery.T).clamp_min(0)


def score_embeddings(
    query: Tensor, query_labels: Labels, gallery: Tensor, gallery_labels: Labels, *, chunk: int = 256
) -> Scores:
    """Scores of query embeddings (num_query, D) against gallery embeddings (num_gallery, D).

    Works on ``chunk`` queries at a time, so memory grows with chunk * num_gallery only. Raises
    UserError where the gallery is empty or no query has a match.
    """
    parts = ((squared_distances(query[rows], gallery), rows) for rows in chunks(len(query), chunk))
    return score_parts(parts, query_labels, gallery_labels)


def chunks(length: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover 0..length."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def score_parts(parts: Iterator[tuple[Tensor, slice]], query: Labels, gallery: Labels) -> Scores:
    """Scores of distances (queries of the slice, num_gallery) that come part by part, all queries in order."""
    kept = torch.nonzero(gallery.person_id != -1)[:, 0]
    gallery = Labels(gallery.person_id[kept], gallery.camera_id[kept])
    if not len(kept):
        raise UserError("the gallery is empty", "Evaluate on a dataset whose gallery split has images.")
    rows = []
    for distances, chosen in parts:
        labels = Labels(query.person_id[chosen], query.camera_id[chosen])
        rows.append(_query_scores(distances[:, kept.to(distances.device)], labels, gallery).cpu())
    scores = torch.cat(rows) if rows else torch.zeros(0, len(RANKS) + 4)
    valid = scores[scores[:, -1] > 0]
    if not len(valid):
        raise UserError(
            f"none of the {len(query.person_id)} queries has a match in the gallery under another camera",
            "Check identities and cameras of the query and gallery splits.",
        )
    rank_1, rank_5, rank_10, average, trapezoid, penalty = (float(mean) for mean in valid.mean(0)[:-1])
    return Scores(rank_1, rank_5, rank_10, average, trapezoid, penalty, len(valid), len(scores), len(kept))


def _query_scores(distances: Tensor, query: Labels, gallery: Labels) -> Tensor:
    """float64 (num_query, 7): CMC at RANKS, AP, trapezoid AP, INP, number of matches."""
    device = distances.device
    person, camera = query.person_id.to(device)[:, None], query.camera_id.to(device)[:, None]
    same_person = person == gallery.person_id.to(device)[None]
    dropped = same_person & (camera == gallery.camera_id.to(device)[None])
    matching = same_person & ~dropped & (person > 0)
    # Dropped images go behind everything, where they are no match and move no rank.
    order = distances.masked_fill(dropped, torch.inf).argsort(dim=1, stable=True)
    hits = matching.gather(1, order)
    rank = torch.arange(1, hits.shape[1] + 1, device=device, dtype=torch.float64)
    matches = hits.cumsum(1).double()
    num_matches = matches[:, -1]
    average = (hits * matches / rank).sum(1) / num_matches.clamp_min(1)
    before = torch.where(rank > 1, (matches - 1) / (rank - 1).clamp_min(1), 1.0)
    trapezoid = (hits * (before + matches / rank) / 2).sum(1) / num_matches.clamp_min(1)
    penalty = num_matches / (hits * rank).amax(1).clamp_min(1)
    cmc = [(matches[:, min(k, hits.shape[1]) - 1] > 0).double() for k in RANKS]
    return torch.stack((*cmc, average, trapezoid, penalty, num_matches), 1)
