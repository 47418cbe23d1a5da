"""Two runs on the same queries: the differences of their scores, with an interval over the queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.errors import UserError
from densereid.train.evaluation.query_scores import QueryScores

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How much more the second has than the first, in -1..1."""

    value: float
    low: float
    high: float
    """The interval of CONFIDENCE: where it holds 0, other queries could turn the difference round."""


def differences(first: QueryScores, second: QueryScores, *, seed: int = 0) -> dict[str, Difference]:
    """The differences of ``rank_1``, ``mean_average_precision`` and ``mean_inverse_negative_penalty``.

    Paired: each query is compared with itself. The interval is the bootstrap's, by percentiles (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 13): RESAMPLES times as many queries as there are, drawn with
    replacement. It says what other queries of the same cameras could change, and nothing of other seeds of a training.
    Raises UserError where the two are not of the same queries.
    """
    if not torch.equal(first.num_matches, second.num_matches):
        raise UserError(
            "the runs were not ranked on the same queries and gallery", "Evaluate them on one store: STORE_PATH=..."
        )
    valid = first.num_matches > 0
    pairs = {name: (values(first)[valid], values(second)[valid]) for name, values in _VALUES.items()}
    drawn = _drawn(int(valid.sum()), seed)
    return {name: _difference(second_ - first_, drawn) for name, (first_, second_) in pairs.items()}


_VALUES = {
    "rank_1": lambda scores: (scores.first_match == 1).double(),
    "mean_average_precision": lambda scores: scores.average_precision,
    "mean_inverse_negative_penalty": lambda scores: scores.inverse_negative_penalty,
}


def _drawn(number: int, seed: int) -> Tensor:
    """Queries of each resample, int64 (RESAMPLES, number); the same for every score."""
    return torch.randint(0, number, (RESAMPLES, number), generator=torch.Generator().manual_seed(seed))


def _difference(values: Tensor, drawn: Tensor) -> Difference:
    means = torch.stack([values[rows].mean() for rows in drawn])
    edges = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    low, high = means.quantile(edges).tolist()
    return Difference(float(values.mean()), low, high)
