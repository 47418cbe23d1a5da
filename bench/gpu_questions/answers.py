"""What a step has found so far: tables, named figures and notes, on disk after every change.

A step that is stopped has therefore said all that it knew. Two files: JSON for programs, Markdown for readers.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from bench.report import table_lines

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
Content = dict[str, Any]
"""tables: [{title, columns, rows}]; figures: {name: [value, unit]}; facts: {name: text}; notes, failures: [text]."""


class Answer:
    """One step's answer in ``folder``/NAME.json and NAME.md."""

    def __init__(self, folder: Path, step: str) -> None:
        self._folder, self._step = folder, step
        self.content: Content = {"tables": [], "figures": {}, "facts": {}, "notes": [], "failures": []}
        self._save()

    def table(self, title: str, columns: Sequence[str]) -> Callable[..., None]:
        """Begin a table; what is returned adds a row of as many cells."""
        rows: list[list[str]] = []
        self.content["tables"].append({"title": title, "columns": list(columns), "rows": rows})

        def add(*cells: object) -> None:
            assert len(cells) == len(columns), (columns, cells)
            rows.append([str(cell) for cell in cells])
            print(*rows[-1], sep=" | ", flush=True)  # into the log, beside what the libraries say
            self._save()

        return add

    def figure(self, name: str, value: float, unit: str = "") -> None:
        """A number that goals and programs look up by its dotted name; one that is not finite was not measured."""
        if math.isfinite(value):
            self.content["figures"][name] = [value, unit]
            self._save()

    def fact(self, name: str, value: object) -> None:
        """Something about where or with what this was measured."""
        self.content["facts"][name] = str(value)
        self._save()

    def note(self, text: str) -> None:
        """A sentence below the tables."""
        self.content["notes"].append(text)
        print(text, flush=True)
        self._save()

    def attempt(
        self, what: str, action: Callable[_Arguments, _Result], *values: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Result | None:
        """The action's result, or None where it fails: that is written down, and the step goes on."""
        try:
            return action(*values, **named)
        except Exception as error:  # whatever a device, a driver or a library raises
            traceback.print_exc()
            self.failed(what, error)
            return None

    def failed(self, what: str, error: BaseException) -> None:
        """Write a failure down."""
        first = (str(error).strip().splitlines() or [""])[0]
        self.content["failures"].append(f"{what}: {type(error).__name__}: {first}"[:300])
        self._save()

    def _save(self) -> None:
        write_whole(self._folder / f"{self._step}.json", json.dumps(self.content, indent=1) + "\n")
        write_whole(self._folder / f"{self._step}.md", markdown(self.content))


def read_answer(folder: Path, step: str) -> Content:
    """What the step has written, empty where it has not begun."""
    try:
        found: Content = json.loads((folder / f"{step}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"tables": [], "figures": {}, "facts": {}, "notes": [], "failures": []}
    return found


def markdown(content: Mapping[str, Any]) -> str:
    """The answer's tables, notes and failures."""
    lines = []
    for table in content["tables"]:
        lines += [f"#### {table['title']}", "", *table_lines(table["columns"], table["rows"]), ""]
    facts = [f"- {name}: {value}" for name, value in content["facts"].items()]
    notes = [f"- {note}" for note in content["notes"]]
    failures = [f"- failed: {failure}" for failure in content["failures"]]
    for block in (facts, notes, failures):
        lines += [*block, ""] if block else []
    return "\n".join(lines)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader at any moment sees all of the old or all of the new content."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
