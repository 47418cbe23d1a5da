"""Datasets on disk: which are known and there, whether a copy is whole, CUHK03's folders from its release."""

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
from densereid.data_catalog.datasets.lookup import FOLDER, Dataset, count_differences, find_dataset, find_spec, locate
from densereid.data_catalog.datasets.specs import known_datasets
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural
from densereid.pipeline.console import print_status
from densereid.pipeline.progress import ProgressReport

_SHOWN = 20


def dataset_lines(catalog: Path | None, data_root: Path) -> list[str]:
    """A line for each known dataset: its name, its title and its folder on disk, if it is there."""
    lines = []
    for name, spec in known_datasets(catalog).items():
        found = locate(spec, data_root)
        lines.append(f"{name:<16} {spec.title}: {found if found else f'not under {data_root}'}")
    folder = f"{FOLDER:<16} any folder of person crops: DATA_ROOT=FOLDER, PATTERN=... for identities and cameras"
    return [*lines, folder]


def check_dataset(name: str, data_root: Path, catalog: Path | None) -> tuple[list[str], bool]:
    """What is to be said of a dataset's copy on disk, and whether it is as published."""
    found = find_dataset(name, data_root, catalog=catalog)
    differences = dataset_differences(found, data_root)
    if differences:
        return shortened(differences), False
    counts = "exactly the published counts" if found.spec and found.spec.counts else "no published counts to compare"
    return [f"{found.root}: {plural(len(found.records), 'image')}, {counts}"], True


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


def extract_dataset(name: str, data_root: Path) -> dict[str, Path]:
    """Write the folders of one of CUHK03's datasets, or of both for ``cuhk03``; each dataset's folder.

    Raises UserError for another name, and where the release is not there.
    """
    if name not in ("cuhk03", *KINDS):
        raise UserError(f"'{name}' has no release to extract", f"expected cuhk03, {' or '.join(KINDS)}")
    return {each: _extract(each, data_root) for each in (KINDS if name == "cuhk03" else [name])}


def _extract(name: str, data_root: Path) -> Path:
    release = find_release(name, data_root)
    images, protocol = release.require(data_root)
    folders = [data_root / folder for folder in find_spec(name).folders]
    target = next((folder for folder in folders if folder.is_dir()), folders[0])
    print_status(f"extracting {images}, {protocol.name}, into {target}")
    with ProgressReport("extracting", len(read_protocol(name, protocol))) as report:
        for _ in extract_cuhk03(release, data_root, target):
            report.advance(1)
    return target
