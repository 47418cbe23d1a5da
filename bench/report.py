"""Timing and printing for the benchmarks."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds of ``repeats`` calls, after one that does not count."""
    action()
    measured = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        measured.append(time.perf_counter() - start)
    return statistics.median(measured)


def fastest(actions: Mapping[str, Callable[[], object]], rounds: int = 30) -> dict[str, tuple[float, float]]:
    """Fewest seconds and fewest CPU seconds of a call of each action; they take turns, to meet the same other work."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            action()
            measured[name].append((time.perf_counter() - start, time.process_time() - start_cpu))
    return {name: (min(wall for wall, _ in times), min(cpu for _, cpu in times)) for name, times in measured.items()}


def print_markdown_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], packages: Sequence[str]
) -> None:
    """A Markdown table under a line that says where and with what it was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"### {title}\n\n{processor()}; Python {platform.python_version()}, {versions}; commit {commit()}\n")
    print("\n".join(table_lines(columns, rows)), end="\n\n", flush=True)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table; a pipe within a cell (some kernels' names have them) is escaped."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), "|" + "---|" * len(columns), *(line(row) for row in rows)]


def commit() -> str:
    """The checkout's commit, with a plus sign where files differ from it; empty where there is no git checkout."""
    project = Path(__file__).parents[1]
    if not (project / ".git").exists() or shutil.which("git") is None:
        return ""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(project), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def processor() -> str:
    """Number of cores and the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}"
