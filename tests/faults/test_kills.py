"""SIGKILL at every kind of moment at which something is written; the same command ends what was begun."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.attack import Ended, Tally, call, command
from faults.points import Fault
from faults.scenarios import SCENARIOS, Given, Scenario, epochs, finished, leftovers, outcome

KILLS = 30
"""Of each command; half of them kill a run that continues a killed one."""

_SAMPLED = {"preprocess-zarr": 2, "update-hdf5": 2, "train": 1}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_a_killed_command_continues_to_the_same_result(
    name: str, given: Given, place: Path, tally: Tally, seeded: np.random.Generator, amount: Callable[[int, int], int]
) -> None:
    kills, scenario = amount(KILLS, _SAMPLED.get(name, 0)), SCENARIOS[name]
    if not kills:
        pytest.skip("an attack of make test-faults, not of the sample in make test")
    whole = place / "whole"
    points = _run(scenario, given, whole, at=0).value[1]
    expected = outcome(whole)
    for number, first in enumerate(_moments(points, kills, seeded)):
        if tally.cases < kills:
            again = seeded.integers(1, max(2, first // 2), number % 3)
            _attack(scenario, given, place / str(number), [first, *map(int, again)], expected, tally)
    assert tally.cases >= kills - 1 or tally.wrong


def _moments(points: int, number: int, seeded: np.random.Generator) -> list[int]:
    """Calls of a clean run, spread over all of it, in any order."""
    bounds = np.linspace(1, points + 1, number + 1).astype(int)
    moments = [int(seeded.integers(low, max(low + 1, high))) for low, high in itertools.pairwise(bounds)]
    return [moments[index] for index in seeded.permutation(number)]


def _run(scenario: Scenario, given: Given, folder: Path, *, at: int) -> Ended:
    if not folder.exists():
        folder.mkdir(parents=True)
        scenario.prepare(given, folder)
    said = folder.with_name(f"{folder.name}-said")
    return call(command, scenario.typed(given, folder), said=said, fault=Fault(str(folder), at))


def _attack(
    scenario: Scenario, given: Given, folder: Path, kills: list[int], expected: dict[str, str], tally: Tally
) -> None:
    """Kill the command and those that continue it, then let it end."""
    what, killed, kept, done = f"{scenario.name} killed at {kills}", 0, {}, 0
    for at in [*kills, 0]:
        ended = _run(scenario, given, folder, at=int(at))
        if tally.ended(ended, what):
            return
        now = finished(scenario, folder)
        lost = [file for file, written in kept.items() if now.get(file) != written]
        if lost or epochs(folder) < done:
            tally.count("silent", f"{what}: {lost or 'epochs'} finished and lost")
            return
        kept, done, killed = now, epochs(folder), killed + (ended.how == "killed")
        if ended.how == "returned":
            break
    found, left = outcome(folder), leftovers(folder) if scenario.tidy else []
    other = [file for file in expected | found if expected.get(file) != found.get(file)]
    if ended.code != 0 or other or left:
        tally.count("silent", f"{what}: {ended.how} {ended.code} {other} {left}\n{ended.said}")
    else:
        tally.count("harmless", cases=killed)
