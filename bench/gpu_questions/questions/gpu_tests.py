"""The tests marked gpu, each a row; those that fail run once more without TF32: does its rounding explain them?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import ROOT, Context

COMPILED = "compiled"
"""What the names of tests that compile a network contain; they take longest and have a step of their own."""

_LEAST_SECONDS = 10.0


class _Rows:
    """A pytest plugin that writes every result down at once: a run that is stopped has said what it knew."""

    def __init__(self, answer: Answer, step: str) -> None:
        self._answer, self._step = answer, step
        self._add = answer.table("Tests marked gpu", ("test", "result", "seconds"))
        self.failed: list[str] = []
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of a test the call counts, and of one that did not come to it, what kept it from being called."""
        if report.when != "call" and report.passed:
            return
        result = str(report.outcome)
        if report.skipped:
            result = "skipped: " + str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        self._add(report.nodeid, result, f"{report.duration:.1f}")
        self.passed += report.passed
        if report.failed:
            self.failed.append(report.nodeid)
            self._answer.content["failures"].append(f"{report.nodeid}: {_last_line(report)}")
        if self.passed or self.failed:
            self._answer.figure(f"{self._step}.failed", len(self.failed), "tests")
            self._answer.figure(f"{self._step}.passed", self.passed, "tests")


def _last_line(report: pytest.TestReport) -> str:
    message = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr))
    return (message.strip().splitlines() or [""])[0][:200]


def answer(context: Context, answer: Answer) -> None:
    """The tests that compile nothing."""
    run_tests(context, answer, "tests", f"not {COMPILED}")


def run_tests(context: Context, answer: Answer, step: str, chosen: str) -> None:
    """Those whose names fit ``chosen`` (pytest's -k)."""
    rows = _Rows(answer, step)
    os.chdir(ROOT)
    code = pytest.main(["-m", "gpu", "-k", chosen, "-p", "no:cacheprovider", *files_with_gpu_tests(context)], [rows])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        answer.failed("pytest", RuntimeError(f"it ended with {pytest.ExitCode(code).name}; see its log"))
    if rows.failed and context.is_gpu and context.seconds_left() > _LEAST_SECONDS:
        _again_without_tf32(answer, rows.failed)


def files_with_gpu_tests(context: Context) -> list[str]:
    """The test files that name the mark, so that pytest need not import all others."""
    found = [path for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    return [str(path.relative_to(ROOT)) for path in found[: context.scale.test_files]]


def _again_without_tf32(answer: Answer, failed: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *failed]
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    answer.note(f"Without TF32 {'all of these pass' if code == 0 else 'some of these still fail'}: {', '.join(failed)}")
