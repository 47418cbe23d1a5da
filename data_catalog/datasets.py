"""Datasets: which are known, where their images are, and how their layouts and file names are read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from data_catalog.errors import UserError
from data_catalog.schema import Split

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
IUV_SUFFIXES = ("", "_IUV", "_iuv")
UNKNOWN = -1
"""Identity or camera that the dataset does not tell; as an identity it is junk, which ranks nowhere."""


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset; ``path`` is relative to the dataset's folder, with '/'."""

    path: str
    person_id: int
    camera_id: int
    split: Split

    def sort_key(self) -> tuple[int, int, int, str]:
        """Store order: one identity's images lie together, and the file system has no say."""
        return (self.split, self.person_id, self.camera_id, self.path)


@dataclass(frozen=True)
class DatasetSpec:
    """A known dataset: its folders, file grammar, published counts and where it is had (``catalog.yaml``)."""

    name: str
    title: str
    folders: tuple[str, ...]
    splits: Mapping[Split, str]
    file_name: re.Pattern[str]
    example: str
    obtain: str
    iuv: str | None = None
    counts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A dataset found on disk: its name, folder, sorted records and the folder of its IUV maps, if it has one."""

    name: str
    root: Path
    records: tuple[ImageRecord, ...]
    iuv_root: Path | None

    def rows(self) -> dict[str, np.ndarray]:
        """The arrays of a store that the dataset alone decides, one entry per record."""
        return {
            "person_id": np.array([record.person_id for record in self.records], np.int32),
            "camera_id": np.array([record.camera_id for record in self.records], np.int32),
            "split": np.array([record.split for record in self.records], np.uint8),
            "path": np.array([record.path for record in self.records], object),
        }


@cache
def known_datasets() -> dict[str, DatasetSpec]:
    """The datasets of ``catalog.yaml`` by name."""
    entries = yaml.safe_load((Path(__file__).parent / "catalog.yaml").read_text(encoding="utf-8"))
    return {name: _parse(name, entry) for name, entry in entries.items()}


def _parse(name: str, entry: Mapping[str, object]) -> DatasetSpec:
    known = dict(entry)
    known["folders"] = tuple(known["folders"])  # type: ignore[arg-type]
    known["splits"] = {Split[key.upper()]: value for key, value in known["splits"].items()}  # type: ignore[attr-defined]
    known["file_name"] = re.compile(str(known["file_name"]))
    return DatasetSpec(name=name, **known)  # type: ignore[arg-type]


def find_dataset(name: str, data_root: Path, *, pattern: str | None = None, iuv_root: Path | None = None) -> Dataset:
    """The dataset ``name`` under ``data_root``; for ``folder``, ``data_root`` itself holds the images.

    ``pattern`` is for ``folder``: a regular expression searched in each relative path, with the groups
    ``person``, ``camera`` and ``split`` (all optional). Raises UserError for an unknown name, a dataset
    that is not there, and a layout that is not the dataset's.
    """
    if name == "folder":
        return _read_folder(data_root, pattern=pattern, iuv_root=iuv_root)
    known = known_datasets()
    if name not in known:
        near = difflib.get_close_matches(name, [*known, "folder"], n=1)
        hint = f"did you mean DATASET={near[0]}? " if near else ""
        raise UserError(f"unknown dataset '{name}'", f"{hint}known: {', '.join(sorted([*known, 'folder']))}")
    spec = known[name]
    root = locate(spec, data_root)
    if root is None:
        raise UserError(*_absent(spec, data_root))
    records = tuple(sorted(_read_splits(spec, root), key=ImageRecord.sort_key))
    own_iuv = root / spec.iuv if spec.iuv else None
    return Dataset(name, root, records, iuv_root or own_iuv)


def count_differences(dataset: Dataset) -> list[str]:
    """How a dataset on disk differs from its published counts, one sentence each; empty when it does not."""
    spec = known_datasets().get(dataset.name)
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
    """The dataset's folder: the first candidate that holds one of its split folders, else None."""
    for candidate in _candidates(spec, data_root):
        if any((candidate / folder).is_dir() for folder in spec.splits.values()):
            return candidate
    return None


def _candidates(spec: DatasetSpec, data_root: Path) -> list[Path]:
    return [*(data_root / folder for folder in spec.folders), data_root]


def _absent(spec: DatasetSpec, data_root: Path) -> tuple[str, str]:
    looked = "\n".join(f"  {candidate}" for candidate in _candidates(spec, data_root))
    problem = (
        f"{spec.title} is not there. Looked in:\n{looked}\n"
        f"Expected to find the folders {', '.join(spec.splits.values())} with files like {spec.example}."
    )
    return problem, f"{spec.obtain}\nIf you have it elsewhere, set DATA_ROOT to the folder that contains it."


def _read_splits(spec: DatasetSpec, root: Path) -> Iterable[ImageRecord]:
    missing = [folder for folder in spec.splits.values() if not (root / folder).is_dir()]
    if missing:
        found = sorted(child.name for child in root.iterdir())[:12]
        raise UserError(
            f"{root} does not have {spec.title}'s layout: no folder {', '.join(missing)}; found {', '.join(found)}",
            f"expected the folders {', '.join(spec.splits.values())}; unpack the dataset again, or fix DATA_ROOT",
        )
    for split, folder in spec.splits.items():
        images = [path for path in (root / folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
        strays = sorted(path.name for path in images if not spec.file_name.fullmatch(path.name))
        if strays:
            raise UserError(
                f"{root / folder} holds {len(strays)} images that are not named as {spec.title}'s are, e.g. "
                f"{', '.join(strays[:3])}; expected names like {spec.example}",
                "move them away, or use DATASET=folder with PATTERN=... for a layout of your own",
            )
        if not images:
            raise UserError(f"{root / folder} holds no images", f"expected files like {spec.example}")
        for path in images:
            match = spec.file_name.fullmatch(path.name)
            assert match is not None
            person, camera = int(match["person"]), int(match["camera"])
            yield ImageRecord(f"{folder}/{path.name}", person, camera, split)


def _read_folder(root: Path, *, pattern: str | None, iuv_root: Path | None) -> Dataset:
    if not root.is_dir():
        raise UserError(f"DATA_ROOT={root} is not a folder", "with DATASET=folder it is the folder of the images")
    iuv_root = iuv_root or (root / "iuv" if (root / "iuv").is_dir() else None)
    paths = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not _is_iuv(path, iuv_root)
    )
    if not paths:
        raise UserError(
            f"{root} holds no images", f"expected files ending in {', '.join(IMAGE_SUFFIXES)}, in any subfolder"
        )
    matches = _match_all(paths, pattern) if pattern else [{} for _ in paths]
    person_ids = _numbers([match.get("person") for match in matches])
    camera_ids = _numbers([match.get("camera") for match in matches])
    splits = [_split_named(match.get("split")) for match in matches]
    records = (ImageRecord(*fields) for fields in zip(paths, person_ids, camera_ids, splits, strict=True))
    name = f"folder-{root.resolve().name}"
    return Dataset(name, root, tuple(sorted(records, key=ImageRecord.sort_key)), iuv_root)


def _is_iuv(path: Path, iuv_root: Path | None) -> bool:
    named = any(suffix and path.stem.endswith(suffix) for suffix in IUV_SUFFIXES)
    return named or (iuv_root is not None and path.is_relative_to(iuv_root))


def _match_all(paths: list[str], pattern: str) -> list[dict[str, str | None]]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"PATTERN={pattern!r} is not a regular expression: {error}") from error
    unknown = set(expression.groupindex) - {"person", "camera", "split"}
    if unknown or not expression.groupindex:
        raise UserError(
            f"PATTERN={pattern!r} has the groups {sorted(expression.groupindex) or 'none'}",
            r"name the groups person, camera and split, for example (?P<person>\d+)_c(?P<camera>\d+)",
        )
    matches = {path: expression.search(path) for path in paths}
    misses = [path for path, match in matches.items() if match is None]
    if misses:
        raise UserError(
            f"PATTERN={pattern!r} does not match {len(misses)} of {len(paths)} images, e.g. {', '.join(misses[:3])}",
            "change the pattern, or move those images away",
        )
    return [match.groupdict() for match in matches.values() if match is not None]


def _numbers(texts: list[str | None]) -> list[int]:
    """Integers as they are; other names numbered from 1 in sorted order; None is unknown."""
    names = sorted({text for text in texts if text is not None})
    numeric = all(re.fullmatch(r"-?\d+", name) for name in names)
    number = {name: int(name) if numeric else index for index, name in enumerate(names, start=1)}
    return [UNKNOWN if text is None else number[text] for text in texts]


def _split_named(text: str | None) -> Split:
    folders = {"bounding_box_train": Split.TRAIN, "bounding_box_test": Split.GALLERY, "test": Split.GALLERY}
    if text is None:
        return Split.TRAIN
    if text in folders:
        return folders[text]
    if text.upper() not in Split.__members__:
        raise UserError(
            f"PATTERN found the split '{text}'", f"expected train, query or gallery (or {', '.join(folders)})"
        )
    return Split[text.upper()]


def iuv_path(iuv_root: Path, image: str) -> Path | None:
    """The IUV map of an image: the image's relative path, or its bare name, under ``iuv_root``; None if absent."""
    relative = Path(image)
    for folder in (iuv_root / relative.parent, iuv_root):
        for suffix in IUV_SUFFIXES:
            candidate = folder / f"{relative.stem}{suffix}.png"
            if candidate.is_file():
                return candidate
    return None
