"""The commands that write, each as it is attacked: what is there before, what is typed, what comes out."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from faults.attack import call, command

from densereid.data_catalog.files.writer_lock import LOCKS
from densereid.data_catalog.store.store import INPUTS, PROVENANCE

_OF_THEIR_TIME = (PROVENANCE, INPUTS, "tensorboard")
"""Files and folders that tell when, how and where something was made."""

RENDERED = [
    "--train-identities",
    5,
    "--test-identities",
    3,
    "--images-per-identity",
    5,
    "--distractors",
    1,
    "--junk",
    1,
]
SMALL = ["--dataset", "synthetic", "--size", "16x8", "--dsap-size", 8, "--device", "cpu"]
SETTINGS = {
    "height": 32, "width": 32, "epochs": 3, "evaluate_every": 1, "log_every": 1, "model.dsap_size": 8,
    "model.classifier_hidden": 16, "sampling.identities": 2, "sampling.images": 2, "augmentation.pad": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What was made undisturbed and is only read: datasets, stores of both formats, a run and its export."""

    root: Path

    def data(self, name: str = "data") -> Path:
        return self.root / name

    def store(self, suffix: str = "zarr", name: str = "stores") -> Path:
        return self.root / name / f"synthetic-16x8-dsap8.{suffix}"

    @property
    def run(self) -> Path:
        return self.root / "runs" / "synthetic-dsa-reid-small-seed0"


@dataclass(frozen=True)
class Scenario:
    """A command that writes below one folder."""

    name: str
    words: Callable[[Given, Path], list[Any]]
    prepare: Callable[[Given, Path], object] = lambda given, folder: None
    keeps: tuple[str, ...] = ()
    """Patterns of files that are finished once they are there: they are not written again."""
    tidy: bool = True
    """Whether the next run removes what a killed one left; nobody locks the place of an export."""

    def typed(self, given: Given, folder: Path) -> list[str]:
        return [str(word) for word in self.words(given, folder)]


def made(root: Path) -> Given:
    """Make all that is given below ``root``."""
    given = Given(root)
    smaller = root / "smaller"
    steps: list[list[Any]] = [
        ["synthesize", "--data-root", given.data(), *RENDERED],
        *(_preprocess(given.data(), root / "stores", suffix) for suffix in ("zarr", "hdf5")),
        train_words(given.store(), root / "runs"),
        ["export", given.run],
    ]
    for words in steps:
        done(words, root / "said")
    shutil.copytree(given.data(), smaller)
    image = sorted((smaller / "synthetic" / "bounding_box_test").iterdir())[-1]
    image.unlink()
    for suffix in ("zarr", "hdf5"):
        done(_preprocess(smaller, root / "stores-before", suffix), root / "said")
    return given


def made_again(given: Given) -> Path:
    """A folder of stores of the same form as the given ones, of other pedestrians."""
    data, stores = given.root / "data-other", given.root / "stores-other"
    if not stores.exists():
        done(["synthesize", "--data-root", data, *RENDERED, "--seed", 1], given.root / "said")
        for suffix in ("zarr", "hdf5"):
            done(_preprocess(data, stores, suffix), given.root / "said")
    return stores


def done(words: list[Any], said: Path) -> None:
    ended = call(command, [str(word) for word in words], said=said)
    assert ended.code == 0, f"{words}: {ended.how}\n{ended.said}"


def _preprocess(data: Path, stores: Path, suffix: str) -> list[Any]:
    own = ["--data-root", data, "--store-root", stores, "--store", suffix]
    return ["preprocess", *SMALL, "--estimator", "iuv", "--shard-rows", 32, *own]


def train_words(store: Path, runs: Path) -> list[Any]:
    settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    return [
        "train",
        "--store-path",
        store,
        "--run-root",
        runs,
        "--model",
        "dsa-reid-small",
        "--device",
        "cpu",
        *settings,
    ]


def _preprocessing(suffix: str) -> Scenario:
    return Scenario(
        f"preprocess-{suffix}",
        lambda given, folder: _preprocess(given.data(), folder, suffix),
        keeps=("[!.]*/shards/[0-9]*.json",),
    )


def _update(suffix: str) -> Scenario:
    def prepare(given: Given, folder: Path) -> None:
        shutil.copytree(given.store(suffix, "stores-before"), folder / given.store(suffix).name)

    return Scenario(f"update-{suffix}", lambda given, folder: _preprocess(given.data(), folder, suffix), prepare)


def _derive(suffix: str) -> Scenario:
    def words(given: Given, folder: Path) -> list[Any]:
        own = ["--store-root", folder, "--store", suffix, "--source", given.store(suffix), "--data-root", given.data()]
        return ["derive", *SMALL, "--dsap-size", 16, *own]

    return Scenario(f"derive-{suffix}", words, keeps=("[!.]*/shards/[0-9]*.json",))


def _convert(source: str, target: str) -> Scenario:
    def words(given: Given, folder: Path) -> list[Any]:
        return ["convert", given.store(source), folder / f"copy.{target}"]

    return Scenario(f"convert-to-{target}", words, keeps=("[!.]*/shards/[0-9]*.json",))


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        _preprocessing("zarr"), _preprocessing("hdf5"), _update("zarr"), _update("hdf5"), _derive("zarr"),
        _derive("hdf5"), _convert("zarr", "hdf5"), _convert("hdf5", "zarr"),
        Scenario("train", lambda given, folder: train_words(given.store(), folder)),
        Scenario("export", lambda given, folder: ["export", given.run, "--to", folder / "network.pt"], tidy=False),
        Scenario(
            "export-masks",
            lambda given, folder: ["export-masks", given.store(), "--layout", "npy", "--to", folder / "masks"],
            keeps=("masks/*/[!.]*.npy",), tidy=False,
        ),
        Scenario("report", lambda given, folder: ["report", given.run, "--to", folder / "page.html"], tidy=False),
        Scenario("synthesize", lambda given, folder: ["synthesize", "--data-root", folder, *RENDERED]),
    )
}  # fmt: skip


def outcome(folder: Path) -> dict[str, str]:
    """A digest of every file of a result but for those of their time; checkpoints by what they hold."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            parts = file.relative_to(folder).parts
            if not set(parts) & set(_OF_THEIR_TIME) and not any(part.startswith(".") for part in parts):
                found["/".join(parts)] = _digest(file)
    return found


def _digest(file: Path) -> str:
    if file.suffix == ".pt" and file.stem in ("last", "best"):
        content = torch.load(file, weights_only=True)
        content = {name: value for name, value in content.items() if name not in ("store", "checksums")}
        return hashlib.sha256(repr(plain(content)).encode()).hexdigest()
    if file.name == "metrics.csv":
        rows = list(csv.reader(file.read_text().splitlines()))
        return repr([row for row in rows if row[2] not in ("images_per_second", "data_wait")])
    if file.name == "config.yaml":
        return repr(yaml.safe_load(file.read_text()))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def plain(value: Any) -> Any:
    """Nested values with tensors as bytes, which can be compared."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()]
    if isinstance(value, dict):
        return [(plain(key), plain(each)) for key, each in value.items()]
    return [plain(each) for each in value] if isinstance(value, list | tuple) else repr(value)


def finished(scenario: Scenario, folder: Path) -> dict[str, tuple[int, int]]:
    """What is finished, and when it was written."""
    files = [file for pattern in scenario.keeps for file in folder.glob(pattern) if not file.name.startswith(".")]
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def epochs(folder: Path) -> int:
    """Finished epochs of a training's ``last.pt``, which must be whole."""
    files = list(folder.glob("*/last.pt"))
    return int(torch.load(files[0], weights_only=True)["epoch"]) if files else 0


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders, which no finished command leaves, but for those of the locks."""
    hidden = [file for file in folder.rglob(".*") if file.name != LOCKS]
    return [str(file) for file in hidden if file.parent.name != LOCKS or file.suffix == ".partial"]
