"""A dataset's files against its records: which listed images are missing, and which files are no images of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.datasets.specs import DatasetSpec
from densereid.data_catalog.files.refusals import read_whole

_EVERYWHERE = {"Thumbs.db", "desktop.ini"}
"""Files that Windows leaves in folders, also in Market-1501's own archive."""


def missing_images(dataset: Dataset) -> list[str]:
    """The images that a list or a link names and that are not on disk, one sentence each."""
    absent = (record.path for record in dataset.records if not (dataset.root / record.path).is_file())
    return [f"{path} is missing" for path in absent]


def stray_files(dataset: Dataset) -> list[str]:
    """The files in a known dataset's image folders that are none of its images, one sentence each.

    Images that another list of the same folder names (MSMT17's validation images) are not strays, nor are IUV maps.
    """
    if dataset.spec is None:
        return []
    folders = _image_folders(dataset.spec)
    known = {record.path for record in dataset.records}
    known |= {f"{folder}/{name}" for name in _listed(dataset) for folder in folders}
    found = (path for folder in folders for path in (dataset.root / folder).rglob("*") if path.is_file())
    strays = {path.relative_to(dataset.root).as_posix() for path in found if not _ordinary(dataset, path)} - known
    return [f"{path} is no image of {dataset.spec.title}'s" for path in sorted(strays)]


def _image_folders(spec: DatasetSpec) -> list[str]:
    if spec.halves is not None:
        return [spec.halves.folder]
    sources = (source for sources in spec.split_lists.values() for source in sources)
    return list(dict.fromkeys([*spec.split_folders.values(), *(source.images for source in sources)]))


def _listed(dataset: Dataset) -> Iterator[str]:
    """Every image that any list file beside the image folders names."""
    if dataset.spec is not None and dataset.spec.split_lists:
        for path in sorted(dataset.root.glob("*.txt")):
            for line in (read_whole(path) or b"").decode("utf-8", "replace").splitlines():
                yield line.strip().rpartition(" ")[0]


def _ordinary(dataset: Dataset, path: Path) -> bool:
    is_map = dataset.iuv_root is not None and path.is_relative_to(dataset.iuv_root)
    return is_map or path.name in _EVERYWHERE or path.name.startswith(".")
