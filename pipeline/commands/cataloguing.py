"""Comparing a dataset on disk with all that is known about it, and making CUHK03's folders from its release."""

from __future__ import annotations

from pathlib import Path

from densereid.data_catalog.datasets.cuhk03 import (
    KINDS,
    extract_cuhk03,
    find_release,
    read_protocol,
    release_differences,
)
from densereid.data_catalog.datasets.inventory import missing_images, stray_files
from densereid.data_catalog.datasets.lookup import Dataset, count_differences, find_spec
from densereid.pipeline.console import ProgressReport, print_status

_SHOWN = 20


def dataset_differences(dataset: Dataset, data_root: Path) -> list[str]:
    """Every difference between a dataset on disk and its counts, lists and grammar, for CUHK03 also its release."""
    differences = [*count_differences(dataset), *missing_images(dataset), *stray_files(dataset)]
    if dataset.name in KINDS:
        release = find_release(dataset.name, data_root)
        against = [path for path in (release.protocol, release.images) if path is not None]
        if against:
            print_status(f"comparing with {' and '.join(map(str, against))}")
        differences += release_differences(release, dataset.root)
    return differences


def shortened(differences: list[str]) -> list[str]:
    """The first differences, and how many more there are."""
    more = len(differences) - _SHOWN
    return differences if more <= 0 else [*differences[:_SHOWN], f"... and {more} more"]


def extract_dataset(name: str, data_root: Path) -> list[Path]:
    """Write the folders of one of CUHK03's datasets, or of both for ``cuhk03``; the folders."""
    targets = []
    for each in KINDS if name == "cuhk03" else [name]:
        release = find_release(each, data_root)
        images, protocol = release.require(data_root)
        folders = [data_root / folder for folder in find_spec(each).folders]
        target = next((folder for folder in folders if folder.is_dir()), folders[0])
        print_status(f"extracting {images}, {protocol.name}, into {target}")
        with ProgressReport("extracting", len(read_protocol(each, protocol))) as report:
            for _ in extract_cuhk03(release, data_root, target):
                report.advance(1)
        targets.append(target)
    return targets
