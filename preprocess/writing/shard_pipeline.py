"""Shards computed in one process by stages that overlap, so that the estimator waits for no file and no compression.

Threads read files ahead; the caller's thread estimates; one thread derives masks and DSAP images; one compresses and
writes a shard while the next is computed. At most two shards are in memory. Where a process computes shards in two
threads, as a Dask worker may, they take turns: one writes while the other computes. The bytes do not depend on any of
this.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Status, arrays_written
from densereid.preprocess.writing.batch_rows import EstimatedBatch, derive_rows
from densereid.preprocess.writing.plan import ShardTask

READ_AHEAD = 2
"""Batches read, or being read, before the estimator asks for them."""

_READERS = 4
"""Threads that read images: Pillow releases the interpreter lock while it decodes."""

_DERIVED_BEHIND = 2
"""Batches with dense pose that may wait for their masks and DSAP images."""

_COMPUTING = threading.Lock()
"""Held while a shard is computed: two at once would share a GPU's memory and gain nothing."""

FATAL_ERRORS = (OSError, UserError)
"""Errors that every other shard would meet too: a full disk, weights that are not there."""


@dataclass(frozen=True)
class Progress:
    """What was just finished: a number of images, how many of them failed, and in how many no person was found."""

    images: int = 0
    failed: int = 0
    no_person: int = 0

    def __add__(self, other: Progress) -> Progress:
        return Progress(self.images + other.images, self.failed + other.failed, self.no_person + other.no_person)


OnProgress = Callable[[Progress], None]


def compute_shards(
    tasks: Iterable[ShardTask], on_progress: OnProgress | None = None
) -> Generator[tuple[int, Progress | Exception], None, None]:
    """Compute and write each shard; yield its number with its totals, or with what went wrong.

    A shard that fails does not keep the others from being computed. Whatever ends the iteration, nothing is at work
    afterwards, and what is written is whole. ``on_progress`` is called in the caller's thread, after each batch.
    """
    failed: set[int] = set()
    writing: _Writing | None = None
    with _threads(_READERS) as readers, _threads(1) as deriver, _threads(1) as writer:
        for task, batches in groupby(_read_ahead(tasks, readers, failed), attrgetter("task")):
            try:
                with _COMPUTING:
                    computed = _compute(task, batches, deriver, writing, on_progress)
            except Exception as error:  # the caller's to report
                failed.add(task.shard)
                yield task.shard, _without_frames(error)
                continue
            if writing is not None:
                yield writing.outcome()
            writing = _Writing(task.shard, writer.submit(computed.write))
            del computed  # or it would stay in memory beside the two that come
        if writing is not None:
            yield writing.outcome()


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that at the end, however it comes, drops the jobs that have not begun and waits for the others."""
    pool = ThreadPoolExecutor(number)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _without_frames(error: Exception) -> Exception:
    """The error without its traceback, whose frames would keep the shard's arrays in memory."""
    return error.with_traceback(None)


@dataclass(frozen=True)
class _Batch:
    """Rows of a shard that are being read."""

    task: ShardTask
    rows: slice
    reading: Any


def _read_ahead(tasks: Iterable[ShardTask], readers: Executor, failed: Collection[int]) -> Iterator[_Batch]:
    """Every batch of every shard in order while the next ones are read; no more of a shard that failed."""
    waiting: deque[_Batch] = deque()
    for task in tasks:
        covered = task.geometry.shard_slice(task.shard)
        images, size = covered.stop - covered.start, task.config.batch_size
        for start in range(0, images, size):
            if task.shard in failed:
                break
            rows = slice(start, min(start + size, images))
            waiting.append(_Batch(task, rows, task.read(rows, readers)))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft()
    yield from waiting


def _compute(
    task: ShardTask,
    batches: Iterable[_Batch],
    deriver: Executor,
    writing: _Writing | None,
    on_progress: OnProgress | None,
) -> _Computed:
    """One shard, estimated here and derived by ``deriver``; stops early where ``writing`` failed with a fatal error."""
    computed = _Computed(task)
    derived: deque[Future[Progress]] = deque()

    def count_one() -> None:
        progress = derived.popleft().result()
        computed.total += progress
        if on_progress is not None:
            on_progress(progress)

    try:
        for batch in batches:
            if writing is not None:
                writing.raise_if_stopped()
            estimated = task.estimate(batch.reading)
            derived.append(deriver.submit(computed.derive, batch.rows, estimated))
            if len(derived) > _DERIVED_BEHIND:
                count_one()
        while derived:
            count_one()
    finally:  # a shard that failed leaves the memory before the next one comes
        for future in derived:
            future.cancel()
        wait(derived)
    return computed


class _Computed:
    """A shard in memory."""

    def __init__(self, task: ShardTask) -> None:
        self.total = Progress()
        self._task = task
        self._failures: list[dict[str, str]] = []
        self._inputs: list[str] = []
        self._taken_whole: list[str] = []
        covered = task.geometry.shard_slice(task.shard)
        self._rows = {
            spec.name: np.empty((covered.stop - covered.start, *spec.shape(task.geometry)[1:]), spec.dtype)
            for spec in arrays_written("shard")
        }

    def derive(self, rows: slice, estimated: EstimatedBatch) -> Progress:
        """Fill in ``rows``; batches come in order."""
        config = self._task.config
        values = derive_rows(estimated, dsap_size=config.dsap_size, collision=config.collision, device=config.device)
        for name, value in values.items():
            self._rows[name][rows] = value
        self._failures += [estimated.failures[index] for index in sorted(estimated.failures)]
        self._inputs += estimated.inputs
        self._taken_whole += [estimated.taken_whole[index] for index in sorted(estimated.taken_whole)]
        no_person = int(np.sum(values["status"] == Status.NO_PERSON))
        return Progress(len(values["status"]), len(estimated.failures), no_person)

    def write(self) -> Progress:
        """Write the shard and its marker; its totals."""
        notes = {
            "failures": self._failures,
            "inputs": self._inputs,
            "no_person": self.total.no_person,
            "taken_whole": len(self._taken_whole),
            "whole_images": self._taken_whole,
        }
        self._task.write(self._rows, notes)
        return self.total


@dataclass(frozen=True)
class _Writing:
    """A shard that is being written."""

    shard: int
    written: Future[Progress]

    def outcome(self) -> tuple[int, Progress | Exception]:
        """Wait for the end; the totals, or what went wrong."""
        try:
            return self.shard, self.written.result()
        except Exception as error:  # the caller's to report
            return self.shard, _without_frames(error)

    def raise_if_stopped(self) -> None:
        """Raise what went wrong, where it did already and the other shards would meet it too."""
        error = self.written.exception() if self.written.done() else None
        if isinstance(error, FATAL_ERRORS):
            raise error
