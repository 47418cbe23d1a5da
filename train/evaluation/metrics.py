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
from densereid.train.evaluation.ranges import join_ranges
from densereid.train.evaluation.ranks import Cells, stable_ranks

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


@dataclass(frozen=True)
class Points:
    """Embeddings float32 (N, D) and their squared lengths (N,), for whoever asks for distances to them many times."""

    embeddings: Tensor
    squares: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> Points:
        """Those of embeddings (N, D) of any precision."""
        values = embeddings.float()
        return cls(values, torch.cat([rows.square().sum(1) for rows in values.split(1024)]))

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: slice | Tensor) -> Points:
        return Points(self.embeddings[rows], self.squares[rows])


def squared_distances(query: Tensor | Points, gallery: Tensor | Points) -> Tensor:
    """Squared Euclidean distances, float32 (num_query, num_gallery), of embeddings (., D); at least 0.

    On L2-normalised embeddings they order like the cosine. Raises ScoringError where an embedding is not finite, or so
    large that a distance is not.
    """
    query, gallery = (points if isinstance(points, Points) else Points.of(points) for points in (query, gallery))
    distances = query.squares[:, None] + gallery.squares[None]
    distances -= 2 * query.embeddings @ gallery.embeddings.T
    if not _all_finite(distances):
        check_embeddings(query.embeddings, "query embeddings")
        check_embeddings(gallery.embeddings, "gallery embeddings")
        _check_distances(distances)
    return distances.clamp_min_(0)


def _all_finite(values: Tensor) -> bool:
    """In one pass: what is not a number is the least and the greatest, too."""
    return not values.numel() or all(bool(bound.isfinite()) for bound in values.aminmax())


def check_embeddings(embeddings: Tensor, what: str) -> None:
    """Raise ScoringError where some embeddings (N, D) hold values that are not finite; ``what`` they are."""
    if not _all_finite(embeddings):
        wrong = ~embeddings.isfinite().all(1)
        first = int(wrong.nonzero()[0, 0])
        raise ScoringError(
            f"{int(wrong.sum())} of {len(embeddings)} {what} are not finite numbers (NaN or infinity), the first is "
            f"number {first + 1}",
            "Nothing is ranked by them. Take another checkpoint, or train with precision=32-true.",
        )


def _check_distances(distances: Tensor) -> None:
    if not _all_finite(distances):
        wrong = int((~distances.isfinite()).sum())
        raise ScoringError(
            f"{wrong} of {distances.numel()} distances are not finite numbers (NaN or infinity)",
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
    kept = _without_junk(gallery_labels)
    if len(kept) < len(gallery):
        gallery, gallery_labels = gallery[kept.to(gallery.device)], gallery_labels.chosen(kept)
    points = Points.of(gallery)
    parts = ((squared_distances(query[rows], points), rows) for rows in chunks(len(query), chunk))
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
    scores = scores_of_queries(parts, query, gallery)
    first, matches = scores[:, 3], scores[:, 4]
    cmc = [(first <= k).double() for k in RANKS]
    valid = torch.stack((*cmc, *scores.T), 1)[matches > 0]
    rank_1, rank_5, rank_10, average, trapezoid, penalty = (float(mean) for mean in valid.mean(0)[:-2])
    num_gallery = len(_without_junk(gallery))
    return Scores(rank_1, rank_5, rank_10, average, trapezoid, penalty, len(valid), len(scores), num_gallery)


def scores_of_queries(parts: Iterator[tuple[Tensor, slice]], query: Labels, gallery: Labels) -> Tensor:
    """float64 (num_query, 5) on the CPU: AP, trapezoid AP, INP, rank of the first match, number of matches.

    Of distances as for :func:`score_parts`. A query without a match has 0 matches, and infinity for its first. Raises
    ScoringError where a distance is not finite.
    """
    kept = _without_junk(gallery)
    ranked = _sort_by_person(gallery.chosen(kept))
    rows = [torch.empty(0, 5, dtype=torch.float64)]
    for distances, part in parts:
        _check_distances(distances)
        if len(kept) < distances.shape[1]:
            distances = distances[:, kept.to(distances.device)]
        rows.append(_query_scores(distances, query.chosen(part), ranked))
    return torch.cat(rows)


def _without_junk(labels: Labels) -> Tensor:
    """Which images are no junk, int64."""
    return torch.nonzero(labels.person_id != UNKNOWN)[:, 0]


def check_protocol(query: Labels, gallery: Labels) -> None:
    """Raise ScoringError where nothing can be scored, whatever the distances."""
    kept = gallery.chosen(_without_junk(gallery))
    for role, labels in (("query", query), ("gallery", kept)):
        if not len(labels.person_id):
            raise ScoringError(f"the {role} is empty", f"Evaluate on a dataset whose {role} split has images.")
    ranked = _sort_by_person(kept)
    for rows in chunks(len(query.person_id), 1024):
        if len(_matches(query.chosen(rows), ranked)[0].row):
            return
    is_known = bool((query.camera_id != UNKNOWN).any())
    raise ScoringError(
        f"none of the {len(query.person_id)} queries has a match in the gallery"
        + (" under another camera" if is_known else ""),
        "Check identities and cameras of the query and gallery splits: each query needs an image of the same person "
        "in the gallery, from another camera where cameras are known.",
    )


@dataclass(frozen=True)
class _ByPerson:
    """The gallery, and its images (N,) in the order of their person, whose numbers are ``person_id`` (N,)."""

    labels: Labels
    image: Tensor
    person_id: Tensor


def _sort_by_person(gallery: Labels) -> _ByPerson:
    person_id, image = gallery.person_id.sort(stable=True)
    return _ByPerson(gallery, image, person_id)


def _matches(query: Labels, gallery: _ByPerson) -> tuple[Cells, Cells]:
    """Of queries that show a known person: which gallery images match each, and which are dropped for it."""
    person = query.person_id.to(gallery.person_id.dtype)
    first = torch.searchsorted(gallery.person_id, person)
    length = (torch.searchsorted(gallery.person_id, person, right=True) - first) * (person > 0)
    row, place = join_ranges(first, length)
    column = gallery.image[place]
    ours, other = query.chosen(row), gallery.labels.chosen(column)
    dropped = (ours.camera_id == other.camera_id) & (ours.camera_id != UNKNOWN)
    if ours.content is not None and other.content is not None:
        unknown = (ours.camera_id == UNKNOWN) | (other.camera_id == UNKNOWN)
        dropped |= unknown & (ours.content == other.content)
    return Cells(row[~dropped], column[~dropped]), Cells(row[dropped], column[dropped])


def matching_cells(query: Labels, gallery: Labels) -> tuple[Cells, Cells]:
    """Which gallery images match each query, and which are dropped for it: as (query, image), by query.

    Junk of the gallery, which no query ranks, is neither.
    """
    return _matches(query, _sort_by_person(gallery))


def _query_scores(distances: Tensor, query: Labels, gallery: _ByPerson) -> Tensor:
    """The rows of :func:`scores_of_queries` for some queries."""
    matches, dropped = _matches(query, gallery)
    num_query, num_gallery = distances.shape
    ranks = stable_ranks(distances, matches, dropped).cpu()
    place = (matches.row.cpu() * num_gallery + ranks - 1).sort().values
    row, rank = place // num_gallery, (place % num_gallery + 1).double()
    num_matches = row.bincount(minlength=num_query)
    match = (torch.arange(1, len(row) + 1) - (num_matches.cumsum(0) - num_matches)[row]).double()
    precision = match / rank
    before = torch.where(rank > 1, (match - 1) / (rank - 1).clamp_min(1), 1.0)
    # Summed as whole rows of zeros and precisions, so that the last bit does not depend on how ranks were found.
    table = torch.zeros(num_query * num_gallery, dtype=torch.float64)
    average, trapezoid = (
        table.index_put_((place,), values).view(num_query, num_gallery).sum(1) / num_matches.clamp_min(1)
        for values in (precision, (before + precision) / 2)
    )
    first = torch.full((num_query,), torch.inf, dtype=torch.float64).scatter_reduce(0, row, rank, "amin")
    last = torch.ones(num_query, dtype=torch.float64).scatter_reduce(0, row, rank, "amax")
    return torch.stack((average, trapezoid, num_matches / last, first, num_matches.double()), 1)
