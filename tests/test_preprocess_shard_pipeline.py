"""The stages of a shard overlap within bounds; an error or Ctrl-C in any of them stops all; the bytes are the same."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from helpers import contents
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Geometry, arrays_written
from densereid.data_catalog.store.store import open_store
from densereid.preprocess.writing import shard_pipeline
from densereid.preprocess.writing.batch_rows import EstimatedBatch
from densereid.preprocess.writing.fill import fill_shard, fill_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig
from densereid.preprocess.writing.shard_pipeline import READ_AHEAD, Progress, compute_shards

GEOMETRY = Geometry(num_samples=96, height=4, width=2, dsap_size=8, shard_rows=32)
CONFIG = PreprocessConfig((4, 2), 8, "last", shard_rows=32, batch_size=8)
BATCHES = 4
"""Of each of the three shards."""
SOON = 30.0
"""Seconds after which something that is waited for is taken not to come."""

Moment = tuple[str, int, int]
"""A moment of the work: the stage, the shard, the batch."""


@dataclass
class Journal:
    """What happened, in order; an action may be hung on any moment."""

    happened: list[Moment] = field(default_factory=list)
    actions: dict[Moment, Callable[[], object]] = field(default_factory=dict)
    events: dict[Moment, threading.Event] = field(default_factory=dict)

    def reach(self, stage: str, shard: int, batch: int = 0) -> None:
        self.happened.append((stage, shard, batch))
        self.event(stage, shard, batch).set()
        self.actions.get((stage, shard, batch), lambda: None)()

    def event(self, *moment: Any) -> threading.Event:
        return self.events.setdefault(moment, threading.Event())

    def wait_at(self, moment: Moment, until: Moment) -> None:
        """Hold the work up at ``moment`` until ``until`` is reached, which must not need what is held up."""

        def wait() -> None:
            assert self.event(*until).wait(SOON), f"{moment} came, {until} did not"

        self.actions[moment] = wait

    def fail_at(self, moment: Moment, error: BaseException) -> None:
        def fail() -> None:
            raise error

        self.actions[moment] = fail


@dataclass(frozen=True)
class FakeTask:
    """A shard of black images; says in the journal what is done with it."""

    shard: int
    journal: Journal
    geometry: Geometry = GEOMETRY
    config: PreprocessConfig = CONFIG

    def read(self, rows: slice, readers: Executor) -> tuple[int, Future[None]]:
        batch = rows.start // self.config.batch_size
        self.journal.reach("begin to read", self.shard, batch)
        return batch, readers.submit(self.journal.reach, "read", self.shard, batch)

    def estimate(self, reading: tuple[int, Future[None]]) -> EstimatedBatch:
        batch, future = reading
        future.result()
        self.journal.reach("estimate", self.shard, batch)
        black = torch.zeros(8, 4, 2, 3, dtype=torch.uint8)
        black[0, 0, 0, 2] = 10 * self.shard + batch  # says which batch this is
        return EstimatedBatch(black, torch.zeros_like(black), np.zeros(8, np.float32), np.zeros((8, 4), np.float32))

    def write(self, rows: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
        for stage in ("check", "write", "written"):
            self.journal.reach(stage, self.shard)


class FakePlan:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def task(self, shard: int) -> FakeTask:
        return FakeTask(shard, self.journal)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Of derivation, too; nothing is written."""
    journal = Journal()
    derive_rows = shard_pipeline.derive_rows

    def journal_derive(estimated: EstimatedBatch, **settings: Any) -> dict[str, np.ndarray]:
        journal.reach("derive", *divmod(int(estimated.image[0, 0, 0, 2]), 10))
        return derive_rows(estimated, **settings)

    monkeypatch.setattr(shard_pipeline, "derive_rows", journal_derive)
    return journal


def compute_all(journal: Journal) -> dict[int, Progress | Exception]:
    return dict(compute_shards(FakeTask(shard, journal) for shard in range(3)))


def test_files_are_read_while_the_estimator_works(journal: Journal) -> None:
    journal.wait_at(("estimate", 0, 0), until=("read", 0, 2))
    journal.wait_at(("estimate", 0, 3), until=("read", 1, 1))  # of the next shard, too
    assert compute_all(journal) == dict.fromkeys(range(3), Progress(32, 0, 32))


def test_derivation_runs_while_the_estimator_works(journal: Journal) -> None:
    journal.wait_at(("derive", 0, 0), until=("estimate", 0, 1))
    assert compute_all(journal) == dict.fromkeys(range(3), Progress(32, 0, 32))


def test_a_shard_is_written_while_the_next_is_computed(journal: Journal) -> None:
    journal.wait_at(("write", 0, 0), until=("derive", 1, 3))
    journal.wait_at(("estimate", 2, 0), until=("write", 1, 0))
    assert compute_all(journal) == dict.fromkeys(range(3), Progress(32, 0, 32))


def test_two_threads_of_a_process_take_turns(journal: Journal) -> None:
    """As in a Dask worker with two: one shard is written while the other is computed, and never are two computed."""
    journal.wait_at(("write", 0, 0), until=("derive", 1, 3))
    with ThreadPoolExecutor(2) as workers:
        began = workers.submit(fill_shard, FakeTask(0, journal))
        assert journal.event("estimate", 0, 0).wait(SOON)
        outcomes = [future.result() for future in (began, workers.submit(fill_shard, FakeTask(1, journal)))]
    assert outcomes == [Progress(32, 0, 32)] * 2
    computed = [shard for stage, shard, _ in journal.happened if stage in ("estimate", "derive")]
    assert computed == [0] * 2 * BATCHES + [1] * 2 * BATCHES


def test_no_more_than_so_many_batches_are_read_ahead(journal: Journal) -> None:
    compute_all(journal)
    begun, ahead = 0, []
    for stage, _, _ in journal.happened:
        begun += stage == "begin to read"
        if stage == "estimate":
            begun -= 1
            ahead.append(begun)
    assert max(ahead) == READ_AHEAD
    assert len(ahead) == 3 * BATCHES


@pytest.mark.parametrize("failing", [None, 1])
def test_at_most_two_shards_are_in_memory(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, failing: int | None
) -> None:
    """One that is computed and one that is written, however slow the writing; one that failed is dropped."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = []

    class Counted(shard_pipeline._Computed):
        def __init__(self, task: Any) -> None:
            super().__init__(task)
            alive.add(self)
            most.append(len(alive))

    monkeypatch.setattr(shard_pipeline, "_Computed", Counted)
    journal.wait_at(("write", 0, 0), until=("estimate", 1, 0) if failing is None else ("estimate", 2, 0))
    journal.wait_at(("write", 1, 0), until=("estimate", 2, 0))
    if failing is not None:
        journal.fail_at(("estimate", failing, 3), RuntimeError("no more"))
    outcomes = list(compute_shards(FakeTask(shard, journal) for shard in range(3)))
    assert most == [1, 2, 2]
    assert [shard for shard, outcome in outcomes if isinstance(outcome, Exception)] == [1] * (failing is not None)


@pytest.mark.parametrize("stage", ["read", "estimate", "derive", "check", "write"])
def test_a_shard_that_fails_in_any_stage_is_named_and_the_others_are_written(journal: Journal, stage: str) -> None:
    journal.fail_at((stage, 1, 0), RuntimeError("cannot stand it"))
    with pytest.raises(UserError, match=r"1 of 3 shards failed, .*\n  shard 1: RuntimeError: cannot stand it\n"):
        fill_store(FakePlan(journal), [0, 1, 2])
    assert [shard for name, shard, _ in journal.happened if name == "written"] == [0, 2]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UserError("no such weights")])
@pytest.mark.parametrize("stage", ["read", "estimate", "derive", "check", "write"])
def test_an_error_that_all_shards_would_meet_stops_every_stage(journal: Journal, stage: str, error: Exception) -> None:
    threads = set(threading.enumerate())
    journal.fail_at((stage, 0, 0), error)
    with pytest.raises(type(error), match=r"No space left|no such weights"):
        fill_store(FakePlan(journal), [0, 1, 2])
    assert set(threading.enumerate()) == threads
    assert not [moment for moment in journal.happened if moment[0] == "written" or moment[:2] == ("estimate", 2)]


def test_a_failed_write_stops_the_shard_that_is_computed(journal: Journal) -> None:
    """A full disk is told at the next batch, not after a shard that may take an hour."""
    journal.fail_at(("write", 0, 0), OSError(28, "No space left on device"))
    journal.wait_at(("estimate", 1, 0), until=("write", 0, 0))
    with pytest.raises(OSError, match="No space left"):
        fill_store(FakePlan(journal), [0, 1, 2])
    estimated = [batch for stage, shard, batch in journal.happened if (stage, shard) == ("estimate", 1)]
    assert len(estimated) < BATCHES


def test_the_first_error_is_the_one_that_is_told(journal: Journal) -> None:
    journal.fail_at(("derive", 0, 0), OSError("the first"))
    journal.fail_at(("estimate", 0, 3), OSError("a later one"))
    journal.wait_at(("estimate", 0, 2), until=("derive", 0, 0))
    with pytest.raises(OSError, match="the first"):
        fill_store(FakePlan(journal), [0])


def test_ctrl_c_leaves_nothing_at_work_and_finishes_the_shard_that_is_written(journal: Journal) -> None:
    threads = set(threading.enumerate())
    journal.fail_at(("estimate", 1, 2), KeyboardInterrupt())
    journal.wait_at(("write", 0, 0), until=("estimate", 1, 2))
    with pytest.raises(KeyboardInterrupt):
        fill_store(FakePlan(journal), [0, 1, 2])
    assert set(threading.enumerate()) == threads
    assert [moment for moment in journal.happened if moment[0] == "written"] == [("written", 0, 0)]


def test_progress_counts_what_is_derived_in_the_callers_thread(journal: Journal) -> None:
    seen = []

    def on_progress(progress: Progress) -> None:
        derived = sum(stage == "derive" for stage, _, _ in journal.happened)
        seen.append((progress.images, threading.current_thread()))
        assert sum(images for images, _ in seen) <= 8 * derived

    journal.fail_at(("derive", 1, 3), RuntimeError("not counted"))
    with pytest.raises(UserError, match="not counted"):
        fill_store(FakePlan(journal), [0, 1, 2], on_progress=on_progress)
    assert seen == [(8, threading.main_thread())] * 11


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_bytes_are_those_of_one_image_after_the_other(
    crops: Path, tmp_path: Path, make_plan: Callable[..., Plan], fill: Callable[[Plan, str], None], batch_size: int
) -> None:
    (crops / "0002_c2.png").write_bytes(b"not an image")
    Image.new("RGB", (5, 5)).save(crops / "iuv" / "0004_c2_IUV.png")
    plan = make_plan(crops, tmp_path / "store", "folder", batch_size=batch_size)
    fill(plan, "zarr")
    store = open_store(tmp_path / "store")
    expected = [reference.row(plan.estimator, plan.dataset.root, record, (64, 32)) for record in plan.dataset.records]
    for spec in arrays_written("shard"):
        np.testing.assert_array_equal(store.read(spec.name), np.stack([row[spec.name] for row in expected]), spec.name)
    fill(replace(plan, path=tmp_path / "again"), "zarr")
    assert contents(tmp_path / "again") == contents(tmp_path / "store")
