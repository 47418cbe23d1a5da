"""`densepose-sizes`: DensePose at several input sizes, run on a sample of a dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.errors import UserError
from densereid.pipeline.console import ProgressReport, print_status, print_table
from densereid.pipeline.reports.input_sizes_report import sizes_table, write_csv, write_plot
from densereid.pipeline.settings import parse_size, resolve_device
from densereid.preprocess.densepose.batching import Precision
from densereid.preprocess.estimators.densepose import DenseposeEstimator, open_densepose
from densereid.preprocess.estimators.input_sizes import REFERENCE_SHORT_EDGE, SizeResult, compare_sizes
from densereid.preprocess.images import Crop, read_reduced


def compare_densepose_sizes(
    *,
    dataset: str,
    catalog: Path | None,
    data_root: Path,
    pattern: str | None,
    size: str,
    short_edges: str,
    images: int,
    weights: str,
    precision: Precision,
    device: str,
    run_root: Path,
) -> Path:
    """Compare the short edges with 800 on a sample of the dataset; print a table, return the plot's path."""
    edges = parse_edges(short_edges)
    found = find_dataset(dataset, data_root, pattern=pattern, catalog=catalog)
    there, why = resolve_device(device)
    estimator = open_densepose(
        weights,
        device=there,
        mode="crop",
        short_edge=edges[0],
        precision=precision,
        compiled=False,
        notify=print_status,
    )
    crops = sample(found, images)
    print_status(
        title := f"{estimator.architecture.name}, {precision}, {len(crops)} images of {found.name}, {there} ({why})"
    )
    results = _compared(estimator, crops, parse_size(size), edges)
    print_table(sizes_table(results))
    return _written(run_root / f"densepose-sizes-{found.name}.png", results, title)


def _compared(
    estimator: DenseposeEstimator, crops: Sequence[Crop], size: tuple[int, int], edges: Sequence[int]
) -> list[SizeResult]:
    results = []
    with ProgressReport("comparing", (1 + len(edges)) * len(crops)) as report:
        for result in compare_sizes(estimator, crops, size, edges):
            results.append(result)
            report.advance(len(crops))
    return results


def _written(path: Path, results: Sequence[SizeResult], title: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path.with_suffix(".csv"), results)
    write_plot(path, results, title)
    return path


def parse_edges(text: str) -> list[int]:
    """Short edges in pixels from a list with commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[1-9]\d*", word) for word in words):
        raise UserError(f"SHORT_EDGES is '{text}'", "expected pixels with commas, for example 128,192,256,384,512")
    edges = sorted({int(word) for word in words} - {REFERENCE_SHORT_EDGE})
    if not edges:
        raise UserError(f"SHORT_EDGES is '{text}'", f"expected something to compare with {REFERENCE_SHORT_EDGE}")
    return edges


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
        print_status(f"{len(reasons)} images cannot be read; the first: {reasons[0]}")
    if not readable:
        raise UserError(f"none of {count} images of {dataset.root} can be read")
    return readable
