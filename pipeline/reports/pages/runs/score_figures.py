"""Figures of scores: CMC, visible parts, distances, the plane of embeddings; percent throughout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from densereid.pipeline.reports.pages.drawing import (
    INK,
    LINES,
    MUTED,
    SERIES,
    SURFACE,
    add_legend,
    inline_svg,
    new_figure,
    styled_axes,
)
from densereid.pipeline.reports.pages.runs.results import RunResults
from densereid.train.evaluation.query_scores import QueryScores
from densereid.train.evaluation.views.distances import DistanceHistogram
from densereid.train.evaluation.views.projection import Projection

_RANKS = 50
_MARKERS = "osD^vPXp"


def cmc_figure(runs: Sequence[RunResults]) -> str:
    """The share of queries with a match within the first ranks, a line for each run."""
    figure = new_figure()
    axes = styled_axes(figure, xlabel="rank", ylabel="queries with a match (%)", xlim=(1, _RANKS))
    for number, run in enumerate(runs):
        axes.step(
            range(1, _RANKS + 1), 100 * cmc(run.findings.scores), where="post", label=run.name,
            color=SERIES[number % len(SERIES)], linestyle=LINES[number % len(LINES)],
        )  # fmt: skip
    axes.set_ylim(top=101)
    axes.set_xticks([1, 5, 10, 20, 30, 40, 50])
    if len(runs) > 1:
        add_legend(figure, columns=1)
    return inline_svg(figure, "CMC curve")


def cmc(scores: QueryScores) -> np.ndarray:
    """The share of the queries with a match whose first one has at most rank 1, 2, ..., float64 (_RANKS,)."""
    first = scores.first_match[scores.num_matches > 0]
    return torch.stack([(first <= rank).double().mean() for rank in range(1, _RANKS + 1)]).numpy()


def visible_parts_figure(runs: Sequence[RunResults]) -> str:
    """mAP by the number of body parts that a query shows, a bar for each run; below it how many queries these are."""
    figure = new_figure()
    axes = styled_axes(figure, xlabel="body parts that a query shows (queries)", ylabel="mAP (%)")
    numbers = list(runs[0].findings.visible_parts)
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        values = [100 * means["mean_average_precision"] for means in run.findings.visible_parts.values()]
        places = np.arange(len(numbers)) + (number - (len(runs) - 1) / 2) * width
        bars = axes.bar(places, values, 0.9 * width, color=SERIES[number % len(SERIES)], label=run.name)
        if len(runs) == 1:
            axes.bar_label(bars, ["" if np.isnan(value) else f"{value:.0f}" for value in values], padding=2, color=INK)
    counts = [int(means["queries"]) for means in runs[0].findings.visible_parts.values()]
    axes.set_xticks(
        range(len(numbers)), [f"{number}\n({count})" for number, count in zip(numbers, counts, strict=True)]
    )
    axes.grid(visible=False, axis="x")
    return inline_svg(figure, "mAP by the number of body parts that a query shows")


def distances_figure(run: RunResults) -> str:
    """The distances of ranked pairs of one person and of different people, each as a share of its pairs."""
    histogram = run.findings.distances
    figure = new_figure()
    axes = styled_axes(figure, xlabel="distance of two embeddings", ylabel="share of the pairs (%)")
    for counts, label, color, line in (
        (histogram.same, "same person", SERIES[0], "-"), (histogram.different, "different people", SERIES[1], "--")
    ):  # fmt: skip
        shares = 100 * counts.double() / max(1, int(counts.sum()))
        axes.stairs(shares.numpy(), histogram.edges.numpy(), color=color, fill=True, alpha=0.2)
        axes.stairs(shares.numpy(), histogram.edges.numpy(), color=color, linestyle=line, label=label, linewidth=1.4)
    axes.set_xlim(*_occupied(histogram))
    axes.set_ylim(bottom=0)
    add_legend(figure)
    return inline_svg(figure, f"distances of {run.name}")


def _occupied(histogram: DistanceHistogram) -> tuple[float, float]:
    """The range of the distances that there are, a bin wider on both sides."""
    edges, places = histogram.edges, torch.nonzero(histogram.same + histogram.different)[:, 0]
    if not len(places):
        return 0.0, float(edges[-1])
    return float(edges[max(0, int(places[0]) - 1)]), float(edges[min(len(edges) - 1, int(places[-1]) + 2)])


def projection_figure(run: RunResults) -> str:
    """Images in the plane of the first two principal components; some people have a colour and a sign of their own."""
    found = run.findings.projection
    figure = new_figure(4.4, 3.6)
    first, second = found.explained
    axes = styled_axes(figure, xlabel=f"first direction ({first:.0%} of the variance)", ylabel=f"second ({second:.0%})")
    x, y = found.points.T.numpy()
    others = (found.person_id == 0).numpy()
    axes.scatter(x[others], y[others], s=5, color=MUTED, alpha=0.4, linewidths=0, label="others")
    for number, person in enumerate(_people(found)):
        chosen = (found.person_id == person).numpy()
        axes.scatter(
            x[chosen], y[chosen], s=20, marker=_MARKERS[number % len(_MARKERS)], color=SERIES[number % len(SERIES)],
            edgecolors=SURFACE, linewidths=0.4, label=str(person),
        )  # fmt: skip
    add_legend(figure, columns=5, title="person")
    return inline_svg(figure, f"embeddings of {run.name} in a plane")


def _people(projection: Projection) -> list[int]:
    return [person for person in projection.person_id.unique().tolist() if person]
