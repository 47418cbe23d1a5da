"""docs/papers.md names files, functions and tests that exist, and every table that can be trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from densereid.pipeline.reports.paper_tables import known_tables

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([\w/.-]+\.(?:py|yaml))(?:::(\w+))?`")


def _named() -> list[str]:
    return [match.group(0).strip("`") for match in CODE.finditer(TEXT)]


@pytest.mark.parametrize("entry", sorted(set(_named())))
def test_what_the_table_names_exists(entry: str) -> None:
    file, _, name = entry.partition("::")
    path = ROOT / ("tests" if file.startswith("test_") else "") / file
    assert path.is_file(), path
    if name:
        defined = rf"^(def|class) {name}\b|^{name}\b.*="
        assert re.search(defined, path.read_text(encoding="utf-8"), re.MULTILINE), f"{name} in {file}"


def test_every_row_names_code_and_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|") and "---" not in line]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if cells[-1] != "test":
            assert CODE.search(cells[-1]), row
            assert CODE.search(cells[-2]) or "TABLE=" in cells[-2], row


def test_every_magnifiernet_table_is_in_the_document() -> None:
    named = set(re.findall(r"TABLE=(magnifiernet-[\w-]+)", TEXT))
    assert named == {name for name in known_tables() if name.startswith("magnifiernet")}
