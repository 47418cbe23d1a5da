"""The descriptions of known datasets in ``catalog.yaml``, and in a user's own file of the same form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.names import EXPECTED, is_name
from densereid.data_catalog.files.refusals import read_text
from densereid.data_catalog.files.sealed_json import load_yaml
from densereid.data_catalog.store.schema import Split

_OWN = Path(__file__).parent / "catalog.yaml"
_REQUIRED = {"title", "folders", "file_name", "example", "obtain"}
_LAYOUTS = {"splits", "lists", "halves"}
_OPTIONAL = {"iuv", "counts", "cameras"}


@dataclass(frozen=True)
class ListFile:
    """A file of "path label" lines: its images lie under ``images``, label 0 is person ``first_person``."""

    file: str
    images: str
    first_person: int

    def __post_init__(self) -> None:
        if not (isinstance(self.file, str) and isinstance(self.images, str) and isinstance(self.first_person, int)):
            raise TypeError(f"a list is {self}; expected file and images as text, first_person as a number")


@dataclass(frozen=True)
class Halves:
    """A random half of the identities for training, drawn with ``seed``; the images lie in ``folder``."""

    folder: str
    train_identities: int
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = (self.train_identities, self.seed)
        if not isinstance(self.folder, str) or not all(isinstance(each, int) and each >= 0 for each in numbers):
            raise TypeError(f"halves is {self}; expected folder as text, train_identities and seed from 0")


@dataclass(frozen=True)
class DatasetSpec:
    """A known dataset: where it may lie, its layout (one of three), file grammar, counts, and how to obtain it."""

    name: str
    title: str
    folders: tuple[str, ...]
    file_name: re.Pattern[str]
    example: str
    obtain: str
    split_folders: Mapping[Split, str] = field(default_factory=dict)
    split_lists: Mapping[Split, tuple[ListFile, ...]] = field(default_factory=dict)
    halves: Halves | None = None
    cameras: Mapping[int, int] = field(default_factory=dict)
    """Camera of each view number, where file names give views."""
    iuv: str | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    """[images, identities] of each split; identities leave out distractors and junk, which are counted apart."""

    @property
    def entries(self) -> tuple[str, ...]:
        """The folders and files that must be in the dataset's folder."""
        if self.halves is not None:
            return (self.halves.folder,)
        lists = [source for sources in self.split_lists.values() for source in sources]
        names = [*self.split_folders.values(), *(each.file for each in lists), *(each.images for each in lists)]
        return tuple(dict.fromkeys(names))

    def parse_name(self, name: str) -> tuple[int, int]:
        """(person_id, camera_id) of an image file's name, which follows the grammar.

        Raises UserError where one of the two groups holds no number.
        """
        match = self.file_name.fullmatch(name)
        assert match is not None, name
        camera = self.number(match, "camera")
        return self.number(match, "person"), self.cameras.get(camera, camera)

    def number(self, match: re.Match[str], group: str) -> int:
        """What a group of the grammar found. Raises UserError where it is no number."""
        text = match[group]
        if text is None or not re.fullmatch(r"-?\d{1,18}", text):
            raise UserError(
                f"{match.string}: the group {group} of {self.title}'s file_name finds {text!r}, which is no number",
                f"let it match digits alone, in the catalog's entry {self.name}: {self.file_name.pattern}",
            )
        return int(text)


@cache
def known_datasets(own: Path | None = None) -> dict[str, DatasetSpec]:
    """The datasets of ``catalog.yaml`` by name, and those of the user's ``own`` file, which win.

    Raises UserError that names the file, the entry and the key where one is wrong.
    """
    entries = {}
    for path in (_OWN, *([own] if own else [])):
        entries.update({name: _parse(path, name, entry) for name, entry in _load(path).items()})
    return entries


def _load(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(read_text(path, "catalog"))
    except ValueError as error:
        raise UserError(
            f"catalog {path} cannot be read: {error}", f"{_OWN.name} of the project shows the form"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"catalog {path} holds no datasets", f"{_OWN.name} of the project shows the form")
    return content


def _parse(path: Path, name: str, entry: Any) -> DatasetSpec:
    if not is_name(name):
        raise UserError(f"catalog {path} names a dataset {name!r}", f"expected {EXPECTED}")
    keys = set(entry) if isinstance(entry, dict) else set()
    missing, unknown = _REQUIRED - keys, keys - _REQUIRED - _LAYOUTS - _OPTIONAL
    if missing or unknown or len(keys & _LAYOUTS) != 1:
        raise UserError(
            f"catalog {path}, dataset {name}: missing {sorted(missing) or 'nothing'}, "
            f"unknown {sorted(unknown) or 'nothing'}, layout {sorted(keys & _LAYOUTS) or 'none'}",
            f"needed: {', '.join(sorted(_REQUIRED))} and one of {', '.join(sorted(_LAYOUTS))}; "
            f"optional: {', '.join(sorted(_OPTIONAL))}",
        )
    try:
        return _build(name, entry)
    except (re.error, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"catalog {path}, dataset {name}: {error if isinstance(error, TypeError) else repr(error)}",
            f"{_OWN.name} of the project shows the form of every key",
        ) from error


def _check_types(entry: Mapping[str, Any]) -> None:
    """Raise TypeError that names the first key whose value is of another kind than :func:`_build` takes."""
    for key in ("title", "file_name", "example", "obtain", "iuv"):
        _expect(isinstance(entry.get(key, ""), str), entry, key, "text")
    folders = entry["folders"]
    _expect(isinstance(folders, list) and _all_are(folders, str), entry, "folders", "a list of folders")
    splits, cameras = entry.get("splits", {}), entry.get("cameras", {})
    _expect(isinstance(splits, dict) and _all_are(splits.values(), str), entry, "splits", "a folder of each split")
    for key in {"splits", "lists"} & set(entry):
        _expect(set(entry[key]) <= {split.name.lower() for split in Split}, entry, key, "train, query and gallery")
    numbers = isinstance(cameras, dict) and _all_are([*cameras, *cameras.values()], int)
    _expect(numbers, entry, "cameras", "a camera's number of each view's number")
    _expect(
        _are_counts(entry.get("counts", {})), entry, "counts", "[images, identities] of splits, or numbers of images"
    )
    groups = {"camera"} if "lists" in entry else {"person", "camera"}
    absent = groups - set(re.compile(entry["file_name"]).groupindex)
    _expect(not absent, entry, "file_name", f"a regular expression with the group {' and '.join(sorted(absent))}")


def _expect(is_so: bool, entry: Mapping[str, Any], key: str, words: str) -> None:
    if not is_so:
        raise TypeError(f"{key} is {entry[key]!r}; expected {words}")


def _all_are(values: Iterable[Any], kind: type) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _are_counts(counts: Any) -> bool:
    kinds = {**{split.name.lower(): list for split in Split}, "distractors": int, "junk": int}
    return isinstance(counts, dict) and all(isinstance(value, kinds.get(key, ())) for key, value in counts.items())


def _build(name: str, entry: Mapping[str, Any]) -> DatasetSpec:
    _check_types(entry)
    lists = {
        Split[key.upper()]: tuple(ListFile(**source) for source in sources)
        for key, sources in entry.get("lists", {}).items()
    }
    return DatasetSpec(
        name=name,
        title=entry["title"],
        folders=tuple(entry["folders"]),
        file_name=re.compile(entry["file_name"]),
        example=entry["example"],
        obtain=entry["obtain"],
        split_folders={Split[key.upper()]: folder for key, folder in entry.get("splits", {}).items()},
        split_lists=lists,
        halves=Halves(**entry["halves"]) if "halves" in entry else None,
        cameras=entry.get("cameras", {}),
        iuv=entry.get("iuv"),
        counts=entry.get("counts", {}),
    )
