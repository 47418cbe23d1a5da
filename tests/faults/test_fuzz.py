"""A million mutated inputs for everything that parses: a value, or a UserError; nothing else, and in time."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.attack import Tally, call
from faults.fuzzed import TARGETS, fuzz

ROOM = 40 << 30
"""Bytes of address space, of which torch alone takes a dozen."""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", list(TARGETS))
def test_mutated_input_is_taken_or_refused(
    name: str, place: Path, tally: Tally, amount: Callable[[int, int], int]
) -> None:
    cases = amount(TARGETS[name].cases, 40)
    ended = call(fuzz, name, cases, 1, said=place / "said", limits={resource.RLIMIT_AS: ROOM}, seconds=900)
    if tally.ended(ended, name):
        return
    found = ended.value
    tally.count("harmless", cases=found["taken"])
    tally.count("noticed", cases=found["refused"])
    for outcome, told in (("hangs", found["hung"]), ("tracebacks", found["broke"])):
        for what in told:
            tally.count(outcome, f"{name}: {what}")


def test_there_are_a_million() -> None:
    assert sum(target.cases for target in TARGETS.values()) >= 1_000_000
