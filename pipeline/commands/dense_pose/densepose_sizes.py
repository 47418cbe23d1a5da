"""`densepose-sizes`: DensePose at several input sizes, and in bf16, run on a sample of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural
from densereid.pipeline.console import print_status, print_table
from densereid.pipeline.progress import ProgressReport
from densereid.pipeline.reports.input_sizes_report import sizes_table, write_csv, write_plot
from densereid.pipeline.settings import resolve_device
from densereid.preprocess.densepose.precision import AskedPrecision, resolve_precision
from densereid.preprocess.estimators.densepose import DenseposeEstimator, open_densepose
from densereid.preprocess.estimators.input_sizes import SizeResult, compare_sizes, tries_bf16
from densereid.preprocess.images import Crop, read_reduced


def compare_densepose_sizes(
    dataset: Dataset,
    size: tuple[int, int],
    short_edges: Sequence[int],
    *,
    images: int,
    weights: str,
    precision: AskedPrecision,
    device: str,
    run_root: Path,
) -> Path:
    """Compare the short edges with 800, and bf16 with fp32, on some images; print a table, return the plot's path.

    ``size`` is the canonical (height, width) at which the IUV maps are compared.
    """
    chosen, why = resolve_device(device)
    computed = resolve_precision(precision, "densepose", chosen)
    estimator = open_densepose(
        weights,
        device=chosen,
        mode="crop",
        short_edge=short_edges[0],
        precision=computed,
        compiled=False,
        notify=print_status,
    )
    crops = sample(dataset, images)
    title = (
        f"{estimator.architecture.name}, {computed}, {plural(len(crops), 'image')} of {dataset.name}, {chosen} ({why})"
    )
    print_status(title)
    results = _compared(estimator, crops, size, short_edges)
    print_table(sizes_table(results))
    return _written(run_root / f"densepose-sizes-{dataset.name}.png", results, title)


def _compared(
    estimator: DenseposeEstimator, crops: Sequence[Crop], size: tuple[int, int], edges: Sequence[int]
) -> list[SizeResult]:
    results = []
    rounds = 1 + len(edges) * (2 if tries_bf16(estimator) else 1)
    with ProgressReport("comparing", rounds * len(crops)) as report:
        for result in compare_sizes(estimator, crops, size, edges):
            results.append(result)
            report.advance(len(crops))
    return results


def _written(path: Path, results: Sequence[SizeResult], title: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path.with_suffix(".csv"), results)
    write_plot(path, results, title)
    return path


def sample(dataset: Dataset, images: int) -> list[Crop]:
    """That many images spread evenly over the dataset's order, without those that cannot be read."""
    count = min(images, len(dataset.records))
    indices = np.linspace(0, len(dataset.records) - 1, count).round().astype(int)
    readable: list[Crop] = []
    reasons: list[str] = []
    for record in (dataset.records[index] for index in indices):
        try:
            readable.append(Crop(record, *read_reduced(dataset.root / record.path)))
        except UserError as error:
            reasons.append(error.problem)
    if reasons:
        print_status(f"{plural(len(reasons), 'image')} cannot be read; the first: {reasons[0]}")
    if not readable:
        raise UserError(f"none of {plural(count, 'image')} of {dataset.root} can be read")
    return readable
