"""The run of all questions to a GPU, rehearsed on a CPU; and the runner, with steps that fail, hang and fork."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from forked import start_forked
from helpers import ROOT

from bench.gpu_questions import __main__ as command
from bench.gpu_questions import runner as runner_module
from bench.gpu_questions.context import Context
from bench.gpu_questions.gathered import FILES, Gathered
from bench.gpu_questions.goals import GOALS
from bench.gpu_questions.packages import search_path
from bench.gpu_questions.plan import STEPS, Step
from bench.gpu_questions.runner import Outcome, Runner

Results = dict[str, Any]


class _ForkedStep:
    """What the runner starts, as a fork: loading torch for each step would take most of the time."""

    def __init__(self, words: list[str], *, env: dict[str, str], stdout: BinaryIO, **others: object) -> None:
        assert words[1:3] == ["-m", "bench.gpu_questions.step"]
        assert others["process_group"] == 0
        self._process = start_forked(_STEP, words[3:], output=Path(stdout.name), environment=env)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)


_STEP = """
import os, sys
os.setpgid(0, 0)
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
from bench.gpu_questions.step import main
sys.exit(main(*sys.argv[1:]))
"""
_WORDS = ("--device", "cpu", "--scale", "tiny", "--commit", "c0ffee")


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of all steps at their smallest, and what was printed."""
    output, printed = tmp_path_factory.mktemp("gpu") / "out", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(runner_module.subprocess, "Popen", _ForkedStep)
        patch.setattr(sys, "path", sys.path[:])
        patch.setattr(command.signal, "signal", lambda *_: None)
        # five times each limit: other tests may be running
        code = command.main(["--output", str(output), *_WORDS, "--at-once", "2", "--minutes", "40"])
    assert code == 0, printed.getvalue() + (output / "logs.txt").read_text(encoding="utf-8")
    return output, printed.getvalue()


def test_the_script_asks_in_processes_of_their_own(tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["sh", "bench/gpu.sh", "--output", str(output), *_WORDS, "--steps", "guiding-stream", "--minutes", "40"]
    environment = {**os.environ, "PYTHON": sys.executable}
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr + (output / "logs.txt").read_text(encoding="utf-8")
    assert sorted(path.name for path in output.iterdir()) == sorted(FILES)
    assert "guiding-stream: complete" in ran.stdout
    assert "this is a rehearsal" in ran.stdout


@pytest.fixture(scope="module")
def results(rehearsal: tuple[Path, str]) -> Results:
    found: Results = json.loads((rehearsal[0] / "results.json").read_text(encoding="utf-8"))
    return found


def test_every_step_of_the_plan_answers_and_names_figures(results: Results) -> None:
    steps = {step["name"]: step for step in results["steps"]}
    assert list(steps) == [step.name for step in STEPS]
    for planned in STEPS:
        step = steps[planned.name]
        assert step["state"] == "complete", step
        assert planned.seconds is None or step["limit"] == 5 * planned.seconds
        assert step["tables"] or step["notes"], planned.name
    # What is compiled, and tests that need CUDA, measure nothing on a CPU; all others do.
    silent = {name for name, step in steps.items() if not step["figures"]}
    assert silent == {"data", "tests", "densepose-compiled", "training-compiled", "tests-compiled"}
    assert steps["densepose-compiled"]["notes"] == ["Not measured: torch.compile is left out with --scale tiny."]


def test_rows_fit_their_columns_and_stand_in_the_markdown(results: Results, rehearsal: tuple[Path, str]) -> None:
    text = (rehearsal[0] / "results.md").read_text(encoding="utf-8")
    tables = [table for step in results["steps"] for table in step["tables"]]
    assert len(tables) >= 10
    for table in tables:
        assert f"#### {table['title']}\n\n| {' | '.join(table['columns'])} |\n" in text
        assert table["rows"], table["title"]
        for row in table["rows"]:
            assert len(row) == len(table["columns"])
            assert f"\n| {' | '.join(row)} |\n" in text
    for block in text.split("\n\n"):
        lines = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block


def test_the_gathered_files_say_where_what_and_how_well(results: Results, rehearsal: tuple[Path, str]) -> None:
    output, printed = rehearsal
    assert sorted(path.name for path in output.iterdir()) == sorted(FILES)
    assert results["facts"]["commit"] == "c0ffee"
    assert f"Python {sys.version.split()[0]}, torch " in results["facts"]["versions"]
    assert {"processor", "TF32 in fp32"} <= set(results["facts"])
    assert "No package is missing." in results["notes"]
    verdicts = {goal["what"]: goal["verdict"] for goal in results["goals"]}
    assert list(verdicts) == [goal.what for goal in GOALS]
    assert verdicts["tests marked gpu that fail"] == "not measured"
    assert verdicts["the same: GPU busy"] == "not measured"
    assert verdicts["the same: minutes for Market-1501"] == "missed"
    assert verdicts["DSA-reID: share of a step spent waiting"] in ("met", "missed")
    assert "this is a rehearsal" in printed
    log = (output / "logs.txt").read_text(encoding="utf-8")
    assert all(f"= {step.name} =" in log for step in STEPS)
    assert "skipped: Skipped: no CUDA device" in log


_STEPS = """
import os, subprocess, sys, time

def well(context, answer):
    answer.table("A | table", ("a", "b"))(1, "x|y")
    answer.figure("well.rate", 2.5, "images/s")
    answer.figure("well.unknown", float("nan"))

def fails(context, answer):
    raise ValueError("it broke\\nin two lines")

def fails_partly(context, answer):
    answer.figure("partly.rate", 1.0)
    answer.attempt("the rest", lambda: 1 / 0)
    answer.note("went on")

def hangs(context, answer):
    answer.figure("hangs.rate", 3.0)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (context.work / "child").write_text(str(child.pid))
    time.sleep(600)

def dies(context, answer):
    os.kill(os.getpid(), 9)

def slow(context, answer):
    time.sleep(1.0)
    (context.work / "slow").touch()

def wants_slow(context, answer):
    assert (context.work / "slow").exists()
"""


def run(folder: Path, steps: list[Step], *, seconds: float = 60.0, **options: Any) -> tuple[list[Outcome], Gathered]:
    """Run steps of :data:`_STEPS`, gathering as the command does."""
    (folder / "own_steps.py").write_text(_STEPS)
    context = Context("cpu", "tiny", folder)
    context.steps.mkdir()
    gathered = Gathered(folder, context, ["a note"])
    environment = {**os.environ, "PYTHONPATH": search_path(folder)}
    options = {"on_change": gathered.write, **options}
    runner = Runner(context, ends=time.time() + seconds, environment=environment, **options)
    return runner.run(steps), gathered


def own(name: str, seconds: float | None = 30.0, **options: Any) -> Step:
    return Step(name.replace("_", "-"), f"own_steps:{name}", seconds, **options)


def has_ended(child: Path) -> bool:
    """Whether the process whose id the file holds ends within some seconds; it was told to."""
    status = Path("/proc", child.read_text(), "stat")
    for _ in range(100):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_step_that_fails_hangs_or_dies_stops_no_other(tmp_path: Path) -> None:
    steps = [own("fails"), own("hangs", 2.0), own("dies"), own("fails_partly"), Step("absent", "own_steps:no", 9.0)]
    outcomes, gathered = run(tmp_path, [*steps, own("well")])
    states = {outcome.name: outcome.state for outcome in outcomes}
    assert states == {
        "fails": "failed", "hangs": "over time", "dies": "failed", "fails-partly": "partly failed",
        "absent": "failed", "well": "complete",
    }  # fmt: skip
    gathered.write(outcomes)
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    by_name = {step["name"]: step for step in found["steps"]}
    assert by_name["fails"]["failures"] == ["fails: ValueError: it broke"]
    assert by_name["fails-partly"]["failures"] == ["the rest: ZeroDivisionError: division by zero"]
    assert by_name["fails-partly"]["notes"] == ["went on"]
    assert by_name["hangs"]["figures"] == {"hangs.rate": [3.0, ""]}  # what it knew before its time ended
    assert 2.0 <= by_name["hangs"]["seconds"] < 6.0
    assert by_name["well"]["figures"] == {"well.rate": [2.5, "images/s"]}
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| fails | failed | " in text
    assert "| a | b |\n|---|---|\n| 1 | x\\|y |" in text
    assert "ValueError: it broke\nin two lines" in (tmp_path / "logs.txt").read_text(encoding="utf-8")
    assert has_ended(tmp_path / "child")  # what a step started ends with it


def test_without_time_nothing_is_started_and_the_last_takes_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "LEAST_SECONDS", 1.0)  # here no step imports torch
    outcomes, _ = run(tmp_path, [own("well"), own("hangs", None), own("slow")], seconds=4.0)
    assert [outcome.state for outcome in outcomes] == ["complete", "over time", "not started"]
    assert 1.0 < outcomes[1].limit <= 4.0


def test_the_background_is_waited_for_by_what_needs_it(tmp_path: Path) -> None:
    began = time.monotonic()
    outcomes, _ = run(tmp_path, [own("slow", background=True), own("well"), own("wants_slow", needs="slow")])
    assert [outcome.state for outcome in outcomes] == ["complete"] * 3
    assert time.monotonic() - began > 1.0


def test_steps_side_by_side_still_wait_for_what_they_need(tmp_path: Path) -> None:
    steps = [own("slow", background=True), own("wants_slow", needs="slow"), own("hangs", 2.0), own("well")]
    outcomes, _ = run(tmp_path, steps, at_once=3)
    assert [outcome.state for outcome in outcomes] == ["complete", "complete", "over time", "complete"]


def test_whatever_ends_the_run_ends_its_steps(tmp_path: Path) -> None:
    seen: list[Outcome] = []

    def interrupted(outcomes: list[Outcome]) -> None:
        seen[:] = outcomes
        if (tmp_path / "child").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [own("hangs")], on_change=interrupted)
    assert [outcome.state for outcome in seen] == ["interrupted"]
    assert has_ended(tmp_path / "child")
