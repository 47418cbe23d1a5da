"""Figures inside a page: matplotlib's SVG, whose colours are the page's own, in light and in dark."""

from __future__ import annotations

import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, LINE, SURFACE = "#010201", "#010202", "#010203", "#010204"
"""Colours that stand for variables of ``page.css``: text, axes, grid, what lies behind."""
SERIES = tuple(f"#0103{number:02x}" for number in range(1, 9))
"""Colours of lines and bars, in their order: ``--series-1`` to ``--series-8``."""

LINES = ("-", "--", "-.", ":")
"""Kinds of lines, in the order of the colours: to be told apart without colour, too."""

_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", SURFACE: "--surface"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 9, "axes.titlesize": 9, "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK, "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": LINE, "xtick.color": MUTED,
    "ytick.color": MUTED, "axes.grid": True, "grid.color": LINE, "grid.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "axes.facecolor": "none", "figure.facecolor": "none",
    "legend.frameon": False, "legend.labelcolor": INK, "lines.linewidth": 1.6,
}  # fmt: skip
_SVG = "http://www.w3.org/2000/svg"


def new_figure(width: float = 4.4, height: float = 2.9) -> Figure:
    """An empty figure in inches; one of the usual width is as wide as a phone, so its text stays readable there."""
    with mpl.rc_context(_STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def styled_axes(figure: Figure, **settings: object) -> Axes:
    """The figure's one pair of axes in the page's style; ``settings`` as matplotlib's ``Axes.set``."""
    with mpl.rc_context(_STYLE):
        axes = figure.subplots()
        axes.set(**settings)
    return axes


def add_legend(figure: Figure, *, columns: int = 2, title: str | None = None) -> None:
    """Name the figure's lines above it, where they cover nothing."""
    with mpl.rc_context(_STYLE):
        legend = figure.legend(
            loc="outside upper left", ncols=columns, handletextpad=0.4, columnspacing=1.0, title=title
        )
        legend.set_alignment("left")


def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an ``<svg>`` element for a page; ``label`` says what it shows to those who do not see it.

    Equal figures give equal text.
    """
    file = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    _clean(root)
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("class", "figure")
    for prefix, namespace in (("", _SVG), ("xlink", "http://www.w3.org/1999/xlink")):
        ElementTree.register_namespace(prefix, namespace)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub("#010[23][0-9a-f]{2}", lambda match: f"var({_VARIABLES[match[0]]})", text)


def _clean(root: ElementTree.Element) -> None:
    """Drop what a page has no use for: metadata, and the names of groups, which several figures would share."""
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for group in root.iter(f"{{{_SVG}}}g"):
        group.attrib.pop("id", None)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
