"""The report of runs: which runs on which store, and where the page is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import exists
from densereid.pipeline.commands.networks.gathering import gather
from densereid.pipeline.commands.networks.open_run import OpenRun, open_run
from densereid.pipeline.console import print_status
from densereid.pipeline.reports.pages.runs.page import write_runs_page
from densereid.train.engine.checkpoint import LAST, checkpoint_path, load_checkpoint
from densereid.train.evaluation.evaluate import check_scorable


def report_runs(
    runs: Sequence[Path], *, store_path: AnyPath | None, device: str, feature: str | None = None,
    checkpoint_name: str = LAST, target: Path | None = None,
) -> Path:  # fmt: skip
    """Write the report of a run, or of several side by side on the store of the first; the file.

    It is ``target``, or lies beside the first run's evaluation. Embeddings that are kept are read, others are
    extracted and kept. Raises UserError where a folder is no run, where a run cannot be ranked on the store, and where
    runs are of different stores, or a store is no longer what a run was trained on, and ``store_path`` does not name
    the one to take.
    """
    _check_runs(runs, checkpoint_name)
    opening = partial(open_run, device=device, feature=feature, checkpoint_name=checkpoint_name)
    opened = _opened(runs, store_path, opening)
    check_scorable(opened[0].store)
    print_status(f"{plural(len(opened), 'run')} on {opened[0].store.path}; device {opened[0].device}")
    files = opened[0].files
    path = target or files.with_name(f"{files.name}{'-compared' if len(opened) > 1 else ''}.html")
    write_runs_page(path, gather(opened))
    print_status(f"the report has {path.stat().st_size / 1e6:.1f} MB and opens in any browser")
    return path


def _check_runs(runs: Sequence[Path], checkpoint_name: str) -> None:
    """Raise UserError where one is no run, or is named twice."""
    for run in runs:
        if run.is_dir() and exists(run):
            raise UserError(
                f"{run} is a store, not the folder of a run",
                "give the run with RUN_FOLDER, and the store with STORE_PATH",
            )
        if not checkpoint_path(run, name=checkpoint_name).is_file():
            what = f"has no {checkpoint_name}" if run.is_dir() else "does not exist"
            raise UserError(
                f"{run} is not the folder of a trained run: it {what}",
                "give the folder that `make train` or `make demo` printed; one whose training has saved nothing yet "
                "cannot be reported",
            )
    twice = [run for run, count in Counter(run.resolve() for run in runs).items() if count > 1]
    if twice:
        raise UserError(f"RUN_FOLDER names {twice[0]} twice", "name each run once; one alone has a report, too")


def _opened(runs: Sequence[Path], store_path: AnyPath | None, opening: partial[OpenRun]) -> list[OpenRun]:
    """The runs on one store."""
    first = opening(runs[0], store_path=store_path)
    for run in runs[1:] if store_path is None else ():
        other = load_checkpoint(checkpoint_path(run, name=first.checkpoint_file.name), tensors=False).store
        if other["digest"] != first.checkpoint.store["digest"]:
            raise UserError(
                f"the runs are of different stores: {runs[0]} of {first.checkpoint.store['path']}, {run} of "
                f"{other['path']}",
                "say with STORE_PATH=... on which store all of them are ranked",
            )
    return [first, *(opening(run, store_path=first.store.path) for run in runs[1:])]
