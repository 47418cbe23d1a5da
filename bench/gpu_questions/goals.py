"""What was hoped for, and whether it came true: each goal looks up the figures that steps have named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Goal:
    """``figures`` is a pattern of names; of those that were measured ``chosen`` picks the one that is compared."""

    what: str
    figures: str
    chosen: Callable[[list[tuple[float, str]]], tuple[float, str]]
    at_least: bool
    target: float
    shown: str = "{:.4g}"

    @property
    def text(self) -> str:
        return f"{'at least' if self.at_least else 'less than'} {self.shown.format(self.target)}"

    def judge(self, figures: Mapping[str, Sequence[float | str]]) -> tuple[str, str, str]:
        """What was measured, which figure that is, and the verdict: met, missed or not measured."""
        found = [(float(value), name) for name, (value, _) in figures.items() if fnmatch(name, self.figures)]
        if not found:
            return "", "", "not measured"
        value, name = self.chosen(found)
        met = value >= self.target if self.at_least else value < self.target
        return self.shown.format(value), name, "met" if met else "missed"


GOALS = (
    Goal("tests marked gpu that fail", "tests.failed", max, False, 1, "{:.0f}"),
    Goal("compiled tests marked gpu that fail", "tests-compiled.failed", max, False, 1, "{:.0f}"),
    Goal("DensePose, network and decoding: images/s", "densepose.network.*.rate", max, True, 1000, "{:.0f}"),
    Goal("DensePose, JPEG to store: images/s", "densepose.end_to_end.*.rate", max, True, 1000, "{:.0f}"),
    Goal("the same: GPU busy", "densepose.end_to_end.*.busy", max, True, 0.9, "{:.0%}"),
    Goal("the same: minutes for Market-1501", "densepose.end_to_end.*.minutes.market", min, False, 1, "{:.2f}"),
    Goal("MagnifierNet: share of a step spent waiting", "training.magnifiernet.*.wait", max, False, 0.02, "{:.2%}"),
    Goal("DSA-reID: share of a step spent waiting", "training.dsa-reid.*.wait", max, False, 0.02, "{:.2%}"),
    Goal("MagnifierNet, 500 epochs of Market-1501: hours", "training.magnifiernet.*.hours", min, False, 1, "{:.2f}"),
)
"""The worst waiting counts, since each training should be fed; of rates and hours the best way counts."""
