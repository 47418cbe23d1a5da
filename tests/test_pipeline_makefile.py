"""make's side: what stands on its command line reaches the command as options, what the shell exports does not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from helpers import ROOT, failed, run

from densereid.pipeline.cli import cli

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make here")

_RECORDS = "#!/bin/sh\nenv | grep ^DENSEREID_ | sort\nprintf 'word %s\\n' \"$@\"\n"
_RUNS = f'#!/bin/sh\nexec {sys.executable} "$@"\n'


def environment(folder: Path, python: str) -> Path:
    """What make takes for a filled environment, with this ``python``."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(python, encoding="utf-8")
    (folder / "bin" / "python").chmod(0o755)
    (folder / ".filled").touch()
    return folder


def make(venv: Path, *words: str, **exported: str) -> subprocess.CompletedProcess[str]:
    """``make words``, as if nothing else had been started by make."""
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}
    kept = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        [str(MAKE), "--no-print-directory", f"VENV={venv}", *words],
        cwd=ROOT, env={**kept, **exported}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return environment(tmp_path / "recording", _RECORDS)


@pytest.fixture
def running(tmp_path: Path) -> Path:
    return environment(tmp_path / "running", _RUNS)


def recorded(result: subprocess.CompletedProcess[str]) -> tuple[dict[str, str], list[str]]:
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    words = [line.removeprefix("word ") for line in lines if line.startswith("word ")]
    return dict(line.split("=", 1) for line in lines if line.startswith("DENSEREID_")), words


def test_variables_of_the_command_line_are_passed_on_as_they_were_typed(recording: Path) -> None:
    values = {
        "DATA_ROOT": "my data/it's here",
        "PATTERN": r"(?P<person>\d+)_c(?P<camera>\d)\.png$",
        "SEEDS": "0,1,2",
        "RUNS": "runs/a runs/b",
        "SIZE": "",
    }
    variables, words = recorded(make(recording, "preprocess", *(f"{name}={value}" for name, value in values.items())))
    assert words == ["-m", "pipeline", "preprocess"]
    assert variables.pop("DENSEREID_MAKE_GOALS") == "preprocess"
    assert set(variables.pop("DENSEREID_MAKE_VARIABLES").split()) == set(values)
    assert variables.pop("DENSEREID_MAKE_OWN") == "VENV"
    assert variables == {f"DENSEREID_{name}": value for name, value in values.items()}


def test_what_the_shell_exports_is_passed_on_only_where_it_is_meant_for_us(recording: Path) -> None:
    exported = {"SIZE": "1x1", "MODE": "x", "SEED": "7", "DENSEREID_STORE": "hdf5"}
    variables, words = recorded(make(recording, "catalog", "DENSEREID_DATASET=market", **exported))
    assert words == ["-m", "pipeline", "catalog", "list"]
    assert variables.items() >= {"DENSEREID_STORE": "hdf5", "DENSEREID_DATASET": "market"}.items()
    assert not {"DENSEREID_SIZE", "DENSEREID_MODE", "DENSEREID_SEED", "DENSEREID_DENSEREID_DATASET"} & set(variables)


def test_every_command_has_a_target_and_the_help_lists_it(recording: Path) -> None:
    listed = set(re.findall(r"^  make ([a-z-]+) ", make(recording, "help").stdout, re.MULTILINE))
    names = set(cli.list_commands(click.Context(cli)))
    assert (
        names | {"check", "extract", "help", "docs", "test", "test-faults", "lint", "audit", "format", "clean-env"}
        == listed
    )
    for name in names:
        _, words = recorded(make(recording, name))
        first = words.index("-m")  # of embedded-weights, after a look whether Anny is there
        assert words[first : first + 3] == ["-m", "pipeline", name]


def test_what_no_command_knows_stops_make(running: Path, tmp_path: Path) -> None:
    for typed, meant in (("DATSET", "DATASET"), ("SHORT-EDGE", "SHORT_EDGE")):
        wrong = make(running, "preprocess", f"{typed}=market", f"DATA_ROOT={tmp_path}", "DRY_RUN=1")
        failed(wrong, f"preprocess has no variable {typed}; did you mean {meant}?", code=2)
    for goal, typed, meant in (
        ("evaluate", "RUN", "RUN_FOLDER"),
        ("train", "epochs", "EPOCHS"),
        ("export", "to", "TO"),
    ):
        wrong = make(running, goal, f"{typed}=runs/x")  # RUN was a variable of the Makefile, and was run as a program
        failed(wrong, f"{goal} has no variable {typed}; did you mean {meant}?", code=2)
    ignored = make(running, "status", f"STORE_ROOT={tmp_path}", "EPOCHS=3", "RERANK=1")
    assert ignored.returncode == 0, ignored.stderr
    assert "note: status does not use EPOCHS" in ignored.stderr
    assert "note: status does not use RERANK" in ignored.stderr
    assert f"stores in {tmp_path}" in ignored.stdout


def test_options_that_had_no_variable_have_one(running: Path, tmp_path: Path) -> None:
    few = ("TRAIN_IDENTITIES=2", "TEST_IDENTITIES=2", "IMAGES_PER_IDENTITY=4", "DISTRACTORS=0", "JUNK=0")
    made = make(running, "synthesize", f"DATA_ROOT={tmp_path}", *few)
    assert made.returncode == 0, made.stderr
    assert "rendering 16 synthetic pedestrians" in made.stderr
    planned = run("train", DATA_ROOT=tmp_path, STORE_ROOT=tmp_path / "stores", DRY_RUN=1)
    assert planned.returncode == 0, planned.stderr
    assert "would be made first, of 16 images" in planned.stdout
    assert not (tmp_path / "stores").exists()
    failed(run("derive", DRY_RUN=1), "derive has no dry run", code=2)
    failed(run("catalog", "check", DATASET="market", DATA_ROOT=tmp_path), "Market-1501 is not there")
