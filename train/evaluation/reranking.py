"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) that keeps neighbours only, never all pairs of images.

The equations are the paper's; where the authors' published code differs, or the paper is silent, their code is
followed, because every published re-ranked number comes from it: neighbourhoods hold the image itself; the half
neighbourhood has round(k1 / 2) + 1 members (11 for k1 = 20; for an odd k1 their MATLAB and Python differ); a half
neighbourhood joins where MORE than two thirds of it are shared (the paper has "at least"); each encoding is divided
by its sum; every image's distances are divided by its largest. Distances are squared Euclidean and enter as they are:
some ports square them a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.errors import UserError
from densereid.train.evaluation.metrics import (
    Labels,
    Points,
    Scores,
    check_embeddings,
    chunks,
    score_parts,
    squared_distances,
)
from densereid.train.evaluation.ranges import join_ranges

_TINY = torch.finfo(torch.float32).tiny
_WIDE = 64
"""Rows and columns of a matrix product from which on MKL sums all of them in one order (at 7 and 10 it begins to)."""


@dataclass(frozen=True)
class Reranking:
    """The method's three numbers, and whether junk images help."""

    k1: int = 20
    """Size of the k-reciprocal neighbourhood."""
    k2: int = 6
    """Neighbours over which an encoding is averaged (local query expansion)."""
    weight: float = 0.3
    """lambda: share of the original distance in the final one."""
    keep_junk: bool = False
    """Whether junk images of the gallery (-1) take part in neighbourhoods, as in the authors' own evaluation of
    Market-1501; they are never ranked."""

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.weight <= 1:
            raise UserError(
                f"re-ranking with k1={self.k1}, k2={self.k2}, lambda={self.weight}",
                "k1 and k2 are at least 1, lambda is within 0..1; the paper has 20, 6 and 0.3.",
            )
        if self.k2 > self.k1 + 1:
            raise UserError(
                f"re-ranking with k1={self.k1}, k2={self.k2}: the neighbourhood has k1 + 1 = {self.k1 + 1} images, "
                f"and {self.k2} of them are to be averaged",
                "k2 is at most k1 + 1 (the image itself and its k1 neighbours); the paper has 20 and 6.",
            )


@dataclass(frozen=True)
class _Neighbours:
    """Of N images: the nearest k1 + 1 (itself among them), int64 (N, k1 + 1), their distances, float32 (N, k1 + 1), and
    its largest distance, float32 (N,)."""

    nearest: Tensor
    distances: Tensor
    largest: Tensor


def reranked_scores(
    query: Tensor,
    query_labels: Labels,
    gallery: Tensor,
    gallery_labels: Labels,
    settings: Reranking,
    *,
    chunk: int = 256,
) -> Scores:
    """As :func:`densereid.train.evaluation.metrics.score_embeddings`, with distances changed by re-ranking.

    Raises UserError as :func:`reranked_distances`, too.
    """
    if not settings.keep_junk:
        kept = torch.nonzero(gallery_labels.person_id != -1)[:, 0]
        gallery = gallery[kept.to(gallery.device)]
        gallery_labels = gallery_labels.chosen(kept)
    parts = reranked_distances(query, gallery, settings, chunk=chunk)
    return score_parts(parts, query_labels, gallery_labels)


def reranked_distances(
    query: Tensor, gallery: Tensor, settings: Reranking, *, chunk: int = 256
) -> Iterator[tuple[Tensor, slice]]:
    """Re-ranked distances of ``chunk`` queries at a time, float32 (chunk, num_gallery), and which queries they are.

    ``query`` and ``gallery``: embeddings (., D). With N images of both together, memory grows with chunk * N and with
    N * k1 * k2, never with N * N. Raises UserError where k1 is N or more, and ScoringError where embeddings or their
    distances are not finite.
    """
    images = torch.cat((query, gallery)).float()
    if settings.k1 >= len(images):
        raise UserError(
            f"re-ranking with k1={settings.k1}: query and gallery have {len(images)} images together",
            f"k1 is less than their number, here at most {len(images) - 1}; so few images are scored without RERANK.",
        )
    check_embeddings(images, "embeddings of query and gallery")
    points = Points.of(images)
    neighbours = _find_neighbours(points, settings.k1 + 1, chunk)
    encodings = _encode(points, neighbours, settings.k1, chunk)
    encodings = _expanded(encodings, neighbours.nearest[:, : settings.k2], chunk)
    of_gallery = _by_column(encodings, first_row=len(query))
    ranked = points[len(query) :]
    for rows in chunks(len(query), chunk):
        original = squared_distances(points[rows], ranked) / neighbours.largest[rows, None]
        jaccard = _jaccard(encodings, rows, of_gallery, len(gallery))
        yield (1 - settings.weight) * jaccard + settings.weight * original, rows


@dataclass(frozen=True)
class _Lists:
    """N lists of (index, value), one after the other: list i is from start[i] to start[i + 1], sorted by index.

    A sparse matrix by its rows, or by its columns.
    """

    start: Tensor
    index: Tensor
    value: Tensor


def _lists(owner: Tensor, index: Tensor, value: Tensor, number: int) -> _Lists:
    """Lists from entries that are sorted by ``owner``, the list that each belongs to."""
    lengths = torch.bincount(owner, minlength=number)
    return _Lists(torch.cat((lengths.new_zeros(1), lengths.cumsum(0))), index, value)


def _join(lists: _Lists, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """All entries of the ``wanted`` lists: for each, its position in ``wanted`` and its position in ``lists``."""
    return join_ranges(lists.start[wanted], lists.start[wanted + 1] - lists.start[wanted])


def _find_neighbours(images: Points, number: int, chunk: int) -> _Neighbours:
    """The nearest ``number`` of each image; equal distances by index, as a stable sort orders them."""
    index = torch.arange(len(images), device=images.squares.device)
    nearest, largest = [], []
    for rows in chunks(len(images), chunk):
        distances = squared_distances(images[rows], images)
        # The bits of a float >= 0 order as the float does, so one whole number orders by distance and then by index.
        keys = (distances + 0.0).view(torch.int32).long() << 32 | index  # + 0.0: a zero without a sign
        nearest.append(keys.topk(number, dim=1, largest=False).values)
        largest.append(distances.amax(1))
    found = torch.cat(nearest)
    bits = (found >> 32).int()
    return _Neighbours(found & 0xFFFFFFFF, bits.view(torch.float32), torch.cat(largest).clamp_min(_TINY))


def _reciprocal(nearest: Tensor, chunk: int) -> Tensor:
    """R(p, k): which neighbours have the image among theirs in turn, bool like ``nearest`` (N, k)."""
    index = torch.arange(len(nearest), device=nearest.device)
    reciprocal = [(nearest[nearest[rows]] == index[rows, None, None]).any(2) for rows in chunks(len(nearest), chunk)]
    return torch.cat(reciprocal)


def _encode(images: Points, neighbours: _Neighbours, k1: int, chunk: int) -> _Lists:
    """V: of each image the members of its expanded neighbourhood, and weights that sum to 1."""
    nearest = neighbours.nearest
    half = nearest[:, : round(k1 / 2) + 1]
    reciprocal, half_reciprocal = _reciprocal(nearest, chunk), _reciprocal(half, chunk)
    owners, indices, weights = [], [], []
    for rows in chunks(len(nearest), chunk):
        members, present = _expand(nearest[rows], reciprocal[rows], half, half_reciprocal)
        distances = _distances_to(members, present, images, neighbours, rows) / neighbours.largest[rows, None]
        weight = torch.exp(-distances) * present
        weight = weight / weight.sum(1, keepdim=True).clamp_min(_TINY)
        row, column = present.nonzero(as_tuple=True)
        owners.append(row + rows.start)
        indices.append(members[row, column])
        weights.append(weight[row, column])
    return _lists(torch.cat(owners), torch.cat(indices), torch.cat(weights), len(nearest))


def _distances_to(members: Tensor, present: Tensor, images: Points, neighbours: _Neighbours, rows: slice) -> Tensor:
    """Distances of the images of ``rows`` to those ``members`` that are present, float32 (rows, k); else any number.

    Most are among the nearest, whose distances are known. The others are computed again, with the same last bits as at
    first: in a product of few rows or columns the order of summing is another one, in larger ones it is the same.
    """
    near = neighbours.distances[rows]
    table = near.new_full((len(near), len(images)), torch.nan).scatter_(1, neighbours.nearest[rows], near)
    missing = members[table.gather(1, members).isnan() & present]
    if len(missing):
        others = torch.arange(len(images), device=missing.device)
        columns = torch.cat((missing, others[:_WIDE] if len(near) >= _WIDE else others)).unique()
        table[:, columns] = squared_distances(images[rows], images[columns])
    return table.gather(1, members).nan_to_num(0)


def _expand(nearest: Tensor, reciprocal: Tensor, half: Tensor, half_reciprocal: Tensor) -> tuple[Tensor, Tensor]:
    """R*(p, k1): R(p, k1), and R(q, k1 / 2) of every member q that shares more than two thirds of it.

    Members int64 and present bool, both (rows, k): a member that is present occurs once.
    """
    candidates, valid = half[nearest], half_reciprocal[nearest] & reciprocal[..., None]
    shared = ((candidates[..., None] == nearest[:, None, None]) & reciprocal[:, None, None]).any(3) & valid
    joins = 3 * shared.sum(2) > 2 * valid.sum(2)
    members = torch.cat((nearest, candidates.flatten(1)), 1)
    present = torch.cat((reciprocal, (valid & joins[..., None]).flatten(1)), 1)
    # Absent ones go behind all present ones, and repeated ones lie side by side.
    absent = torch.iinfo(torch.int64).max
    ordered = members.masked_fill(~present, absent).sort(1).values
    once = ordered != absent
    once[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return ordered.masked_fill(~once, 0), once


def _expanded(encodings: _Lists, nearest: Tensor, chunk: int) -> _Lists:
    """Local query expansion: each encoding becomes the mean of those of the image's nearest k2, itself among them."""
    number, k2 = nearest.shape
    owners, indices, values = [], [], []
    for rows in chunks(number, chunk):
        position, entry = _join(encodings, nearest[rows].flatten())
        keys, inverse = torch.unique(position // k2 * number + encodings.index[entry], return_inverse=True)
        values.append(encodings.value.new_zeros(len(keys)).index_add_(0, inverse, encodings.value[entry] / k2))
        owners.append(keys // number + rows.start)
        indices.append(keys % number)
    return _lists(torch.cat(owners), torch.cat(indices), torch.cat(values), number)


def _by_column(encodings: _Lists, *, first_row: int) -> _Lists:
    """The encodings from ``first_row`` on as one list a column; rows are counted from ``first_row``."""
    number = len(encodings.start) - 1
    first = int(encodings.start[first_row])
    lengths = encodings.start[first_row + 1 :] - encodings.start[first_row:-1]
    row = torch.arange(number - first_row, device=lengths.device).repeat_interleave(lengths)
    column, order = encodings.index[first:].sort(stable=True)
    return _lists(column, row[order], encodings.value[first:][order], number)


def _jaccard(encodings: _Lists, rows: slice, gallery: _Lists, num_gallery: int) -> Tensor:
    """The Jaccard distance of encodings: 1 - sum of minima / sum of maxima, float32 (rows, num_gallery).

    Encodings sum to 1, so the maxima sum to 2 - the minima; only pairs of images that share a column matter.
    """
    bounds = encodings.start[rows.start : rows.stop + 1]
    first, last = int(bounds[0]), int(bounds[-1])
    row = torch.arange(len(bounds) - 1, device=bounds.device).repeat_interleave(bounds.diff())
    column, value = encodings.index[first:last], encodings.value[first:last]
    position, entry = _join(gallery, column)
    minima = value.new_zeros((len(bounds) - 1) * num_gallery)
    both = torch.minimum(value[position], gallery.value[entry])
    minima.index_add_(0, row[position] * num_gallery + gallery.index[entry], both)
    shared = minima.view(-1, num_gallery)
    return 1 - shared / (2 - shared)
