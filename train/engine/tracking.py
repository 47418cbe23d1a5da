"""A run's numbers, as TensorBoard events and as ``metrics.csv``."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from densereid.data_catalog.files.atomic import replacing

METRICS_FILE, EVENTS_FOLDER = "metrics.csv", "tensorboard"
SCORES = "scores/"
"""How the names of scores begin."""

_COLUMNS = ("step", "epoch", "name", "value")


class Tracker:
    """Appends scalars to a run's ``metrics.csv`` (one row a value) and to its TensorBoard events.

    A resumed run drops what was written after the step it resumes from, and the scores of that step where its
    checkpoint has none (``scored``) and they will come again, so nothing appears twice; a new run (step 0) drops
    everything.
    """

    def __init__(self, run_folder: Path, *, step: int, scored: bool) -> None:
        path, events = run_folder / METRICS_FILE, run_folder / EVENTS_FOLDER
        if not step:
            shutil.rmtree(events, ignore_errors=True)
        _rewrite(path, _kept(read_metrics(run_folder), step, scored) if step else [])
        self._file = path.open("a", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, _COLUMNS)
        self._events = SummaryWriter(str(events), purge_step=step + 1 if step else None)

    def write(self, values: Mapping[str, float], *, step: int, epoch: float) -> None:
        """Record named values after ``step`` optimiser steps."""
        for name, value in values.items():
            self._rows.writerow({"step": step, "epoch": f"{epoch:.4f}", "name": name, "value": f"{value:.6g}"})
            self._events.add_scalar(name, value, step)
        self._file.flush()

    def close(self) -> None:
        """Write what is buffered."""
        self._file.close()
        self._events.close()


def _kept(rows: list[dict[str, str]], step: int, scored: bool) -> list[dict[str, str]]:
    """Each value once (older releases wrote some twice), up to ``step``, whose scores count where it is ``scored``."""
    once = {(int(row["step"]), row["name"]): row for row in rows}
    return [
        row for (at, name), row in once.items() if at < step or (at == step and (scored or not name.startswith(SCORES)))
    ]


def _rewrite(path: Path, rows: list[dict[str, str]]) -> None:
    """Replace the file at once: a crash keeps the old rows or has the new ones."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_metrics(run_folder: Path) -> list[dict[str, str]]:
    """Rows of ``metrics.csv`` (step, epoch, name, value as text); a torn last row is left out, and what is no row."""
    path = run_folder / METRICS_FILE
    if not path.is_file():
        return []
    whole, _, _torn = path.read_bytes().decode(errors="replace").replace("\0", "").rpartition("\n")
    rows = csv.DictReader(whole.splitlines())
    return [row for row in rows if all(row.get(name) for name in _COLUMNS) and row["step"].isdecimal()]
