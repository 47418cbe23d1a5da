"""An ablation table of a paper with our numbers beside its own: on the screen, as Markdown and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from rich.table import Table as Shown

from densereid.pipeline.console import print_status, print_table
from densereid.pipeline.reports.paper_tables import Table
from densereid.train.evaluation.metrics import Scores

COLUMNS = {
    "mAP": "mean_average_precision",
    "Rank-1": "rank_1",
    "Rank-5": "rank_5",
    "Rank-10": "rank_10",
}
"""Which of our scores each column of a paper is."""


def report(
    table: Table, scores: Mapping[str, Sequence[Scores]], seeds: Sequence[int | str], folder: Path, dataset: str
) -> Path:
    """Print the table; write ``TABLE.md`` and, with every seed, ``TABLE.csv`` into ``folder``; the Markdown's path.

    ``scores`` by the label of a row, one for each of ``seeds``; rows without any were left out.
    """
    title = f"{table.title}. On {dataset}: {_compared(table, dataset)}"
    lines = [("network", "seeds", *table.columns), *_lines(table, scores, dataset)]
    shown = Shown(title=title, title_justify="left")
    for name in lines[0]:
        shown.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
    for line in lines[1:]:
        shown.add_row(*line)
    print_table(shown)
    if table.note:
        print_status(table.note)
    path = folder / f"{table.name}.md"
    body = ["| " + " | ".join(line) + " |" for line in lines]
    rule = "|".join(("", *("---" for _ in lines[0]), ""))
    note = [table.note, ""] if table.note else []
    path.write_text("\n".join([title, "", body[0], rule, *body[1:], "", *note]), encoding="utf-8")
    _write_csv(folder / f"{table.name}.csv", table, scores, seeds, dataset)
    return path


def _compared(table: Table, dataset: str) -> str:
    """What stands in a cell, and why no number of the paper does."""
    if dataset in table.datasets:
        return "ours / the paper's / difference (%)"
    others = f" (it does on {', '.join(table.datasets)})" if table.datasets else ""
    return f"ours (%); the paper prints no numbers on {dataset}{others}"


def _lines(table: Table, scores: Mapping[str, Sequence[Scores]], dataset: str) -> list[tuple[str, ...]]:
    lines = []
    for row in table.rows:
        if row.label in scores:
            columns = list(zip(*(_percent(table, one) for one in scores[row.label]), strict=True))
            papers = table.numbers(row, dataset)
            compared = dataset in table.datasets
            cells = [_cell(values, paper, compared) for values, paper in zip(columns, papers, strict=True)]
            lines.append((row.label, str(len(scores[row.label])), *cells))
    return lines


def _percent(table: Table, scores: Scores) -> tuple[float, ...]:
    return tuple(100 * getattr(scores, COLUMNS[column]) for column in table.columns)


def _cell(values: Sequence[float], paper: float | None, compared: bool) -> str:
    ours = f"{mean(values):.1f}" + (f" ±{stdev(values):.1f}" if len(values) > 1 else "")
    if paper is None:
        return f"{ours} / not printed" if compared else ours
    return f"{ours} / {paper:.1f} / {mean(values) - paper:+.1f}"


def _write_csv(
    path: Path, table: Table, scores: Mapping[str, Sequence[Scores]], seeds: Sequence[int | str], dataset: str
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        papers = (f"paper {name}" for name in table.columns)
        writer.writerow(("network", "feature", "seed", *table.columns, *papers))
        for row in table.rows:
            for seed, one in zip(seeds, scores.get(row.label, ()), strict=row.label in scores):
                ours = (f"{value:.2f}" for value in _percent(table, one))
                writer.writerow((row.label, row.feature, seed, *ours, *table.numbers(row, dataset)))
