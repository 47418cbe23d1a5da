"""The system refuses something: a full or broken disk, a limit. A sentence, and the same command continues."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.attack import Ended, Tally, call, command
from faults.points import Fault
from faults.scenarios import SCENARIOS, Given, Scenario, finished, outcome

REFUSALS = {
    errno.ENOSPC: True, errno.EDQUOT: True, errno.EROFS: True, errno.EIO: False, errno.EACCES: False,
    errno.EMFILE: False, errno.ESTALE: False,
}  # fmt: skip
"""What the system says, and whether it goes on saying so."""

LIMITS = {resource.RLIMIT_FSIZE: (4_000, 8_000, 20_000, 100_000), resource.RLIMIT_NOFILE: (8, 14, 20, 30)}
"""Limits that libraries in C meet, too: bytes of a file, open files."""

_SAMPLED = ("preprocess-hdf5", "export")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_a_refusal_is_told_and_loses_nothing(
    name: str, given: Given, place: Path, tally: Tally, seeded: np.random.Generator, amount: Callable[[int, int], int]
) -> None:
    if not amount(1, name in _SAMPLED):
        pytest.skip("in a whole run alone")
    scenario, whole = SCENARIOS[name], place / "whole"
    points = _run(scenario, given, whole).value[1]
    expected = outcome(whole)
    for number in list(REFUSALS)[: amount(len(REFUSALS), 1)]:
        folder = place / errno.errorcode[number]
        fault = Fault(str(folder), int(seeded.integers(1, points + 1)), number, REFUSALS[number])
        refused = _run(scenario, given, folder, fault=fault)
        _judge(scenario, given, folder, refused, expected, tally, f"{errno.errorcode[number]} at {fault.at}")
    for limit, values in list(LIMITS.items())[: amount(2, 0)]:
        for value in values:
            folder = place / f"{limit}-{value}"
            refused = _run(scenario, given, folder, limits={limit: value})
            _judge(scenario, given, folder, refused, expected, tally, f"limit {limit} of {value}")


def _run(scenario: Scenario, given: Given, folder: Path, **given_to: object) -> Ended:
    if not folder.exists():
        folder.mkdir(parents=True)
        scenario.prepare(given, folder)
    given_to.setdefault("fault", None if "limits" in given_to else Fault(str(folder)))
    said = folder.with_name(f"{folder.name}-said")
    return call(command, scenario.typed(given, folder), said=said, **given_to)


def _judge(
    scenario: Scenario, given: Given, folder: Path, refused: Ended, expected: dict[str, str], tally: Tally, what: str
) -> None:
    """A refused command says so with code 1, and after its end the same command gives what it always gives."""
    what = f"{scenario.name}, {what}"
    if tally.ended(refused, what):
        return None
    kept = finished(scenario, folder)
    if refused.code == 0 and outcome(folder) == expected:
        return tally.count("harmless")
    if refused.code != 1 or "error: " not in refused.said:
        return tally.count("silent", f"{what}: {refused.how} {refused.code}\n{refused.said}")
    again = _run(scenario, given, folder)
    if tally.ended(again, f"{what}, and again"):
        return None
    lost = [file for file, written in kept.items() if finished(scenario, folder).get(file) != written]
    if again.code or lost or outcome(folder) != expected:
        return tally.count("silent", f"{what}: then {again.code}, {lost} lost\n{refused.said}\n{again.said}")
    return tally.count("noticed")
