"""DensePose's input sizes compared, as a table, a CSV file and a plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from densereid.preprocess.estimators.input_sizes import REFERENCE_SHORT_EDGE, SizeResult

_COLUMNS = (
    "short edge", "precision", "images/s", "against 800", "compared with", "foreground IoU", "mask IoU",
    "part accuracy", "median UV distance",
)  # fmt: skip


def _rows(results: Sequence[SizeResult]) -> list[tuple[str, ...]]:
    base = results[0].images_per_second
    return [
        (
            str(result.short_edge),
            result.precision,
            f"{result.images_per_second:.3g}",
            f"{result.images_per_second / base:.2f}",
            result.compared_with,
            f"{result.agreement.foreground_iou:.4f}",
            f"{result.agreement.mask_iou:.4f}",
            f"{result.agreement.part_accuracy:.4f}",
            f"{result.agreement.uv_distance:.4f}",
        )
        for result in results
    ]


def sizes_table(results: Sequence[SizeResult]) -> Table:
    """The comparison for the terminal, one row a size; the first is the reference's."""
    table = Table(title=f"DensePose's input size against {REFERENCE_SHORT_EDGE}", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in _rows(results):
        table.add_row(*row)
    return table


def write_csv(path: Path, results: Sequence[SizeResult]) -> None:
    """The table as a file; its first row is the reference's."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column.replace(" ", "_").replace("/s", "_per_second") for column in _COLUMNS])
        writer.writerows(_rows(results))


def write_plot(path: Path, results: Sequence[SizeResult], title: str) -> None:
    """Agreement, UV distance and images a second over the short edge, one above the other, in the first arithmetic."""
    same = [result for result in results if result.precision == results[0].precision]
    ordered = sorted(same, key=lambda result: result.short_edge)
    edges = [result.short_edge for result in ordered]
    figure = Figure(figsize=(7, 8), layout="constrained")
    share, distance, speed = figure.subplots(3, sharex=True)
    figure.suptitle(title, fontsize="medium")
    share.plot(edges, [result.agreement.foreground_iou for result in ordered], marker="o", label="foreground IoU")
    share.plot(edges, [result.agreement.part_accuracy for result in ordered], marker="s", label="part accuracy")
    share.set_ylabel(f"agreement with {REFERENCE_SHORT_EDGE}")
    share.legend()
    distance.plot(edges, [result.agreement.uv_distance for result in ordered], marker="o", color="tab:green")
    distance.set_ylabel("median UV distance\n(chart widths)")
    speed.plot(edges, [result.images_per_second for result in ordered], marker="o", color="tab:red")
    speed.set(yscale="log", ylabel="images/s", xlabel="short edge inside DensePose (pixels)")
    speed.set_xticks(edges, [str(edge) for edge in edges])
    for axes in (share, distance, speed):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
