"""An evaluation as files: everything in JSON, the scores in CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from densereid.data_catalog.files.atomic import write_bytes, write_json
from densereid.train.evaluation.comparison import Estimate
from densereid.train.evaluation.metrics import Scores
from densereid.train.evaluation.query_scores import QueryScores

Means = Mapping[str, float]
"""As :meth:`densereid.train.evaluation.query_scores.QueryScores.means` has them."""

_COLUMNS = ("ranking", "query_camera", "gallery_camera", "visible_parts")
"""What a line of the CSV file is of; empty is all."""


@dataclass(frozen=True)
class EvaluationReport:
    """What was evaluated, and its scores."""

    evaluated: Mapping[str, Any]
    """Plain values: run, checkpoint, epoch, feature, store."""
    scores: Mapping[str, Means] = field(default_factory=dict)
    """By ranking: ``plain``, ``re-ranked``."""
    camera_pairs: Mapping[tuple[int, int], Means] = field(default_factory=dict)
    """Of the plain ranking, by the cameras of query and gallery."""
    visible_parts: Mapping[int, Means] = field(default_factory=dict)
    """Of the plain ranking, by how many of the seven body parts a query shows."""

    def rows(self) -> list[dict[str, Any]]:
        """A line for each group of queries, with the means of its scores; what there is no query for is None."""
        found: list[dict[str, Any]] = [{"ranking": name, **means} for name, means in self.scores.items()]
        for (query, gallery), means in self.camera_pairs.items():
            found.append({"ranking": "plain", "query_camera": query, "gallery_camera": gallery, **means})
        for number, means in self.visible_parts.items():
            found.append({"ranking": "plain", "visible_parts": number, **means})
        return [{name: _plain(value) for name, value in row.items()} for row in found]


def as_means(scores: Scores) -> dict[str, float]:
    """Scores under the names of :meth:`densereid.train.evaluation.query_scores.QueryScores.means`, without Rank-20."""
    found = asdict(scores)
    queries, total = found.pop("num_valid_queries"), found.pop("num_queries")
    del found["num_gallery"]
    return found | {"queries": queries, "queries_without_match": total - queries}


def with_intervals(scores: QueryScores, intervals: Mapping[str, Estimate]) -> dict[str, float]:
    """The means of the scores, and of each that has an interval its ends: ``rank_1_low``, ``rank_1_high``, ..."""
    ends = {f"{name}_{end}": getattr(found, end) for name, found in intervals.items() for end in ("low", "high")}
    return scores.means() | ends


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def write_report(report: EvaluationReport, path: Path) -> tuple[Path, Path]:
    """Write ``path``.json and ``path``.csv, each whole or not at all; their paths. Raises OSError where they cannot."""
    rows, table = report.rows(), io.StringIO()
    writer = csv.DictWriter(table, (*_COLUMNS, *next(iter(report.scores.values()))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    json_path, csv_path = (path.with_name(path.name + suffix) for suffix in (".json", ".csv"))
    write_json(json_path, {**report.evaluated, "scores": rows})
    write_bytes(csv_path, table.getvalue().encode())
    return json_path, csv_path
