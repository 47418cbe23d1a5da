"""The same command started twice at once: one writes, the other says who does, and the result is whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.attack import Ended, Tally, command, start
from faults.scenarios import SCENARIOS, Given, leftovers, outcome

STARTS = {
    "preprocess-zarr": (9, 1), "preprocess-hdf5": (9, 0), "update-zarr": (6, 0), "derive-zarr": (6, 0),
    "convert-to-hdf5": (6, 0), "convert-to-zarr": (6, 0), "train": (8, 0), "synthesize": (8, 1),
}  # fmt: skip
"""Double starts of a whole run, and of the sample."""


def _at(moment: float, words: list[str]) -> int:
    time.sleep(max(0.0, moment - time.time()))
    return command(words)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", list(STARTS))
def test_of_two_at_once_one_writes(
    name: str, given: Given, place: Path, tally: Tally, seeded: np.random.Generator, amount: Callable[[int, int], int]
) -> None:
    if not amount(*STARTS[name]):
        pytest.skip("in a whole run alone")
    scenario = SCENARIOS[name]
    expected: dict[str, str] = {}
    for number in range(-1, amount(*STARTS[name])):  # the first is alone
        folder = place / str(number)
        folder.mkdir()
        scenario.prepare(given, folder)
        moment = time.time() + 0.5
        late = 0.15 * seeded.random() * (number % 2)
        calls = [
            start(_at, moment + late * which, scenario.typed(given, folder), said=place / f"said-{number}-{which}")
            for which in range(1 if number < 0 else 2)
        ]
        ended = [call.ended() for call in calls]
        if number < 0:
            assert ended[0].code == 0, ended[0].said
            expected = outcome(folder)
        else:
            _judge(ended, outcome(folder) == expected and not leftovers(folder), tally, f"{name}, {number}")


def _judge(ended: list[Ended], is_whole: bool, tally: Tally, what: str) -> None:
    if any(tally.ended(each, what) for each in ended):
        return
    refused = [each for each in ended if each.code == 1 and "is being written by another run" in each.said]
    codes = sorted(each.code for each in ended)
    said = "\n".join(each.said for each in ended)
    if not is_whole or codes not in ([0, 0], [0, 1]) or len(refused) != codes.count(1):
        tally.count("silent", f"{what}: {codes}, whole: {is_whole}\n{said}")
    else:
        tally.count("noticed" if refused else "harmless")  # harmless: the other had finished when the second came
