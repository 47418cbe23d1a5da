"""Filling a store: shard by shard, resumable, in this process or by any executor."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_catalog.errors import UserError
from data_catalog.schema import Status, arrays_written
from data_catalog.store import Store, write_shard
from preprocess.plan import Plan, ShardTask
from preprocess.rows import compute_rows, read_crop

_READERS = 4
"""Threads that decode images: Pillow releases the interpreter lock while it decodes."""


@dataclass(frozen=True)
class Progress:
    """What was just finished: a number of images, how many of them failed, and in how many no person was found."""

    images: int
    failed: int
    no_person: int


OnProgress = Callable[[Progress], None]


def fill_store(
    plan: Plan, shards: list[int], *, executor: Executor | None = None, on_progress: OnProgress | None = None
) -> None:
    """Compute and write ``shards``: in this process, or by an executor whose workers each own a whole shard.

    A shard that fails does not stop the others; the UserError at the end names it. An OSError or a UserError
    of a shard is raised at once: a full disk, or weights that are not there, would fail every shard.
    """
    outcomes = _computed_here(plan, shards, on_progress) if executor is None else _computed_by(executor, plan, shards)
    failed: dict[int, BaseException] = {}
    for shard, outcome in outcomes:
        if isinstance(outcome, (OSError, UserError)):
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
            f"{len(failed)} of {len(shards)} shards failed, the others are written:\n{reasons}",
            "repair what is named, or ask for fewer WORKERS if memory ran out, and run the same command again",
        )


def _computed_here(
    plan: Plan, shards: list[int], on_progress: OnProgress | None
) -> Iterator[tuple[int, Progress | Exception]]:
    for shard in shards:
        try:
            yield shard, fill_shard(plan.task(shard), on_progress=on_progress)
        except Exception as error:  # the caller reports it; the other shards go on
            yield shard, error


def _computed_by(executor: Executor, plan: Plan, shards: list[int]) -> Iterator[tuple[int, Progress | BaseException]]:
    futures = {executor.submit(fill_shard, plan.task(shard)): shard for shard in shards}
    try:
        for future in as_completed(futures):
            yield futures[future], future.exception() or future.result()
    finally:
        for future in futures:
            future.cancel()


def fill_shard(task: ShardTask, *, on_progress: OnProgress | None = None) -> Progress:
    """Compute one shard in memory and write it; return its totals."""
    arrays = {
        spec.name: np.empty((len(task.records), *spec.shape(task.geometry)[1:]), spec.dtype)
        for spec in arrays_written("shard")
    }
    failures: list[dict[str, str]] = []
    total = Progress(0, 0, 0)
    taken_whole = 0
    for rows, reasons, whole in _batches(task):
        taken_whole += whole
        done = Progress(len(rows["status"]), len(reasons), int(np.sum(rows["status"] == Status.NO_PERSON)))
        for name, values in rows.items():
            arrays[name][total.images : total.images + done.images] = values
        failures += [{"path": path, "reason": reason} for path, reason in sorted(reasons.items())]
        total = Progress(total.images + done.images, total.failed + done.failed, total.no_person + done.no_person)
        if on_progress is not None:
            on_progress(done)
    notes = {"failures": failures, "no_person": total.no_person, "taken_whole": taken_whole}
    write_shard(task.path, shard=task.shard, rows=arrays, notes=notes)
    return total


def _batches(task: ShardTask) -> Iterator[tuple[dict[str, np.ndarray], dict[str, str], int]]:
    size = task.config.batch_size
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(task.records), size):
            crops = list(readers.map(partial(read_crop, task.root), task.records[start : start + size]))
            yield compute_rows(task.estimator, task.config, crops)


def write_failures(store: Store) -> list[dict[str, str]]:
    """Collect the failures of all finished shards into ``failures.csv`` in the store's folder, and return them."""
    markers = store.markers()
    failures = [failure for shard in sorted(markers) for failure in markers[shard].get("failures", [])]
    with (store.path / "failures.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "reason"])
        writer.writeheader()
        writer.writerows(failures)
    return failures
