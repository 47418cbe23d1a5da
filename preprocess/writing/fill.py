"""Filling a store: shard by shard, resumable, in this process or by any executor."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, as_completed
from contextlib import closing

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import recover_folder, write_bytes
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.writer_lock import only_writer
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store, open_store
from densereid.preprocess.writing.derived_store import DerivedPlan, find_derived_update
from densereid.preprocess.writing.image_update import find_image_update
from densereid.preprocess.writing.plan import Plan, ShardTask, StorePlan, prepare
from densereid.preprocess.writing.shard_pipeline import FATAL_ERRORS, OnProgress, Progress, compute_shards
from densereid.preprocess.writing.update import (
    Update,
    begin_update,
    finish_update,
    remove_interrupted_updates,
)

FAILURES = "failures.csv"
"""Path and reason of each image that could not be read, for people; the markers say it, too."""

FillStore = Callable[[StorePlan, list[int]], None]
"""What computes and writes the given shards of a plan's store."""


def write_store(
    plan: StorePlan, *, format: str, fill: FillStore | None = None, notify: Callable[[str], None] | None = None
) -> Store:
    """The plan's store, created, resumed or brought up to date, and filled, with ``failures.csv`` in its folder.

    ``fill`` computes the shards that are missing: :func:`fill_store` in this process, unless given. ``notify`` is
    told what has changed since the store was made. For example, the images of a dataset with their IUV maps::

        dataset = find_dataset("synthetic", Path("data"))
        config = PreprocessConfig(size=(256, 128), dsap_size=32, collision="last")
        write_store(Plan(dataset, Path("stores/synthetic.zarr"), open_iuv(dataset), config), format="zarr")

    Raises UserError as :func:`densereid.preprocess.writing.plan.prepare` and :func:`fill_store` do, and where another
    process writes the store.
    """
    with only_writer(plan.path, "the store"):
        recover_folder(plan.path)
        update = find_update(plan)
        if update is None:
            (fill or fill_store)(plan, prepare(plan, format=format))
        else:
            if notify is not None:
                notify(str(update))
            _write_update(update, fill or fill_store, format=format)
        remove_interrupted_updates(plan.path)
        store = open_store(plan.path)
        write_failures(store)
        return store


def _write_update(update: Update, fill: FillStore, *, format: str) -> None:
    begin_update(update, format=format)
    missing = prepare(update.plan, format=format)
    if missing:
        fill(update.plan, missing)
    finish_update(update)


def find_update(plan: StorePlan) -> Update | None:
    """What has to be done to a store that is there already; None where there is none, or only shards are missing.

    Nothing is written. Raises UserError where that store has other settings, or was made from another dataset.
    """
    if isinstance(plan, Plan):
        return find_image_update(plan)
    return find_derived_update(plan) if isinstance(plan, DerivedPlan) else None


def fill_store(
    plan: StorePlan, shards: list[int], *, executor: Executor | None = None, on_progress: OnProgress | None = None
) -> None:
    """Compute and write ``shards``: in this process, or by an executor whose workers each own a whole shard.

    A shard that fails does not stop the others; the UserError at the end names it. An OSError or a UserError
    of a shard is raised at once: a full disk, or weights that are not there, would fail every shard.
    """
    tasks = (plan.task(shard) for shard in shards)
    outcomes: Generator[tuple[int, Progress | BaseException], None, None]
    outcomes = compute_shards(tasks, on_progress) if executor is None else _computed_by(executor, tasks)
    failed: dict[int, BaseException] = {}
    with closing(outcomes):
        for shard, outcome in outcomes:
            if isinstance(outcome, FATAL_ERRORS):
                raise outcome
            if isinstance(outcome, BaseException):
                failed[shard] = outcome
            elif executor is not None and on_progress is not None:
                on_progress(outcome)
    if failed:
        reasons = "\n".join(
            f"  shard {shard}: {type(failed[shard]).__name__}: {failed[shard]}" for shard in sorted(failed)
        )
        raise UserError(
            f"{len(failed)} of {plural(len(shards), 'shard')} failed, the others are written:\n{reasons}",
            "repair what is named, or ask for fewer WORKERS if memory ran out, and run the same command again",
        )


def _computed_by(
    executor: Executor, tasks: Iterable[ShardTask]
) -> Generator[tuple[int, Progress | BaseException], None, None]:
    futures = {executor.submit(fill_shard, task): task.shard for task in tasks}
    try:
        for future in as_completed(futures):
            yield futures[future], future.exception() or future.result()
    finally:
        for future in futures:
            future.cancel()


def fill_shard(task: ShardTask, *, on_progress: OnProgress | None = None) -> Progress:
    """Compute one shard in memory and write it; return its totals."""
    [(_, outcome)] = compute_shards([task], on_progress)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def list_failures(store: Store) -> list[dict[str, str]]:
    """The images that could not be read, as ``path`` and ``reason``, in the order of the finished shards."""
    markers = store.markers()
    return [failure for shard in sorted(markers) for failure in markers[shard].get("failures", [])]


def failures_table(store: Store) -> str:
    """What ``failures.csv`` says of a store."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["path", "reason"])
    writer.writeheader()
    writer.writerows(list_failures(store))
    return table.getvalue()


def write_failures(store: Store) -> None:
    """Collect the failures of all finished shards into ``failures.csv`` in the store's folder."""
    file, content = store.path / FAILURES, failures_table(store).encode()
    if read_whole(file) != content:  # a finished store may be read-only
        write_bytes(file, content)
