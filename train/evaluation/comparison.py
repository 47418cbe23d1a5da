"""How certain scores are, of one run and of the difference of two: an interval over the queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.errors import UserError
from densereid.train.evaluation.query_scores import RANKS_OF_A_TABLE, QueryScores

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over queries and its interval of CONFIDENCE.

    The interval is the bootstrap's, by percentiles (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13): RESAMPLES times as many queries as there are, drawn with replacement. It says what other queries of the
    same cameras could change, and nothing of other seeds of a training.
    """

    value: float
    low: float
    high: float


def estimates(scores: QueryScores, *, seed: int = 0) -> dict[str, Estimate]:
    """The scores of one run in 0..1, under the names of :meth:`QueryScores.means`; NaN where no query has a match."""
    valid = scores.num_matches > 0
    drawn = _drawn(int(valid.sum()), seed)
    return {name: _estimate(values(scores)[valid], drawn) for name, values in _VALUES.items()}


def differences(first: QueryScores, second: QueryScores, *, seed: int = 0) -> dict[str, Estimate]:
    """How much more the second has than the first, of each score of :func:`estimates`, in -1..1.

    Paired: each query is compared with itself; where an interval holds 0, other queries could turn the difference
    round. Raises UserError where the two are not of the same queries.
    """
    if not torch.equal(first.num_matches, second.num_matches):
        raise UserError(
            "the runs were not ranked on the same queries and gallery", "Evaluate them on one store: STORE_PATH=..."
        )
    valid = first.num_matches > 0
    pairs = {name: (values(first)[valid], values(second)[valid]) for name, values in _VALUES.items()}
    drawn = _drawn(int(valid.sum()), seed)
    return {name: _estimate(second_ - first_, drawn) for name, (first_, second_) in pairs.items()}


def _within(rank: int) -> Callable[[QueryScores], Tensor]:
    return lambda scores: (scores.first_match <= rank).double()


_VALUES: dict[str, Callable[[QueryScores], Tensor]] = {
    **{f"rank_{k}": _within(k) for k in RANKS_OF_A_TABLE},
    "mean_average_precision": lambda scores: scores.average_precision,
    "trapezoid_average_precision": lambda scores: scores.trapezoid_average_precision,
    "mean_inverse_negative_penalty": lambda scores: scores.inverse_negative_penalty,
}


def _drawn(number: int, seed: int) -> Tensor:
    """Queries of each resample, int64 (RESAMPLES, number); the same for every score."""
    return torch.randint(0, number, (RESAMPLES, number), generator=torch.Generator().manual_seed(seed))


def _estimate(values: Tensor, drawn: Tensor) -> Estimate:
    means = torch.stack([values[rows].mean() for rows in drawn])
    edges = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    low, high = means.quantile(edges).tolist()
    return Estimate(float(values.mean()), low, high)
