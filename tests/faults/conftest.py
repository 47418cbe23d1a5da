"""The attacks: a sample in every run of the tests, all of them with ``FAULTS=1`` (`make test-faults`), or a share.

Each test counts the outcomes of its cases; at the end they are printed as a table, and written to the JSON file that
``FAULTS_JSON`` names.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from faults.attack import Tally
from faults.scenarios import Given, made

OUTCOMES = ("cases", "noticed", "harmless", "silent", "hangs", "tracebacks")


@pytest.fixture(scope="session")
def amount() -> Callable[[int, int], int]:
    """How many cases a test has: of a whole run, a share of it, or the sample."""
    share = float(os.environ.get("FAULTS", "0"))
    return lambda all_of_them, sample: max(sample, round(share * all_of_them))


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return made(tmp_path_factory.mktemp("given"))


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> np.random.Generator:
    """The same numbers for the same test, whichever others run."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for the cases of one test, which is removed: there are thousands."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts the test's cases; it fails where one was silent, hung or broke."""
    counted = Tally(request.node.path.stem.removeprefix("test_"))
    yield counted
    figures = {name: value for name, value in asdict(counted).items() if name != "wrong"}
    request.node.user_properties.append(("faults", figures))
    assert not counted.wrong, f"{len(counted.wrong)} of {counted.cases}\n" + "\n\n".join(counted.wrong[:5])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of all tests that counted something."""
    totals: dict[str, dict[str, int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            if getattr(report, "when", "") == "teardown" and "faults" in properties:
                figures = properties["faults"]
                kind = totals.setdefault(figures["kind"], dict.fromkeys(OUTCOMES, 0))
                for name in OUTCOMES:
                    kind[name] += figures[name]
    if not totals:
        return
    terminalreporter.write_sep("=", "attacks")
    terminalreporter.write_line(f"{'':16}" + "".join(f"{name:>12}" for name in OUTCOMES))
    for kind, figures in sorted(totals.items()):
        terminalreporter.write_line(f"{kind:16}" + "".join(f"{figures[name]:>12,}" for name in OUTCOMES))
    if target := os.environ.get("FAULTS_JSON"):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_text(json.dumps(totals, indent=1, sort_keys=True) + "\n", encoding="utf-8")
