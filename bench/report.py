"""Timing and printing for the benchmarks."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import click


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
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    click.echo(
        f"### {title}\n\n{_processor()}; Python {platform.python_version()}, {versions}; commit {commit.strip()}\n"
    )
    click.echo("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        click.echo("| " + " | ".join(str(value) for value in row) + " |")
    click.echo()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}"
