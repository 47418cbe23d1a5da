"""Filling a store: shard by shard, resumable, in this process or in several."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch

from data_catalog.errors import UserError
from data_catalog.records import ImageRecord
from data_catalog.schema import Status, arrays_written
from data_catalog.store import Store, write_shard
from preprocess.plan import Plan
from preprocess.rows import compute_rows, read_crop

_READERS = 4
"""Threads that decode images: Pillow releases the interpreter lock while it decodes."""


@dataclass(frozen=True)
class Progress:
    """What was just finished: a number of images, how many of them failed, and in how many no person was found."""

    images: int
    failed: int
    no_person: int


def fill_store(
    plan: Plan, shards: list[int], *, workers: int = 0, on_progress: Callable[[Progress], None] | None = None
) -> None:
    """Compute and write ``shards``: in this process, or by ``workers`` processes of which each owns a whole shard."""
    if workers == 0:
        for shard in shards:
            fill_shard(plan, shard, on_progress=on_progress)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as executor:
        _fill_by_processes(executor, plan, shards, on_progress)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _fill_by_processes(
    executor: Executor, plan: Plan, shards: list[int], on_progress: Callable[[Progress], None] | None
) -> None:
    futures = [executor.submit(fill_shard, plan, shard) for shard in shards]
    try:
        for future in as_completed(futures):
            done = future.result()
            if on_progress is not None:
                on_progress(done)
    except BrokenProcessPool:
        raise UserError(
            "a worker process died; most often the machine ran out of memory",
            "finished shards are kept: run the same command again with fewer WORKERS or smaller --shard-rows",
        ) from None
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise


def fill_shard(plan: Plan, shard: int, *, on_progress: Callable[[Progress], None] | None = None) -> Progress:
    """Compute one shard in memory and write it; return its totals."""
    geometry = plan.geometry
    covered = geometry.shard_slice(shard)
    records = plan.dataset.records[covered]
    arrays = {
        spec.name: np.empty((len(records), *spec.shape(geometry)[1:]), spec.dtype) for spec in arrays_written("shard")
    }
    failures: list[dict[str, str]] = []
    total = Progress(0, 0, 0)
    for rows, reasons in _batches(plan, records):
        done = Progress(len(rows["status"]), len(reasons), int(np.sum(rows["status"] == Status.NO_PERSON)))
        for name, values in rows.items():
            arrays[name][total.images : total.images + done.images] = values
        failures += [{"path": path, "reason": reason} for path, reason in sorted(reasons.items())]
        total = Progress(total.images + done.images, total.failed + done.failed, total.no_person + done.no_person)
        if on_progress is not None:
            on_progress(done)
    write_shard(plan.path, shard=shard, rows=arrays, notes={"failures": failures, "no_person": total.no_person})
    return total


def _batches(plan: Plan, records: tuple[ImageRecord, ...]) -> Iterator[tuple[dict[str, np.ndarray], dict[str, str]]]:
    size = plan.config.batch_size
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(records), size):
            batch = records[start : start + size]
            crops = list(readers.map(partial(read_crop, plan.dataset.root), batch))
            yield compute_rows(plan.estimator, plan.config, crops)


def write_failures(store: Store) -> list[dict[str, str]]:
    """Collect the failures of all finished shards into ``failures.csv`` in the store's folder, and return them."""
    markers = store.markers()
    failures = [failure for shard in sorted(markers) for failure in markers[shard].get("failures", [])]
    with (store.path / "failures.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "reason"])
        writer.writeheader()
        writer.writerows(failures)
    return failures
