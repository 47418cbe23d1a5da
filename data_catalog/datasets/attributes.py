"""Person attributes of Market-1501, DukeMTMC-reID and the synthetic pedestrians, as binary values in four body groups.

The files are those of Lin et al. (Improving person re-identification by attribute and identity learning): a struct
with ``train`` and ``test``, each a vector per attribute and ``image_index``, the persons as zero-padded text. The two
order their fields differently, so everything goes by name. Groups: MagnifierNet v1, section 3.5; which attribute
belongs to which is not in the paper, and the official code's split of its own list is off by two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.datasets.records import LARGEST_ID
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.matlab.variables import read_matlab
from densereid.data_catalog.plural import plural

GENERAL, HEAD, UPPER, LOWER = GROUPS = ("general", "head", "upper", "lower")


@dataclass(frozen=True)
class AttributeTable:
    """What is known of each person, as A binary attributes sorted by group."""

    names: tuple[str, ...]
    """Such as "hat", "upper red", "age adult"; what 1 means."""
    groups: tuple[str, ...]
    """Of each attribute: general, head, upper or lower."""
    values: Mapping[int, np.ndarray]
    """person_id -> uint8 (A,) of 0 and 1. No colour of a garment may be 1, or several."""


@dataclass(frozen=True)
class _Field:
    """An attribute of a file: its group, and what its values 2 (of 1 and 2), or 1, 2, ... one by one, mean."""

    group: str
    meanings: tuple[str, ...]


_BAGS = {"backpack": _Field(UPPER, ("backpack",)), "bag": _Field(UPPER, ("bag",))}
_LOOKS = {
    "hair": _Field(HEAD, ("long hair",)),
    "hat": _Field(HEAD, ("hat",)),
    **_BAGS,
    "up": _Field(UPPER, ("short sleeves",)),
    "handbag": _Field(LOWER, ("handbag",)),
    "clothes": _Field(LOWER, ("trousers",)),
    "down": _Field(LOWER, ("short lower clothing",)),
}

_FIELDS: dict[str, dict[str, _Field]] = {
    "market_attribute": {
        "age": _Field(GENERAL, ("age young", "age teenager", "age adult", "age old")),
        "gender": _Field(GENERAL, ("female",)),
        **_LOOKS,
    },
    "duke_attribute": {
        "gender": _Field(GENERAL, ("female",)),
        "hat": _Field(HEAD, ("hat",)),
        **_BAGS,
        "handbag": _Field(UPPER, ("handbag",)),
        "top": _Field(UPPER, ("long top",)),
        "boots": _Field(LOWER, ("boots",)),
        "shoes": _Field(LOWER, ("light shoes",)),
    },
    "synthetic_attribute": {
        "stout": _Field(GENERAL, ("stout",)),
        **_LOOKS,
        "shoes": _Field(LOWER, ("light shoes",)),
    },
}
"""The attributes of each file but the colours, by the variable that the file holds."""

_COLOURS = {"up": (UPPER, "upper"), "down": (LOWER, "lower")}
"""Fields like ``upred`` and ``downblack``: prefix, group and word."""

_CORRECTIONS = {("duke_attribute", "top", 370): 1, ("duke_attribute", "top", 679): 2}
"""Duke's file has 0 here, which means nothing; these are the values its own evaluation code puts there."""

_DUKE = "duke_attribute", "https://github.com/vana77/DukeMTMC-attribute"
_SOURCES: dict[str, tuple[str, str]] = {
    "market": ("market_attribute", "https://github.com/vana77/Market-1501_Attribute"),
    "dukemtmc": _DUKE,
    "occluded-duke": _DUKE,
    "synthetic": (
        "synthetic_attribute", "`make synthesize`, which writes it beside the images (older copies: render them again)"
    ),
}  # fmt: skip
"""The datasets that have attributes: the file's variable, which also names the file, and where it is obtained."""


def has_attributes(dataset: str) -> bool:
    """Whether attributes were published for ``dataset``, a name of the catalog."""
    return dataset in _SOURCES


def find_attributes(dataset: str, folders: Sequence[Path]) -> Path:
    """The attribute file of ``dataset`` in the first of ``folders`` that has it.

    Raises UserError for a dataset without attributes, with those that have them, and for a file that is not there,
    with where it is obtained.
    """
    if not has_attributes(dataset):
        raise UserError(
            f"there are no person attributes for '{dataset}'",
            "train without the attribute facilitator, or on one of:\n"
            + "\n".join(f"  {name}: {stem}.mat from {source}" for name, (stem, source) in _SOURCES.items()),
        )
    stem, source = _SOURCES[dataset]
    for folder in folders:
        if (folder / f"{stem}.mat").is_file():
            return folder / f"{stem}.mat"
    looked = ", ".join(str(folder) for folder in folders)
    raise UserError(f"{stem}.mat, the attributes of '{dataset}', is not in {looked}", f"put it there; it is {source}")


def read_person_attributes(path: Path) -> AttributeTable:
    """The attributes of the persons of both splits. Raises UserError that names the file, field, person and value."""
    variables = read_matlab(path)
    known = [name for name in variables if name in _FIELDS]
    if len(known) != 1:
        raise UserError(
            f"{path} holds {', '.join(variables) or 'nothing'}; expected one of {', '.join(_FIELDS)}",
            "give the attribute file as it was published",
        )
    variable = known[0]
    splits = variables[variable]
    fields = _fields_of(path, variable, splits)
    values: dict[int, np.ndarray] = {}
    for split in ("train", "test"):
        values.update(_read_split(path, variable, split, splits[split], fields))
    names = tuple(name for field in fields.values() for name in field.meanings)
    groups = tuple(field.group for field in fields.values() for _ in field.meanings)
    return AttributeTable(names, groups, values)


def attribute_matrix(table: AttributeTable, person_ids: np.ndarray) -> np.ndarray:
    """float32 (len(person_ids), A) of 0 and 1, in the given order. Raises UserError naming persons without any."""
    missing = sorted({int(person) for person in person_ids} - set(table.values))
    if missing:
        raise UserError(
            f"{plural(len(missing), 'person')} without attributes: {', '.join(map(str, missing[:5]))}"
            f"{', ...' if len(missing) > 5 else ''}",
            "the attribute file belongs to another dataset, or to another copy of it",
        )
    rows = [table.values[int(person)] for person in person_ids]
    return np.array(rows, np.float32).reshape(len(rows), len(table.names))


def _fields_of(path: Path, variable: str, splits: Any) -> dict[str, _Field]:
    """The file's fields, sorted by group, then as :data:`_FIELDS` has them, colours last and by name."""
    if not isinstance(splits, dict) or {"train", "test"} - set(splits):
        raise UserError(f"{path}: {variable} has no train and test", "give the attribute file as it was published")
    known = dict(_FIELDS[variable])
    for name in sorted(splits["train"]):
        prefix = next((prefix for prefix in _COLOURS if name.startswith(prefix) and name != prefix), None)
        if prefix is not None:
            group, word = _COLOURS[prefix]
            known[name] = _Field(group, (f"{word} {name.removeprefix(prefix)}",))
    for split in ("train", "test"):
        different = set(splits[split]) ^ {*known, "image_index"}
        if different:
            raise UserError(
                f"{path}: {variable}.{split} lacks, or has beyond what is known: {', '.join(sorted(different))}",
                "give the attribute file as it was published",
            )
    return dict(sorted(known.items(), key=lambda entry: GROUPS.index(entry[1].group)))


def _read_split(
    path: Path, variable: str, split: str, vectors: Mapping[str, Any], fields: Mapping[str, _Field]
) -> dict[int, np.ndarray]:
    persons = [_person(path, split, str(person)) for person in np.atleast_1d(vectors["image_index"])]
    columns = []
    for name, field in fields.items():
        raw = _whole_numbers(path, f"{split}.{name}", vectors[name])
        if raw.shape != (len(persons),):
            raise UserError(f"{path}: {split}.{name} has {raw.shape} values for {len(persons)} persons", "get it again")
        for index in np.flatnonzero(raw == 0):
            raw[index] = _CORRECTIONS.get((variable, name, persons[index]), 0)
        highest = max(2, len(field.meanings))
        wrong = np.flatnonzero((raw < 1) | (raw > highest))
        if len(wrong):
            raise UserError(
                f"{path}: {split}.{name} of person {persons[wrong[0]]} is {raw[wrong[0]]}; expected 1 to {highest}",
                "get the file again, or correct the value in it",
            )
        first = 2 if len(field.meanings) == 1 else 1
        columns += [raw == first + offset for offset in range(len(field.meanings))]
    matrix = np.array(columns, np.uint8).T
    return dict(zip(persons, matrix, strict=True))


def _person(path: Path, split: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text) or int(text) > LARGEST_ID:
        raise UserError(
            f"{path}: {split}.image_index holds {text!r}; expected a person's number, at most {LARGEST_ID}",
            "get the file again",
        )
    return int(text)


def _whole_numbers(path: Path, name: str, values: Any) -> np.ndarray:
    numbers = np.atleast_1d(values)
    if numbers.dtype.kind not in "iuf" or not np.all(np.abs(numbers) < 100):  # NaN is not less, either
        raise UserError(f"{path}: {name} does not hold numbers below 100", "get the file again")
    return numbers.astype(np.int64)
