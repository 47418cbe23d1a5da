"""`embedded-weights`: the embedded network trained on rendered people, and what it scores on others."""

from __future__ import annotations

import os
from dataclasses import astuple, fields
from pathlib import Path

from rich.table import Table

from densereid.pipeline.console import print_status, print_table
from densereid.pipeline.settings import resolve_device
from densereid.preprocess.embedded.weights import WEIGHTS
from densereid.preprocess.embedded_training.making import Making, make_weights
from densereid.preprocess.embedded_training.recipe import GPU_RECIPE, Recipe
from densereid.preprocess.semantics.agreement import Agreement
from densereid.preprocess.writing.provenance import commit, device_name, versions


def remake_weights(run_root: Path, *, device: str, workers: int, makers: tuple[str, ...], scale: float) -> Path:
    """Render, train and score, in a folder of ``run_root``; the file of weights, which the package does not take.

    ``scale`` multiplies what is rendered and trained. ``workers``: processes that render and compose; 0 takes one for
    each processor. Raises UserError for an unknown maker, and where Anny is not installed.
    """
    chosen, why = resolve_device(device)
    making = Making(
        run_root / f"embedded-weights-{'-'.join(makers)}",
        makers,
        shards=max(1, round(Making.shards * scale)),
        background_shards=max(1, round(Making.background_shards * scale)),
        recipe=(Recipe() if chosen == "cpu" else GPU_RECIPE).scaled(scale),
        device=chosen,
        workers=workers or len(os.sched_getaffinity(0)),
        facts={"commit": commit(), "versions": versions(), "device": device_name(chosen), "scale": scale},
    )
    print_status(f"device {chosen} ({why}); everything is kept in {making.folder}")
    scores = make_weights(making, print_status)
    print_table(_table(scores))
    written = making.folder / "weights.safetensors"
    print_status(f"ESTIMATOR=embedded WEIGHTS={written} uses them; the released ones are {WEIGHTS}")
    return written


def _table(scores: dict[str, Agreement]) -> Table:
    table = Table(title="agreement with exact IUV, on people and streets never trained on", title_justify="left")
    for column in ("body maker, pictures", *(each.name for each in fields(Agreement))):
        table.add_column(column.replace("_", " "))
    for name, values in scores.items():
        table.add_row(name, *(f"{value:.3f}" for value in astuple(values)))
    return table
