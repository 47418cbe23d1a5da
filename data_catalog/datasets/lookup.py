"""Datasets on disk: finding a known one or a folder of crops, and comparing it with its published counts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from densereid.data_catalog.datasets.folders import read_folder
from densereid.data_catalog.datasets.layouts import read_layout
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.datasets.specs import DatasetSpec, known_datasets
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.names import EXPECTED, is_name
from densereid.data_catalog.store.schema import Split

FOLDER = "folder"
"""The dataset name that stands for any directory of crops."""


@dataclass(frozen=True)
class Dataset:
    """A dataset found on disk: its name, folder, sorted records and the folder of its IUV maps, if it has one."""

    name: str
    root: Path
    records: tuple[ImageRecord, ...]
    iuv_root: Path | None
    spec: DatasetSpec | None = None
    """None for a folder of crops."""
    pattern: str | None = None
    """What found the labels of a folder of crops in its paths, if anything did."""

    def rows(self) -> dict[str, np.ndarray]:
        """The arrays of a store that the dataset alone decides, one entry per record."""
        return {
            "person_id": np.array([record.person_id for record in self.records], np.int32),
            "camera_id": np.array([record.camera_id for record in self.records], np.int32),
            "split": np.array([record.split for record in self.records], np.uint8),
            "path": np.array([record.path for record in self.records], object),
        }


def find_dataset(
    name: str,
    data_root: Path,
    *,
    pattern: str | None = None,
    iuv_root: Path | None = None,
    catalog: Path | None = None,
) -> Dataset:
    """The dataset ``name`` under ``data_root``; for ``folder``, ``data_root`` itself holds the images.

    ``pattern`` is for ``folder`` (see :mod:`densereid.data_catalog.datasets.folders`); ``catalog`` is a user's
    own YAML file of datasets. Raises UserError for an unknown name, a dataset or IUV maps that are not there, and a
    layout that is not the dataset's.
    """
    if iuv_root is not None and not iuv_root.exists():
        raise UserError(
            f"IUV_ROOT={iuv_root} is not there",
            "give the folder of the IUV maps, or a dump of DensePose's apply_net.py",
        )
    if name == FOLDER:
        iuv_root = iuv_root or (data_root / "iuv" if (data_root / "iuv").is_dir() else None)
        records = read_folder(data_root, pattern=pattern, iuv_root=iuv_root)
        return Dataset(folder_name(data_root), data_root, records, iuv_root, pattern=pattern or None)
    spec = find_spec(name, catalog)
    root = locate(spec, data_root)
    if root is None:
        raise UserError(*_absent(spec, data_root))
    own_iuv = root / spec.iuv if spec.iuv else None
    return Dataset(name, root, read_layout(spec, root), iuv_root or own_iuv, spec)


def find_root(name: str, data_root: Path, catalog: Path | None = None) -> Path | None:
    """The folder of the dataset ``name``, ``data_root`` itself for ``folder``; None where it is not there."""
    if name == FOLDER:
        return data_root if data_root.is_dir() else None
    return locate(find_spec(name, catalog), data_root)


def folder_name(root: Path) -> str:
    """What a folder of crops is called in a store. Raises UserError where its own name cannot be part of another."""
    name = f"{FOLDER}-{root.resolve().name}"
    if not is_name(name):
        raise UserError(f"DATA_ROOT={root} cannot name a store: {name!r} is no name", f"rename it; expected {EXPECTED}")
    return name


def split_name(name: str, number: int) -> str:
    """What the random split of that number of a dataset without an official one is called: ``cuhk01-split3``."""
    return f"{name}-split{number}"


def find_spec(name: str, catalog: Path | None = None) -> DatasetSpec:
    """The description of a known dataset, or of one of its random splits; UserError with the nearest name otherwise."""
    known = known_datasets(catalog)
    if name not in known:
        base, _, number = name.rpartition("-split")
        halves = known[base].halves if base in known else None
        if halves is not None and number.isdecimal() and name == split_name(base, int(number)):
            return replace(known[base], name=name, halves=replace(halves, seed=int(number)))
        near = difflib.get_close_matches(name, [*known, FOLDER], n=1)
        hint = f"did you mean DATASET={near[0]}? " if near else ""
        raise UserError(f"unknown dataset '{name}'", f"{hint}known: {', '.join(sorted([*known, FOLDER]))}")
    return known[name]


def count_differences(dataset: Dataset) -> list[str]:
    """How a dataset on disk differs from its published counts, one sentence each; empty when it does not."""
    spec = dataset.spec
    if spec is None or not spec.counts:
        return []
    found = {
        split.name.lower(): [
            sum(record.split == split for record in dataset.records),
            len({record.person_id for record in dataset.records if record.split == split and record.person_id > 0}),
        ]
        for split in Split
    }
    found["distractors"] = sum(record.person_id == 0 for record in dataset.records)  # type: ignore[assignment]
    found["junk"] = sum(record.person_id == -1 for record in dataset.records)  # type: ignore[assignment]
    return [
        f"{spec.title} has {expected} {name} (images, identities), this copy has {found[name]}"
        if isinstance(expected, list)
        else f"{spec.title} has {expected} {name} images, this copy has {found[name]}"
        for name, expected in spec.counts.items()
        if found[name] != expected
    ]


def locate(spec: DatasetSpec, data_root: Path) -> Path | None:
    """The dataset's folder: the first candidate that holds one of the layout's folders or lists, else None."""
    for candidate in _candidates(spec, data_root):
        if any((candidate / entry).exists() for entry in spec.entries):
            return candidate
    return None


def _candidates(spec: DatasetSpec, data_root: Path) -> list[Path]:
    return [*(data_root / folder for folder in spec.folders), data_root]


def _absent(spec: DatasetSpec, data_root: Path) -> tuple[str, str]:
    looked = "\n".join(f"  {candidate}" for candidate in _candidates(spec, data_root))
    problem = (
        f"{spec.title} is not there. Looked in:\n{looked}\n"
        f"Expected to find {', '.join(spec.entries)} with files like {spec.example}."
    )
    return problem, f"{spec.obtain}\nIf you have it elsewhere, set DATA_ROOT to the folder that contains it."
