"""The commands that are shown to be run next: started as this one was, with what it was given, quoted for a shell."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from helpers import given_by_make

from densereid.pipeline.cli import cli
from densereid.pipeline.commands import demo
from densereid.pipeline.commands.demo import next_lines
from densereid.pipeline.invocation import Invocation, next_command, set_running, this_command


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Parse a command's words as if they had been typed after ``program``; nothing is run."""

    def parse(program: str, *words: str) -> None:
        monkeypatch.setattr(sys, "argv", [program, *words])
        monkeypatch.setattr(sys, "orig_argv", ["python3", program])
        with click.Context(cli) as context:
            name, command, rest = cli.resolve_command(context, list(words))
            assert command is not None
            command.make_context(name, rest, parent=context)

    yield parse
    set_running(Invocation())


PATTERN = r"(?P<person>\d+) it's_c(?P<camera>\d)$"


@pytest.mark.parametrize(
    ("started", "program"),
    [
        ("/usr/bin/densereid", "/usr/bin/densereid"),
        ("/site/densereid/__main__.py", "python3 -m densereid"),
        ("/checkout/pipeline/__main__.py", "python3 -m pipeline"),
    ],
)
def test_the_next_command_is_started_as_this_one_was(
    running: Callable[..., None], monkeypatch: pytest.MonkeyPatch, started: str, program: str
) -> None:
    monkeypatch.setenv("DENSEREID_IUV_ROOT", "my maps")
    words = ["preprocess", "--data-root", "my data", "--pattern", PATTERN, "--size", "64x32", "--dry-run", "--compiled"]
    running(started, *words)
    assert this_command() == f"{program} {shlex.join(words)} --iuv-root 'my maps'"
    quoted = shlex.quote(PATTERN)
    assert next_command("inspect", dataset="folder") == (
        f"{program} inspect --dataset folder --data-root 'my data' --size 64x32"
    )
    named = {"dataset": "folder", "set": ["a=1", "b=2"], "rerank": 1}
    assert next_command("train", without=["size"], **named) == (
        f"{program} train --dataset folder --set a=1 --set b=2 --rerank 1 --data-root 'my data' --iuv-root 'my maps' "
        f"--compiled --pattern {quoted}"
    )
    assert next_command("evaluate", run_folder="my run", rerank=1) == f"{program} evaluate 'my run' --rerank"
    assert next_command("catalog check", dataset="market") == f"{program} catalog check market --data-root 'my data'"


def test_the_demo_suggests_no_second_demo(running: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    given_by_make(monkeypatch, "demo", SEED="3", STORE="hdf5", RUN_ROOT="my runs")
    running("/checkout/pipeline/__main__.py", "demo")
    assert next_lines(Path("my runs/demo/x")) == (
        "make evaluate RUN_FOLDER='my runs/demo/x' RERANK=1",
        "make preprocess DATASET=market ESTIMATOR=densepose",
    )


def test_each_of_the_demos_last_lines_can_be_pasted(
    running: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given_by_make(monkeypatch, "demo")
    running("/checkout/pipeline/__main__.py", "demo")
    for name in ("load_checkpoint", "untrained_scores", "scores_table", "print_table"):
        monkeypatch.setattr(demo, name, lambda *_, **__: SimpleNamespace(num_identities=3))
    monkeypatch.setattr(demo, "report_runs", lambda runs, **_: runs[0] / "page.html")
    result = SimpleNamespace(last_path="x", scores=1, epochs=2, run_folder=Path("runs/demo/x"))
    store = SimpleNamespace(path="stores/x.zarr")
    demo._conclude(None, store, result, sheet=Path("a.png"), seed=0, started=0.0)  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert "next:" not in shown.out
    assert shown.out.splitlines()[-1] == "report:        runs/demo/x/page.html"
    assert shown.err.splitlines()[1:] == [
        "next: make evaluate RUN_FOLDER=runs/demo/x RERANK=1",
        "and with Market-1501 under data/:",
        "next: make preprocess DATASET=market ESTIMATOR=densepose",
    ]


def test_make_gives_the_next_command_what_it_was_given(
    running: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"DATA_ROOT": "my data", "PATTERN": PATTERN, "STORE": "", "WORKERS": "2", "CATALOG": __file__}
    given_by_make(monkeypatch, "preprocess train", **given, EPOCHS="3")
    monkeypatch.setenv("DENSEREID_MAKE_OWN", "VENV")
    monkeypatch.setenv("VENV", "env")
    running("/checkout/pipeline/__main__.py", "preprocess")
    quoted = shlex.quote(PATTERN)
    typed = f"DATA_ROOT='my data' PATTERN={quoted} STORE= WORKERS=2 CATALOG={__file__} EPOCHS=3 VENV=env"
    assert this_command() == f"make preprocess train {typed}"
    assert next_command("inspect", dataset="folder") == "make inspect DATASET=folder DATA_ROOT='my data' VENV=env"
    train = next_command("train", dataset="folder", set=["a=1", "b=2"])
    assert train.startswith("make train DATASET=folder SET='a=1 b=2' DATA_ROOT='my data'")
    own = {f"PATTERN={PATTERN}", f"CATALOG={__file__}", "WORKERS=2", "VENV=env"}
    assert set(shlex.split(train)) >= own | {"EPOCHS=3"}  # which preprocessing itself does not take
    assert "STORE=" not in train
    assert next_command("catalog check", dataset="market").startswith("make check DATASET=market CATALOG=")
