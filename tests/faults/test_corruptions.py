"""Damage to every kind of file: whatever reads it says so, or reads what was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.attack import Tally, call, command
from faults.readers import NOTICED, Found, read_checkpoint, read_export, read_pin, read_stamp, read_store
from faults.scenarios import Given, made_again, outcome, train_words

from densereid.data_catalog.files.atomic import write_json
from densereid.data_catalog.synthetic.dataset import COMPLETE_NAME

Read = Callable[[Path, Path], Found]
Generator = np.random.Generator

DAMAGES = ("flip", "flip", "flip", "zeros", "cut", "empty", "longer", "lost", "swapped", "foreign")

FILES: dict[str, tuple[Read, int, int]] = {
    "zarr": (read_store, 320, 3), "hdf5": (read_store, 320, 3), "last.pt": (read_checkpoint, 130, 2),
    "best.pt": (read_checkpoint, 40, 0), "export": (read_export, 100, 2), "stamp": (read_stamp, 50, 2),
    "pin": (read_pin, 50, 2),
}  # fmt: skip
"""Kinds of files: who reads them, cases of a whole run, of the sample."""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", list(FILES))
def test_damage_is_noticed_or_changes_nothing(
    kind: str, given: Given, place: Path, tally: Tally, seeded: Generator, amount: Callable[[int, int], int]
) -> None:
    read, *cases = FILES[kind]
    target = _target(kind, given, place)
    if not amount(*cases):
        pytest.skip("an attack of make test-faults, not of the sample in make test")
    other = _other(kind, given, target)
    sound = call(read, target, place / "scratch", said=place / "said").value
    assert NOTICED not in sound.values() or kind == "pin", sound
    for number in range(amount(*cases)):
        path = _copied(target, place / str(number))
        damage, file = _damaged(path, other, seeded)
        ended = call(read, path, place / str(number), said=place / "said")
        what = f"{kind}, {file.name}: {damage}"
        if not tally.ended(ended, what):
            _judge(ended.value, sound, tally, what, covered="/c/" in str(file) or "shard-" in file.name, damage=damage)
        shutil.rmtree(place / str(number))


def _target(kind: str, given: Given, place: Path) -> Path:
    if kind in ("zarr", "hdf5"):
        return given.store(kind)
    if kind == "export":
        return next(given.run.glob("*.export.pt"))
    if kind == "stamp":
        return given.data() / "synthetic" / COMPLETE_NAME
    if kind == "pin":
        weights = place / "sound" / "weights.pkl"
        weights.parent.mkdir()
        write_json(weights.parent / "cache" / "pins" / "x.json", {"path": str(weights), "sha256": "a" * 64})
        return weights.parent / "cache" / "pins" / "x.json"
    return given.run / kind


def _other(kind: str, given: Given, target: Path) -> Path | None:
    """What could be put in the target's place by mistake: a file of the same kind."""
    if kind in ("zarr", "hdf5"):
        return made_again(given) / target.name
    return None  # another checkpoint is whole


def _copied(target: Path, folder: Path) -> Path:
    folder.mkdir()
    if target.is_dir():
        return Path(shutil.copytree(target, folder / target.name))
    return Path(shutil.copy(target, folder / target.name))


def _damaged(path: Path, other: Path | None, seeded: Generator) -> tuple[str, Path]:
    """Damage a file of the store at ``path``, or the file there; what was done, and to which."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    file = files[seeded.integers(len(files))]
    if path.is_dir() and seeded.random() < 0.5:  # half of the cases to the few files that say how others are read
        few = [each for each in files if each.suffix in (".json", ".csv", ".h5")]
        file = few[seeded.integers(len(few))]
    damage = DAMAGES[seeded.integers(len(DAMAGES))]
    if damage == "swapped":
        siblings = [each for each in files if each.parent.parent == file.parent.parent and each != file]
        siblings = siblings or [each for each in files if each.suffix == file.suffix and each != file]
        damage = _swap(file, siblings[seeded.integers(len(siblings))]) if siblings else "flip"
    if damage == "foreign":
        source = other / file.relative_to(path) if other is not None and path.is_dir() else other
        if source is not None and source.is_file():
            shutil.copy(source, file)
        else:
            damage = "flip"
    if damage not in ("foreign", "swapped"):
        _change(file, damage, seeded)
    return damage, file


def _swap(file: Path, sibling: Path) -> str:
    content = file.read_bytes()
    file.write_bytes(sibling.read_bytes())
    sibling.write_bytes(content)
    return "swapped"


def _change(file: Path, damage: str, seeded: Generator) -> None:
    content = bytearray(file.read_bytes())
    at = int(seeded.integers(max(1, len(content))))
    if damage == "lost":
        file.unlink()
        return
    if damage == "flip" and content:
        content[at] ^= 1 << int(seeded.integers(8))
    elif damage == "zeros":
        stop = min(len(content), at + int(seeded.integers(1, 512)))
        content[at:stop] = bytes(stop - at)
    elif damage == "cut":
        del content[at:]
    elif damage == "empty":
        content.clear()
    elif damage == "longer":
        content += seeded.bytes(64)
    file.write_bytes(content)


def _judge(found: Found, sound: Found, tally: Tally, what: str, *, covered: bool, damage: str) -> None:
    """Count a case: what differs must be an error, and verify must not call it whole.

    Plain zarr, dask and h5py know the checksums of chunks alone: not which files should be there, nor of which store.
    A whole file of another place is told by verify and convert; of notes beside the arrays, by nobody.
    """
    by_checksum = covered and damage in ("flip", "zeros", "cut")
    moved = damage in ("swapped", "foreign") and found.get("verify") == NOTICED == found.get("converted")
    different = [
        name
        for name, value in found.items()
        if value not in (sound.get(name), NOTICED)
        and (by_checksum or not name.startswith(("zarr ", "h5py ", "dask ")))
        and not (moved and name != "verify")
        and not (damage == "foreign" and name in ("provenance", "inputs"))
    ]
    if different:
        return tally.count("silent", f"{what}: {', '.join(different)} silently different")
    noticed = any(value == NOTICED and sound.get(name) != NOTICED for name, value in found.items())
    return tally.count("noticed" if noticed else "harmless")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("reading", ["verify", "convert", "train", "evaluate", "texts of a run"])
def test_commands_say_what_is_damaged(
    reading: str, given: Given, place: Path, tally: Tally, seeded: Generator, amount: Callable[[int, int], int]
) -> None:
    """In a sentence and with code 1; where they do not, what they make is what they make of whole files."""
    cases = amount(30, 1 if reading in ("verify", "evaluate") else 0)
    expected: dict[bool, dict[str, str]] = {}
    for number in range(-2, cases):
        folder = place / str(number)
        copy, words = _prepared(reading, given, folder, "hdf5" if number % 2 else "zarr")
        damage, file = _damaged(copy, None, seeded) if number >= 0 else ("", copy)
        ended = call(command, words, said=place / "said")
        made = outcome(folder / "made") if ended.code == 0 else {}
        result = {name: value for name, value in made.items() if not name.endswith((".csv", ".yaml"))}
        if reading == "evaluate":  # the damaged file itself, and where its digest stands
            result = {
                name: value for name, value in result.items() if not name.endswith(("/last.pt", ".zarr/zarr.json"))
            }
        result["said"] = "".join(
            line for line in ended.said.splitlines(keepends=True) if "%" in line and "images/s" not in line
        )
        if number < 0:
            assert ended.code == 0, ended.said
            expected[bool(number % 2)] = result
        elif not tally.ended(ended, what := f"{reading}, {file.name}: {damage}"):
            _judge_command(ended.code, result == expected[bool(number % 2)], tally, f"{what}\n{ended.said}")
        shutil.rmtree(folder)


def _judge_command(code: int, is_equal: bool, tally: Tally, what: str) -> None:
    if code == 1:
        tally.count("noticed")
    else:
        tally.count("harmless" if code == 0 and is_equal else "silent", what)


def _prepared(reading: str, given: Given, folder: Path, suffix: str) -> tuple[Path, list[str]]:
    """What is to be damaged, and the command that reads it."""
    made = folder / "made"
    made.mkdir(parents=True)
    if reading in ("evaluate", "texts of a run"):
        run = Path(shutil.copytree(given.run, made / given.run.name, ignore=shutil.ignore_patterns("tensorboard")))
        if reading == "evaluate":
            return run / "last.pt", ["evaluate", str(run), "--device", "cpu"]
        texts = Path(shutil.copytree(run, folder / "texts", ignore=shutil.ignore_patterns("*.pt")))
        return texts, [str(word) for word in train_words(given.store(), made)]
    store = Path(shutil.copytree(given.store(suffix), folder / given.store(suffix).name))
    words = {
        "verify": ["verify", store],
        "convert": ["convert", store, made / f"copy.{'hdf5' if suffix == 'zarr' else 'zarr'}"],
        "train": [*train_words(store, made), "--epochs", 1],
    }
    return store, [str(word) for word in words[reading]]
