"""The report of one run, or of several side by side, as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from densereid.data_catalog.parts import MASK_LABELS
from densereid.pipeline.reports.pages.pictures import camera_text, mask_legend
from densereid.pipeline.reports.pages.runs.learning_curves import learning_curves
from densereid.pipeline.reports.pages.runs.query_pictures import activation_views, query_groups
from densereid.pipeline.reports.pages.runs.results import RunResults, RunsReport
from densereid.pipeline.reports.pages.runs.score_figures import (
    cmc_figure,
    distances_figure,
    projection_figure,
    visible_parts_figure,
)
from densereid.pipeline.reports.pages.shell import write_page
from densereid.train.config.validation import setting_text
from densereid.train.evaluation.comparison import CONFIDENCE, Estimate

SCORES = {
    "rank_1": "Rank-1", "rank_5": "Rank-5", "rank_10": "Rank-10", "rank_20": "Rank-20", "mean_average_precision": "mAP",
    "trapezoid_average_precision": "mAP (trapezoid)", "mean_inverse_negative_penalty": "mINP",
}  # fmt: skip
_SECTIONS = {
    "run": "What was run", "learning": "Learning curves", "scores": "Scores", "cameras": "Cameras",
    "parts": "Body parts", "queries": "Queries", "activations": "Activations", "embeddings": "Embeddings",
}  # fmt: skip


def write_runs_page(path: Path, report: RunsReport) -> Path:
    """Write the report to ``path``, whole or not at all; the path. Raises OSError where it cannot be written."""
    runs = report.runs
    return write_page(
        path, "runs.html",
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs on {report.ranked.store.path.name}",
        sections=list(_SECTIONS.items()), report=report, runs=runs, names=[run.name for run in runs],
        confidence=f"{CONFIDENCE:.0%}",
        facts=_facts_table(runs), settings=_changed_settings(runs), curves=learning_curves(runs),
        scores=_scores_table(runs), cmc=cmc_figure(runs), cameras=_camera_tables(runs),
        more_columns=[f"{run.name}: more" for run in runs[1:]],
        visible_parts=visible_parts_figure(runs), shown_parts=_shown_parts(report), shown_columns=_shown_columns(runs),
        distances=[(run.name, distances_figure(run)) for run in runs],
        projections=[(run.name, projection_figure(run)) for run in runs],
        queries=query_groups(report), activations=activation_views(report), legend=mask_legend(),
    )  # fmt: skip


def _facts_table(runs: Sequence[RunResults]) -> list[list[str]]:
    return [[name, *(run.facts[name] for run in runs)] for name in runs[0].facts]


def _changed_settings(runs: Sequence[RunResults]) -> list[list[str]]:
    """Name and value of each setting: of one run those that are not the default, of several where they differ."""
    rows = []
    for each in zip(*(run.settings for run in runs), strict=True):
        values = [setting_text(row.value) for row in each]
        if len(set(values)) > 1 or (len(runs) == 1 and each[0].is_changed):
            rows.append([each[0].key, *values])
    return rows


def _scores_table(runs: Sequence[RunResults]) -> list[list[str]]:
    rows = []
    for key, name in SCORES.items():
        cells = [_interval(run.findings.estimates[key]) for run in runs]
        cells += [_difference(run.differences[key]) for run in runs[1:]]
        rows.append([name, *cells])
    return rows


def _interval(found: Estimate) -> str:
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _difference(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _camera_tables(runs: Sequence[RunResults]) -> list[Mapping[str, object]]:
    """mAP of each pair of cameras, rows the query's and columns the gallery's, with the share of its colour: from the
    lowest mAP of all runs to the highest. None where there is no match."""
    every = [means["mean_average_precision"] for run in runs for means in run.findings.camera_pairs.values()]
    lowest, spread = min(every), max(every) - min(every)
    tables = list[Mapping[str, object]]()
    for run in runs:
        pairs = run.findings.camera_pairs
        cells = {
            pair: {**means, "share": (means["mean_average_precision"] - lowest) / spread if spread else 0.5}
            for pair, means in pairs.items()
        }
        queries, gallery = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
        rows = [(camera_text(own), [cells.get((own, other)) for other in gallery]) for own in queries]
        tables.append({"name": run.name, "columns": list(map(camera_text, gallery)), "rows": rows})
    return tables


def _shown_parts(report: RunsReport) -> list[list[str]]:
    """Of each part: the share of the queries that show it, and each run's mAP of those that do and of those that do
    not."""
    seen, rows = report.ranked.query_parts, []
    for part, name in enumerate(MASK_LABELS[1:]):
        cells = [f"{100 * float(seen[:, part].double().mean()):.0f}"]
        for run in report.runs:
            for means in run.findings.shown_parts[part]:
                cells.append(f"{100 * means['mean_average_precision']:.1f}" if means["queries"] else "\N{EN DASH}")
        rows.append([name, *cells])
    return rows


def _shown_columns(runs: Sequence[RunResults]) -> list[str]:
    names = [f"{run.name}: " for run in runs] if len(runs) > 1 else [""]
    return [f"{name}{words}" for name in names for words in ("shown", "not shown")]
