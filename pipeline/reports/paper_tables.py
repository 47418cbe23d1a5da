"""The papers' ablation tables as data: which network each row trains, and what the paper prints for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from densereid.data_catalog.errors import UserError

_FILE = Path(__file__).parent / "tables.yaml"

_Numbers = tuple[float | None, ...]


@dataclass(frozen=True)
class Row:
    """One row: the experiment that is trained, with its changes, and the feature that is ranked."""

    label: str
    config: str
    feature: str = "f"
    settings: Mapping[str, object] = field(default_factory=dict)
    recipe: bool = True
    """Whether the table's recipe goes for this row."""
    attributes: bool = False
    """Whether the row needs person attributes."""
    initial: bool = False
    """Whether the row starts from another run, which the command names as ``model.initial``."""
    rerank: bool = False
    """Whether the row is re-ranked (k-reciprocal)."""
    by_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The fields of this row that are others there, where the paper's number is of another network."""
    paper: Mapping[str, _Numbers] = field(default_factory=dict)
    """Published numbers by dataset, in the order of the table's columns, percent; None where a cell is empty."""

    @property
    def run(self) -> str:
        """Names the run: rows of the same name share a training."""
        changes = (f"{key.rpartition('.')[2]}={value}" for key, value in self.settings.items())
        return "-".join((self.config, *changes, *(["initial"] if self.initial else [])))

    def of_dataset(self, dataset: str) -> Row:
        """The row as the paper has it on ``dataset``."""
        return replace(self, **self.by_dataset.get(dataset, {}))


@dataclass(frozen=True)
class Table:
    """One table or figure of a paper."""

    name: str
    title: str
    base: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    recipe: Mapping[str, object] = field(default_factory=dict)
    note: str = ""

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets for which the paper prints numbers."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.paper))

    def numbers(self, row: Row, dataset: str) -> _Numbers:
        """What the paper prints for ``row`` on ``dataset``, one number or None a column; never another dataset's."""
        return row.paper.get(dataset, (None,) * len(self.columns))


@cache
def known_tables() -> dict[str, Table]:
    """The tables of ``tables.yaml``, by name."""
    entries: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {name: _table(name, entry) for name, entry in entries.items()}


def find_table(name: str) -> Table:
    """The table of that name. Raises UserError with all names where there is none."""
    if name not in known_tables():
        near = get_close_matches(name, known_tables(), n=1)
        hint = f"did you mean TABLE={near[0]}? " if near else ""
        raise UserError(f"unknown table '{name}'", f"{hint}known: {', '.join(known_tables())}")
    return known_tables()[name]


def _table(name: str, entry: Mapping[str, Any]) -> Table:
    rows = tuple(_row(row) for row in entry["rows"])
    return Table(name, **{**entry, "columns": tuple(entry["columns"]), "rows": rows})


def _row(entry: Mapping[str, Any]) -> Row:
    paper = {dataset: tuple(numbers) for dataset, numbers in entry.get("paper", {}).items()}
    return Row(**{**entry, "paper": paper})
