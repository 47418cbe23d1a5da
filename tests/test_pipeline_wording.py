"""Options in messages are named as they were typed, and the programs as they can be started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from densereid.pipeline.cli import cli
from densereid.pipeline.cli.command import as_parameters
from densereid.pipeline.cli.variables import all_commands
from densereid.pipeline.cli.wording import as_typed
from densereid.pipeline.invocation import Invocation, beside_python, program, set_running

COMMANDS = {name: as_parameters(command) for name, command in all_commands(cli).items()}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/checkout/pipeline/__main__.py"])
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "pipeline"])


@pytest.mark.parametrize(
    ("said", "without_make", "by_make"),
    [
        ("SIZE is 'x'", "--size is 'x'", "SIZE is 'x'"),
        ("use STORE=zarr, or a local STORE_ROOT.", "use --store zarr, or a local --store-root.", None),
        ("add RERANK=1 (--rerank).", "add --rerank.", "add RERANK=1."),
        ("PATTERN='a b' finds none", "--pattern 'a b' finds none", None),
        ("/data/SIZE/x.png, 'SEED', SIZES and a JSON file", "/data/SIZE/x.png, 'SEED', SIZES and a JSON file", None),
        ("Invalid value for '--store': 'x'", "Invalid value for '--store': 'x'", "Invalid value for STORE: 'x'"),
        ("give --set loss.margin=0.5, --set", "give --set loss.margin=0.5, --set", "give SET=loss.margin=0.5, SET"),
        ("the RUN_FOLDER", "the RUN_FOLDER", None),
        ("`make verify STORE_PATH=a/b SEED=1`", "`python3 -m pipeline verify a/b --seed 1`", None),
        ("`make check DATASET=market`", "`python3 -m pipeline catalog check market`", None),
        ("`make train FRESH=1`", "`python3 -m pipeline train --fresh`", None),
        ("`densereid describe x`", "`python3 -m pipeline describe x`", "`PROGRAM describe x`"),
        ("`make clean-env`", "`make clean-env`", None),
    ],
)
def test_messages_speak_as_the_user_does(
    monkeypatch: pytest.MonkeyPatch, started: None, said: str, without_make: str, by_make: str | None
) -> None:
    set_running(Invocation())
    assert as_typed(said, COMMANDS) == without_make
    monkeypatch.setenv("DENSEREID_MAKE_GOALS", "train")
    assert as_typed(said, COMMANDS) == (by_make or said).replace("PROGRAM", program())


def test_what_stood_in_the_environment_is_named_so(started: None) -> None:
    set_running(Invocation("train", {"SIZE": ("x",)}, ["SIZE"]))
    assert as_typed("SIZE is 'x'; no '--size', but SEED", COMMANDS) == (
        "DENSEREID_SIZE is 'x'; no DENSEREID_SIZE, but --seed"
    )
    set_running(Invocation())


def test_programs_are_named_as_they_can_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bin_folder = tmp_path / "my env" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("python", "densereid", "tensorboard"):
        (bin_folder / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))
    monkeypatch.setattr(sys, "argv", ["/checkout/pipeline/__main__.py"])
    monkeypatch.setattr(sys, "orig_argv", [str(bin_folder / "python")])
    assert program() == "'my env/bin/python' -m pipeline"
    assert beside_python("tensorboard") == "'my env/bin/tensorboard'"
    assert beside_python("nothing") == "nothing"
    monkeypatch.setattr(sys, "argv", [str(bin_folder / "densereid")])
    assert program() == "'my env/bin/densereid'"
    monkeypatch.setenv("PATH", str(bin_folder))
    assert (program(), beside_python("tensorboard")) == ("densereid", "tensorboard")
    monkeypatch.setenv("DENSEREID_MAKE_GOALS", "train")
    assert program() == "'my env/bin/densereid'"
    (bin_folder / "densereid").unlink()
    assert program() == "'my env/bin/python' -m pipeline"
