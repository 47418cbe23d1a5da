"""Tables about networks: their scores, their settings, their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, stdev

from rich.table import Table

from densereid.data_catalog.plural import plural
from densereid.train.config.train_config import TrainConfig
from densereid.train.config.validation import setting_text
from densereid.train.engine.describe import multiply_adds, parameter_table, settings_table
from densereid.train.evaluation.comparison import CONFIDENCE, Estimate
from densereid.train.evaluation.metrics import Scores

_SCORES = {
    "Rank-1": "rank_1", "Rank-5": "rank_5", "Rank-10": "rank_10", "mAP": "mean_average_precision",
    "mAP (trapezoid)": "trapezoid_average_precision", "mINP": "mean_inverse_negative_penalty",
}  # fmt: skip

_MAIN = ("Rank-1", "mAP", "mINP")


def scores_table(title: str, scores: Mapping[str, Scores]) -> Table:
    """Rank-1, 5, 10, mAP, the original Market-1501 code's mAP (trapezoids) and mINP in percent, one row a network."""
    table = Table(title=title, title_justify="left")
    table.add_column("network")
    for column in (*_SCORES, "queries"):
        table.add_column(column, justify="right")
    for name, row in scores.items():
        values = (f"{100 * getattr(row, score):.1f}" for score in _SCORES.values())
        table.add_row(name, *values, str(row.num_valid_queries))
    return table


def splits_table(scores: Mapping[str, Scores]) -> Table:
    """Scores in percent, one row a run of a split, then their mean and standard deviation."""
    table = Table(title="query and gallery in turn", title_justify="left")
    table.add_column("run")
    for column in _SCORES:
        table.add_column(column, justify="right")
    rows = {run: [100 * getattr(row, score) for score in _SCORES.values()] for run, row in scores.items()}
    for run, values in rows.items():
        table.add_row(run, *(f"{value:.1f}" for value in values))
    columns = list(zip(*rows.values(), strict=True))
    if len(rows) > 1:
        table.add_row(f"mean of {len(rows)} splits", *(f"{mean(each):.1f} ±{stdev(each):.1f}" for each in columns))
    return table


def differences_table(first: str, rows: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """How much more each run has than the first, in points of percent, with the interval over queries."""
    table = Table(title=f"more than {first} ({CONFIDENCE:.0%} over queries)", title_justify="left")
    table.add_column("run")
    for name in _MAIN:
        table.add_column(name, justify="right")
    for run, row in rows.items():
        found = [row[_SCORES[name]] for name in _MAIN]
        table.add_row(
            run, *(f"{100 * each.value:+.1f} ({100 * each.low:+.1f} to {100 * each.high:+.1f})" for each in found)
        )
    return table


def intervals_in_words(found: Mapping[str, Estimate], queries: int) -> str:
    """The intervals of the main scores in percent, in one line."""
    words = (f"{name} {100 * found[_SCORES[name]].low:.1f} to {100 * found[_SCORES[name]].high:.1f}" for name in _MAIN)
    return f"{CONFIDENCE:.0%} over {plural(queries, 'query')}: {', '.join(words)}"


def ranked_by(config: TrainConfig) -> str:
    """The network's name, and the feature that its scores are of where that is not f."""
    feature = config.evaluate.feature
    return config.name if feature == "f" else f"{config.name}, {feature}"


def described_settings(config: TrainConfig) -> Table:
    """Every setting with its value and meaning; what is not the default has a star."""
    table = Table(title=f"{config.name} (* = not the default)", title_justify="left")
    for column in ("setting", "value", "meaning"):
        table.add_column(column)
    for row in settings_table(config):
        table.add_row(row.key, f"{setting_text(row.value)}{' *' if row.is_changed else ''}", row.help)
    return table


def described_parameters(config: TrainConfig, identities: int) -> Table:
    """How many parameters the network's modules have, for a number of training identities, and the arithmetic that
    embeds one image (GMAC: 1e9 multiplications with their additions)."""
    size = f"{config.height}x{config.width}"
    table = Table(
        title=f"parameters, {plural(identities, 'identity')}; GMAC, one image of {size}", title_justify="left"
    )
    table.add_column("module")
    for column in ("parameters", "GMAC"):
        table.add_column(column, justify="right")
    arithmetic = multiply_adds(config)
    for name, number in parameter_table(config, identities):
        table.add_row(name, f"{number:,}", f"{arithmetic[name] / 1e9:.3f}" if name in arithmetic else "")
    return table
