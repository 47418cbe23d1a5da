"""The figures of a store's report."""

from __future__ import annotations

import numpy as np

from densereid.data_catalog.parts import BODY_PARTS
from densereid.pipeline.reports.pages.drawing import SERIES, add_legend, inline_svg, new_figure, styled_axes


def texels_figure(texels: np.ndarray) -> str:
    """How often each DSAP image has anything in it, and how much; ``texels``: float (N, 24), shares of its texels."""
    figure = new_figure(height=5.2)
    axes = styled_axes(figure, xlabel="%", xlim=(0, 100))
    places = np.arange(len(BODY_PARTS))
    seen = 100 * (texels > 0).mean(0) if len(texels) else np.zeros(len(BODY_PARTS))
    filled = 100 * texels.mean(0) if len(texels) else seen
    axes.barh(places - 0.2, seen, 0.38, color=SERIES[0], label="images that show it")
    axes.barh(places + 0.2, filled, 0.38, color=SERIES[1], label="texels with a pixel")
    axes.set_yticks(places, BODY_PARTS)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    add_legend(figure)
    return inline_svg(figure, "How often each of the 24 parts is seen, and how much of its DSAP image is filled")


def scores_figure(scores: np.ndarray) -> str:
    """How sure the estimator was; ``scores``: float (N,) in 0..1. Empty where it gives none."""
    if not len(scores):
        return ""
    figure = new_figure()
    axes = styled_axes(figure, xlabel="score", ylabel="images", xlim=(0, 1))
    axes.hist(scores, bins=np.linspace(0, 1, 51).tolist(), color=SERIES[0])
    return inline_svg(figure, "Histogram of the estimator's scores")
