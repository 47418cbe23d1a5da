"""The descriptions of known datasets in ``catalog.yaml``, and in a user's own file of the same form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from densereid.data_catalog.errors import UserError
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


@dataclass(frozen=True)
class Halves:
    """A random half of the identities for training, drawn with ``seed``; the images lie in ``folder``."""

    folder: str
    train_identities: int
    seed: int = 0


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
        """(person_id, camera_id) of an image file's name, which follows the grammar."""
        match = self.file_name.fullmatch(name)
        assert match is not None, name
        camera = int(match["camera"])
        return int(match["person"]), self.cameras.get(camera, camera)


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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"catalog {path} cannot be read: {error}", f"{_OWN.name} of the project shows the form"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"catalog {path} holds no datasets", f"{_OWN.name} of the project shows the form")
    return content


def _parse(path: Path, name: str, entry: Any) -> DatasetSpec:
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
            f"catalog {path}, dataset {name}: {type(error).__name__}: {error}",
            f"{_OWN.name} of the project shows the form of every key",
        ) from error


def _build(name: str, entry: Mapping[str, Any]) -> DatasetSpec:
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
