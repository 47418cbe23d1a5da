"""Retrieval scores of re-identification: CMC, mAP and mINP with the same-camera rule.

Protocol (torchreid, fast-reid and recent papers): gallery images of the query's own identity and
camera are dropped, junk (-1) is dropped, distractors (0) stay and never match, queries without a
match are skipped. An unknown camera (-1) is the same as no other one, not even as another unknown
one. Average precision is information retrieval's: the mean of the precision at each match. The
original Market-1501 evaluation's trapezoid is reported beside it. Equal distances are ordered by
gallery index. What is not a number, or infinite, cannot be ranked and is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.datasets.records import UNKNOWN
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


class ScoringError(UserError):
    """What cannot be scored: labels without a match, embeddings or distances that are no finite numbers."""


@dataclass(frozen=True)
class Labels:
    """What N images are, int64 (N,) each."""

    person_id: Tensor
    camera_id: Tensor
    content: Tensor | None = None
    """A number of each image's pixels, equal where they are: where cameras are unknown it tells a query from its own
    copy in the gallery. None where every camera is known."""

    def chosen(self, rows: slice | Tensor) -> Labels:
        """Those of some rows."""
        content = None if self.content is None else self.content[rows]
        return Labels(self.person_id[rows], self.camera_id[rows], content)


def squared_distances(query: Tensor, gallery: Tensor) -> Tensor:
    """Squared Euclidean distances, float32 (num_query, num_gallery), of embeddings (., D); at least 0.

    On L2-normalised embeddings they order like the cosine. Raises ScoringError where an embedding is not finite, or so
    large that a distance is not.
    """
    query, gallery = query.float(), gallery.float()
    squares = query.square().sum(1)[:, None] + gallery.square().sum(1)[None]
    distances = squares - 2 * query @ gallery.T
    if not bool(distances.isfinite().all()):
        check_embeddings(query, "query embeddings")
        check_embeddings(gallery, "gallery embeddings")
        _check_distances(distances)
    return distances.clamp_min(0)


def check_embeddings(embeddings: Tensor, what: str) -> None:
    """Raise ScoringError where some embeddings (N, D) hold values that are not finite; ``what`` they are."""
    wrong = ~embeddings.isfinite().all(1)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0, 0])
        raise ScoringError(
            f"{int(wrong.sum())} of {len(embeddings)} {what} are not finite numbers (NaN or infinity), the first is "
            f"number {first + 1}",
            "Nothing is ranked by them. Take another checkpoint, or train with precision=32-true.",
        )


def _check_distances(distances: Tensor) -> None:
    wrong = ~distances.isfinite()
    if bool(wrong.any()):
        raise ScoringError(
            f"{int(wrong.sum())} of {distances.numel()} distances are not finite numbers (NaN or infinity)",
            "Nothing is ranked by them. Squared distances of very large embeddings overflow: normalise them first.",
        )


def score_embeddings(
    query: Tensor, query_labels: Labels, gallery: Tensor, gallery_labels: Labels, *, chunk: int = 256
) -> Scores:
    """Scores of query embeddings (num_query, D) against gallery embeddings (num_gallery, D).

    Works on ``chunk`` queries at a time, so memory grows with chunk * num_gallery only. Raises
    ScoringError where the gallery is empty, no query has a match, or embeddings are not finite.
    """
    check_embeddings(query, "query embeddings")
    check_embeddings(gallery, "gallery embeddings")
    parts = ((squared_distances(query[rows], gallery), rows) for rows in chunks(len(query), chunk))
    return score_parts(parts, query_labels, gallery_labels)


def chunks(length: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover 0..length."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def score_parts(parts: Iterator[tuple[Tensor, slice]], query: Labels, gallery: Labels) -> Scores:
    """Scores of distances (queries of the slice, num_gallery) that come part by part, all queries in order.

    Raises ScoringError where the labels leave nothing to score, before the first part is asked for, and where a
    distance is not finite.
    """
    check_protocol(query, gallery)
    kept = torch.nonzero(gallery.person_id != UNKNOWN)[:, 0]
    ranked = gallery.chosen(kept)
    rows = []
    for distances, part in parts:
        _check_distances(distances)
        rows.append(_query_scores(distances[:, kept.to(distances.device)], query.chosen(part), ranked).cpu())
    scores = torch.cat(rows)
    valid = scores[scores[:, -1] > 0]
    rank_1, rank_5, rank_10, average, trapezoid, penalty = (float(mean) for mean in valid.mean(0)[:-1])
    return Scores(rank_1, rank_5, rank_10, average, trapezoid, penalty, len(valid), len(scores), len(kept))


def check_protocol(query: Labels, gallery: Labels) -> None:
    """Raise ScoringError where nothing can be scored, whatever the distances."""
    kept = gallery.chosen(torch.nonzero(gallery.person_id != UNKNOWN)[:, 0])
    for role, labels in (("query", query), ("gallery", kept)):
        if not len(labels.person_id):
            raise ScoringError(f"the {role} is empty", f"Evaluate on a dataset whose {role} split has images.")
    for rows in chunks(len(query.person_id), 1024):
        if bool(_matches(query.chosen(rows), kept)[0].any()):
            return
    is_known = bool((query.camera_id != UNKNOWN).any())
    raise ScoringError(
        f"none of the {len(query.person_id)} queries has a match in the gallery"
        + (" under another camera" if is_known else ""),
        "Check identities and cameras of the query and gallery splits: each query needs an image of the same person "
        "in the gallery, from another camera where cameras are known.",
    )


def _matches(query: Labels, gallery: Labels) -> tuple[Tensor, Tensor]:
    """Which gallery images match each query, and which are dropped for it, bool (num_query, num_gallery) each."""
    person, camera = query.person_id[:, None], query.camera_id[:, None]
    same_person = person == gallery.person_id[None]
    same_view = (camera == gallery.camera_id[None]) & (camera != UNKNOWN)
    if query.content is not None and gallery.content is not None:
        unknown = (camera == UNKNOWN) | (gallery.camera_id[None] == UNKNOWN)
        same_view = same_view | (unknown & (query.content[:, None] == gallery.content[None]))
    dropped = same_person & same_view
    return same_person & ~dropped & (person > 0), dropped


def _query_scores(distances: Tensor, query: Labels, gallery: Labels) -> Tensor:
    """float64 (num_query, 7): CMC at RANKS, AP, trapezoid AP, INP, number of matches."""
    device = distances.device
    matching, dropped = (found.to(device) for found in _matches(query, gallery))
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
