"""k-reciprocal re-ranking over full N x N matrices, as the equations of the CVPR 2017 paper read."""

from __future__ import annotations

import numpy as np


def slow_rerank(distances: np.ndarray, num_query: int, *, k1: int, k2: int, weight: float) -> np.ndarray:
    """Final distances (num_query, N - num_query) of all-pairs distances (N, N), the query images first."""
    number = len(distances)
    scaled = distances / distances.max(1, keepdims=True)
    ranking = [_ranked(row) for row in distances]
    encodings = np.zeros((number, number))
    for p in range(number):
        members = _expanded(p, ranking, k1)
        for g in members:
            encodings[p, g] = np.exp(-scaled[p, g])
        encodings[p] /= encodings[p].sum() or 1
    averaged = np.array([encodings[ranking[p][:k2]].mean(0) for p in range(number)])
    final = np.zeros((num_query, number - num_query))
    for p in range(num_query):
        for place, g in enumerate(range(num_query, number)):
            final[p, place] = (1 - weight) * _jaccard(averaged[p], averaged[g]) + weight * scaled[p, g]
    return final


def _ranked(row: np.ndarray) -> list[int]:
    return sorted(range(len(row)), key=lambda g: (row[g], g))


def _reciprocal(p: int, ranking: list[list[int]], members: int) -> set[int]:
    """R(p, k): who is near p and has p near."""
    return {g for g in ranking[p][:members] if p in ranking[g][:members]}


def _expanded(p: int, ranking: list[list[int]], k1: int) -> set[int]:
    """R*(p, k1): R(q, k1 / 2) joins where more than two thirds of it are in R(p, k1)."""
    core = _reciprocal(p, ranking, k1 + 1)
    expanded = set(core)
    for q in core:
        half = _reciprocal(q, ranking, round(k1 / 2) + 1)
        if len(core & half) * 3 > 2 * len(half):
            expanded |= half
    return expanded


def _jaccard(first: np.ndarray, second: np.ndarray) -> float:
    minima, maxima = 0.0, 0.0
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        minima += min(one, other)
        maxima += max(one, other)
    return 1 - minima / maxima
