"""Embeddings in a plane: their first two principal components."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PERSONS, OTHERS = 8, 600
"""People that are told apart, and images of other people beside them, at most."""


@dataclass(frozen=True)
class Projection:
    """N images in the plane of the two directions in which their embeddings vary most."""

    points: Tensor
    """float64 (N, 2)."""
    person_id: Tensor
    """int64 (N,): of the people who are told apart; 0 for everybody else."""
    explained: tuple[float, float]
    """The share of the variance that lies along each direction, in 0..1."""


def project(embeddings: Tensor, person_id: Tensor) -> Projection:
    """The embeddings (N, D) of the PERSONS people with most images, and of OTHERS images spread over the rest.

    Principal component analysis of the images that are shown: centred, by the eigenvectors of their products, with
    signs such that each direction's largest coordinate is positive. ``person_id``: int64 (N,); junk and distractors
    are others. Of people with equally many images those with the smallest numbers are taken.
    """
    people, numbers = person_id[person_id > 0].unique(return_counts=True)
    chosen = people[numbers.sort(descending=True, stable=True).indices[:PERSONS]]
    is_chosen = torch.isin(person_id, chosen)
    others = torch.nonzero(~is_chosen)[:, 0]
    others = others[torch.linspace(0, len(others) - 1, min(OTHERS, len(others))).long()]
    rows = torch.cat((torch.nonzero(is_chosen)[:, 0], others))
    shown = torch.where(is_chosen[rows], person_id[rows], 0)
    return _projection(embeddings[rows], shown)


def _projection(embeddings: Tensor, person_id: Tensor) -> Projection:
    centred = embeddings.double() - embeddings.double().mean(0)
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    points = torch.zeros(len(centred), 2, dtype=torch.float64)
    kept = min(2, len(values))
    points[:, :kept] = vectors[:, :kept] * values[:kept].sqrt()
    largest = points.gather(0, points.abs().argmax(0, keepdim=True))
    total = float(values.sum()) or 1.0
    first, second = (*(values[:2] / total).tolist(), 0.0, 0.0)[:2]
    return Projection(torch.where(largest < 0, -points, points), person_id, (first, second))
