"""Steps in processes of their own: none can stop, outlast or starve the others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench.gpu_questions.answers import read_answer
from bench.gpu_questions.context import ROOT, Context
from bench.gpu_questions.plan import Step

LEAST_SECONDS = 5.0
"""With less time left nothing is started: importing torch takes as long."""

_POLL, _TELL, _GRACE = 0.05, 2.0, 3.0


@dataclass
class Outcome:
    """How a step went: not started, running, complete, failed, partly failed, over time, or interrupted."""

    name: str
    state: str = "not started"
    seconds: float = 0.0
    limit: float = 0.0


class _Running:
    """A step's process, which leads a group of its own so that it can be ended with everything it started."""

    def __init__(self, step: Step, context: Context, outcome: Outcome, environment: Mapping[str, str]) -> None:
        self.outcome, self._context, self._began = outcome, context, time.monotonic()
        outcome.state = "running"
        told = replace(context, ends=time.time() + outcome.limit).to_json()
        command = [sys.executable, "-m", "bench.gpu_questions.step", step.name, step.entry, told]
        with (context.steps / f"{step.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip

    def is_over(self) -> bool:
        """Whether the step has ended, by itself or because its time has."""
        outcome = self.outcome
        outcome.seconds = time.monotonic() - self._began
        if self._process.poll() is None and outcome.seconds < outcome.limit:
            return False
        outcome.state = self._state()
        self.stop()
        return True

    def _state(self) -> str:
        code = self._process.poll()
        if code is None:
            return "over time"
        if code == 0:
            return "complete"
        answer = read_answer(self._context.steps, self.outcome.name)
        return "partly failed" if answer["figures"] else "failed"

    def stop(self) -> None:
        """End the process and whatever it has started."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class Runner:
    """Runs steps one after the other, those in the background beside them, until the clock says ``ends``.

    ``on_change`` is told the outcomes so far whenever one changes, and every other second. With ``at_once`` above 1 so
    many steps run side by side: for rehearsals, since it makes every time wrong.
    """

    def __init__(
        self,
        context: Context,
        *,
        ends: float,
        environment: Mapping[str, str],
        on_change: Callable[[Sequence[Outcome]], None],
        at_once: int = 1,
    ) -> None:
        self._context, self._ends, self._environment = context, ends, environment
        self._on_change, self._at_once = on_change, at_once
        self._active: dict[str, _Running] = {}
        self.outcomes: list[Outcome] = []

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """How each step went; whatever ends this, no process stays behind."""
        self.outcomes = [Outcome(step.name) for step in steps]
        try:
            for step, outcome in zip(steps, self.outcomes, strict=True):
                self._wait_while(partial(self._is_running, step.needs))
                self._start(step, outcome)
                self._wait_while(partial(self._is_full, step))
            self._wait_while(partial(bool, self._active))
        finally:
            for running in self._active.values():
                running.stop()
                running.outcome.state = "interrupted"
        return self.outcomes

    def _start(self, step: Step, outcome: Outcome) -> None:
        left = self._ends - time.time()
        outcome.limit = max(0.0, left if step.seconds is None else min(step.seconds, left))
        if left >= LEAST_SECONDS:
            self._active[step.name] = _Running(step, self._context, outcome, self._environment)

    def _is_running(self, name: str | None) -> bool:
        return name in self._active

    def _is_full(self, started: Step) -> bool:
        """Whether the next step has to wait for the one that was started last, or for any."""
        if self._at_once > 1:
            return len(self._active) >= self._at_once
        return started.name in self._active and not started.background

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        told = 0.0
        while condition():
            over = [other for other, running in self._active.items() if running.is_over()]
            for other in over:
                del self._active[other]
            if over or time.monotonic() - told > _TELL:
                self._on_change(self.outcomes)
                told = time.monotonic()
            time.sleep(_POLL)
