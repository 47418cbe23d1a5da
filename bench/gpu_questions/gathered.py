"""Everything that a run has found in three files: results.md, results.json and logs.txt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.gpu_questions.answers import Content, markdown, read_answer, write_whole
from bench.gpu_questions.context import Context
from bench.gpu_questions.goals import GOALS
from bench.gpu_questions.runner import Outcome
from bench.report import table_lines

FILES = ("results.md", "results.json", "logs.txt")

_LOG_BYTES = 2**20
"""Of each log its end is kept."""


@dataclass
class Gathered:
    """The results so far, written to ``output`` again whenever something changes."""

    output: Path
    context: Context
    notes: Sequence[str]
    """What was found out before the first step: about packages, mostly."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write the three files; readers never see half of one."""
        answers = self._answers(outcomes)
        results = self._results(outcomes, answers)
        write_whole(self.output / "results.json", json.dumps(results, indent=1) + "\n")
        write_whole(self.output / "results.md", self._markdown(results, answers))
        logs = [f"{'=' * 20} {name} {'=' * 20}\n{self._log(name)}\n" for name in answers]
        write_whole(self.output / "logs.txt", "\n".join(logs))

    def summary(self, outcomes: Sequence[Outcome]) -> str:
        """The tables of goals and of steps."""
        results = self._results(outcomes, self._answers(outcomes))
        return "\n".join([*self._head(results), "", *goal_lines(results), "", *step_lines(results)])

    def _answers(self, outcomes: Sequence[Outcome]) -> dict[str, Content]:
        return {outcome.name: read_answer(self.context.steps, outcome.name) for outcome in outcomes}

    def _results(self, outcomes: Sequence[Outcome], answers: dict[str, Content]) -> dict[str, Any]:
        figures = {name: value for answer in answers.values() for name, value in answer["figures"].items()}
        goals = []
        for goal in GOALS:
            measured, name, verdict = goal.judge(figures)
            goals.append(
                {"what": goal.what, "goal": goal.text, "measured": measured, "figure": name, "verdict": verdict}
            )
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self.started).total_seconds(), 1),
            "device": self.context.device,
            "scale": self.context.scale_name,
            "notes": list(self.notes),
            "facts": answers.get("machine", {"facts": {}})["facts"],
            "goals": goals,
            "steps": [{**asdict(outcome), **answers[outcome.name]} for outcome in outcomes],
        }

    def _markdown(self, results: dict[str, Any], answers: dict[str, Content]) -> str:
        lines = [f"## Questions to a GPU, {results['started']}", "", *self._head(results), ""]
        lines += ["### Goals", "", *goal_lines(results), "", "### Steps", "", *step_lines(results), ""]
        for name, answer in answers.items():
            lines += [f"### {name}", "", markdown(answer)]
        return "\n".join(lines)

    def _head(self, results: dict[str, Any]) -> list[str]:
        lines = [f"Device {results['device']}, sizes {results['scale']}, {results['seconds']:.0f} s in all."]
        if results["scale"] != "full":
            lines.append("The sizes are cut: this is a rehearsal, and no goal is met or missed by it.")
        return [*lines, *results["notes"]]

    def _log(self, name: str) -> str:
        path = self.context.steps / f"{name}.log"
        if not path.is_file():
            return ""
        content = path.read_bytes()
        cut = "[...]\n" if len(content) > _LOG_BYTES else ""
        return cut + content[-_LOG_BYTES:].decode(errors="replace")


def goal_lines(results: dict[str, Any]) -> list[str]:
    """The table of goals."""
    rows = [[goal[key] for key in ("what", "goal", "measured", "verdict", "figure")] for goal in results["goals"]]
    return table_lines(("what", "goal", "measured", "verdict", "figure"), rows)


def step_lines(results: dict[str, Any]) -> list[str]:
    """The table of steps, with what failed."""
    rows = [
        [step["name"], step["state"], f"{step['seconds']:.0f}", f"{step['limit']:.0f}", "; ".join(step["failures"])]
        for step in results["steps"]
    ]
    return table_lines(("step", "state", "seconds", "limit", "failures"), rows)


def fresh_output(folder: Path) -> None:
    """An output folder without results of an earlier run, which would be taken for this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
