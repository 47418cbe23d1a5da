"""What the report of runs is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from densereid.data_catalog.store.store import Store
from densereid.train.engine.describe import SettingRow
from densereid.train.evaluation.comparison import Estimate
from densereid.train.evaluation.views.findings import Findings
from densereid.train.evaluation.views.ranked_lists import RankedList


@dataclass(frozen=True)
class RunResults:
    """One run on the report's store."""

    name: str
    facts: Mapping[str, str]
    """What was run and with what, in words."""
    settings: Sequence[SettingRow]
    metrics: Sequence[Mapping[str, str]]
    """Rows of the run's ``metrics.csv``; none where it has none."""
    findings: Findings
    differences: Mapping[str, Estimate] = field(default_factory=dict)
    """How much more than the first run; empty for the first."""


@dataclass(frozen=True)
class RankedStore:
    """The store that the runs are ranked on."""

    store: Store
    query_rows: np.ndarray
    """int64 (num_query,)."""
    gallery_rows: np.ndarray
    query_parts: Tensor
    """bool (num_query, 7): the body parts that a query shows."""
    facts: Mapping[str, str]


@dataclass(frozen=True)
class ShownQueries:
    """Queries that are shown for one reason."""

    title: str
    why: str
    lists: Mapping[int, Sequence[RankedList]]
    """Of each query, by its number: a list for each run, in their order."""


@dataclass(frozen=True)
class ShownActivations:
    """Where the runs' trunks look in some queries."""

    rows: np.ndarray
    """The queries' rows in the store, int64 (N,)."""
    pictures: Sequence[np.ndarray]
    """For each run the images under its activations, uint8 (N, height, width, 3)."""


@dataclass(frozen=True)
class RunsReport:
    """All of it."""

    runs: Sequence[RunResults]
    ranked: RankedStore
    queries: Sequence[ShownQueries]
    activations: ShownActivations
    made_with: Mapping[str, str]
    """Versions and commit of what made the report."""
    notes: Sequence[str] = ()
    """What a reader has to know before the rest."""
