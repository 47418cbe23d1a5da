"""Learning curves: every value of ``metrics.csv`` over the epochs, a small figure each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from densereid.pipeline.reports.pages.drawing import LINES, SERIES, inline_svg, new_figure, styled_axes
from densereid.pipeline.reports.pages.runs.results import RunResults

_ORDER = ("loss", "loss/", "learning_rate", "scores/rank_1", "scores/mean_average_precision",
          "scores/mean_inverse_negative_penalty", "images_per_second", "data_wait")  # fmt: skip
"""What is drawn, in this order; one that ends in a slash is all that begin so."""
_NAMES = {
    "loss": "loss, the sum", "learning_rate": "learning rate", "scores/rank_1": "Rank-1",
    "scores/mean_average_precision": "mAP", "scores/mean_inverse_negative_penalty": "mINP",
    "images_per_second": "images a second", "data_wait": "share of the time spent waiting for data",
}  # fmt: skip

_Curve = tuple[list[float], list[float]]


def learning_curves(runs: Sequence[RunResults]) -> list[tuple[str, str]]:
    """Figures and what they show, for every value that a run recorded."""
    curves = [_curves(run.metrics) for run in runs]
    last = max((max(epochs) for each in curves for epochs, _ in each.values()), default=1.0)
    return [
        (_drawn(name, [each.get(name, ([], [])) for each in curves], last), _title(name)) for name in _ordered(curves)
    ]


def _curves(metrics: Sequence[Mapping[str, str]]) -> dict[str, _Curve]:
    """Epochs and values by name; a row whose numbers are none, or not finite, is left out."""
    found: dict[str, _Curve] = {}
    for row in metrics:
        try:
            epoch, value = float(row["epoch"]), float(row["value"])
        except ValueError:
            continue
        if not (isfinite(epoch) and isfinite(value)):
            continue
        epochs, values = found.setdefault(row["name"], ([], []))
        epochs.append(epoch)
        values.append(value)
    return found


def _ordered(curves: Sequence[Mapping[str, _Curve]]) -> Iterator[str]:
    names = sorted({name for each in curves for name in each})
    for wanted in _ORDER:
        yield from (name for name in names if name == wanted or (wanted.endswith("/") and name.startswith(wanted)))


def _title(name: str) -> str:
    return _NAMES.get(name, name.removeprefix("loss/").replace("_", " "))


def _drawn(name: str, curves: Sequence[_Curve], last: float) -> str:
    figure = new_figure(3.0, 1.6)
    axes = styled_axes(figure, xlabel="epoch", xlim=(0, 1.02 * last))
    for number, (epochs, values) in enumerate(curves):
        marker = "o" if len(epochs) < 3 else None
        axes.plot(
            epochs, values, color=SERIES[number % len(SERIES)], linestyle=LINES[number % len(LINES)], marker=marker
        )
    if name == "learning_rate":
        axes.ticklabel_format(axis="y", scilimits=(-3, 3))
    else:
        lowest, highest = axes.get_ylim()
        axes.set_ylim(min(0, lowest), 1.1 * highest if highest > 0 else highest)
    return inline_svg(figure, f"{_title(name)} over the epochs")
