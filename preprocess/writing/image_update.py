"""What is done to a store whose images have changed: only those that are new, changed or repaired are estimated."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import FORMAT_VERSION, Geometry
from densereid.data_catalog.store.store import Store, damaged_shard, exists, open_store
from densereid.preprocess.writing.batch_rows import DecodedImage, EstimatedBatch, estimate, read_record
from densereid.preprocess.writing.changes import Changes, StoredImages, check_same_dataset, find_changes, lost_labels
from densereid.preprocess.writing.derived_store import COPIED
from densereid.preprocess.writing.inputs import UNKNOWN, read_inputs
from densereid.preprocess.writing.plan import (
    Plan,
    PreprocessConfig,
    PreprocessTask,
    check_settings,
    differing_settings,
    same_rows,
)
from densereid.preprocess.writing.update import Update, interrupted_updates, update_path


class StoredRow(NamedTuple):
    """Where the image and the dense pose of a row are taken from, and what is noted of it."""

    path: str
    store: Store
    row: int
    digest: str
    is_whole: bool


@dataclass(frozen=True)
class UpdatePlan(Plan):
    """A dataset into one store, some of whose rows other stores hold already: ``stored``, by the image's path."""

    stored: Mapping[str, StoredRow]

    def task(self, shard: int) -> UpdateTask:  # type: ignore[override]
        """The work of one shard: another :class:`ShardTask <densereid.preprocess.writing.plan.ShardTask>`."""
        task = super().task(shard)
        return UpdateTask(task, tuple(self.stored.get(record.path) for record in task.records))


@dataclass(frozen=True)
class UpdateTask:
    """One shard: what ``stored`` has of its rows is read from there, of the others the images from their files."""

    base: PreprocessTask
    stored: tuple[StoredRow | None, ...]

    @property
    def shard(self) -> int:
        """Its number."""
        return self.base.shard

    @property
    def geometry(self) -> Geometry:
        """The sizes of the store."""
        return self.base.geometry

    @property
    def config(self) -> PreprocessConfig:
        """How the store is made."""
        return self.base.config

    def read(
        self, rows: slice, readers: Executor
    ) -> tuple[Future[None] | None, list[StoredRow | Future[DecodedImage]]]:
        """Begin to read those images of ``rows`` (of this shard) that no store has, each a job of ``readers``."""
        checked = readers.submit(_check_copied, [row for row in self.stored if row]) if rows.start == 0 else None
        pairs = zip(self.base.records[rows], self.stored[rows], strict=True)
        return checked, [stored or self.base.read_one(record, readers) for record, stored in pairs]

    def estimate(
        self, reading: tuple[Future[None] | None, Sequence[StoredRow | Future[DecodedImage]]]
    ) -> EstimatedBatch:
        """The rows that :meth:`read` began to read, and those that are stored, in their order.

        Raises UserError where what is stored is damaged: it would get new checksums.
        """
        checked, batch = reading
        if checked is not None:
            checked.result()
        images = {index: row.result() for index, row in enumerate(batch) if isinstance(row, Future)}
        fresh = estimate(self.base.estimator, self.config.size, list(images.values()), device=self.config.device)
        stored = {index: row for index, row in enumerate(batch) if isinstance(row, StoredRow)}
        return _merge(len(batch), list(images), fresh, stored)

    def write(self, rows: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
        """Write the shard, then its marker."""
        self.base.write(rows, notes)


def _check_copied(rows: Sequence[StoredRow]) -> None:
    """Raise UserError where a shard from which rows are copied is not what its marker says."""
    for store, shard in {(row.store, row.row // row.store.geometry.shard_rows) for row in rows}:
        damaged = store.damaged_arrays(shard, COPIED)
        if damaged:
            raise damaged_shard(store, shard, damaged)


def _merge(total: int, fresh: Sequence[int], batch: EstimatedBatch, stored: Mapping[int, StoredRow]) -> EstimatedBatch:
    """The batch of ``total`` rows of which ``batch`` has those at the positions ``fresh``, in their order."""
    shape = (total, *batch.image.shape[1:])
    image, iuv = (torch.zeros(shape, dtype=torch.uint8, device=each.device) for each in (batch.image, batch.iuv))
    score, box = np.empty(total, np.float32), np.empty((total, 4), np.float32)
    inputs, taken_whole = [UNKNOWN] * total, {fresh[index]: path for index, path in batch.taken_whole.items()}
    image[fresh], iuv[fresh], score[fresh], box[fresh] = batch.image, batch.iuv, batch.score, batch.box
    for position, digest in zip(fresh, batch.inputs, strict=True):
        inputs[position] = digest
    for store in {row.store for row in stored.values()}:
        positions = [position for position, row in stored.items() if row.store is store]
        rows = np.array([stored[position].row for position in positions])
        for name, values in (("image", image), ("iuv", iuv)):
            values[positions] = torch.from_numpy(store.read(name, rows)).to(values.device)
        score[positions], box[positions] = store.read("score", rows), store.read("box", rows)
    for position, row in stored.items():
        inputs[position] = row.digest
        if row.is_whole:
            taken_whole[position] = row.path
    failures = {fresh[index]: failure for index, failure in batch.failures.items()}
    return EstimatedBatch(image, iuv, score, box, inputs, failures, taken_whole)


def find_image_update(plan: Plan) -> Update | None:
    """What has to be done to the store at the plan's path; None where there is none, or only shards are missing.

    Nothing is written. Raises UserError where that store has other settings, was made from another dataset, or has
    labels that would be lost unasked.
    """
    compared = [(stored, _changes(plan, stored)) for stored in _present_stores(plan)]
    if not compared:
        return None
    stored, changes = compared[0]
    check_same_dataset(stored, plan.dataset, changes)
    failed = stored.failed.difference(changes.changed, changes.gone)
    repaired = _readable(plan, failed)
    is_current = stored.store.path == plan.path and same_rows(plan, stored.store)
    if is_current and not changes.changed and not repaired:
        return None
    lost = _labels_given_up(plan, stored)
    kept = _kept_shards(plan, compared, failed - repaired)
    rows = {path: row for other in reversed(compared) for path, row in _sound_rows(*other).items()}
    current = {stored.store.path for stored, changes in compared if not changes.changed}
    path = update_path(plan, lambda store: store.path in current)
    words = [str(changes)] if changes.is_any() or repaired else ["identities, cameras or splits have changed"]
    words += [f"{len(repaired)} that failed can be read now"] if repaired else []
    words += [f"by this PATTERN not known any more: {lost}"] if lost else []
    update = UpdatePlan(plan.dataset, path, plan.estimator, plan.config, rows)
    return Update(plan.path, update, kept, ", ".join(words))


def _labels_given_up(plan: Plan, stored: StoredImages) -> str:
    """What a folder's PATTERN does not find any more, in words. Raises UserError where there is no PATTERN."""
    lost = lost_labels(stored.store, plan.rows())
    if lost and plan.dataset.spec is None and plan.dataset.pattern is None:
        recorded = read_inputs(stored.store.path)["pattern"]
        given = f"PATTERN={shlex.quote(recorded)}" if recorded else "the PATTERN"
        raise UserError(
            f"{stored.store.path} knows {lost}; without a PATTERN none of that is known, and it would be lost",
            f"give {given} with which the store was made; for a store without these labels choose another folder with "
            "STORE_ROOT, or delete this one",
        )
    return lost


def _changes(plan: Plan, stored: StoredImages) -> Changes:
    paths = [record.path for record in plan.dataset.records]
    return find_changes(stored, plan.dataset.root, paths, inputs=plan.estimator.inputs, stamps=plan.stamps)


def _present_stores(plan: Plan) -> list[StoredImages]:
    """The store at the plan's path, which must have its settings, and those of interrupted updates that have them."""
    paths = [path for path in (plan.path, *interrupted_updates(plan.path)) if exists(path)]
    stores = [open_store(path, incomplete=True) for path in paths]
    if stores and stores[0].path == plan.path:
        check_settings(plan, stores[0])
    return [StoredImages(store) for store in stores if not differing_settings(plan, store)]


def _readable(plan: Plan, paths: Collection[str]) -> frozenset[str]:
    """Those of ``paths``, images that failed, that can be read now, and whose dense pose can be had."""
    records = [record for record in plan.dataset.records if record.path in paths]
    root, config, estimator = plan.dataset.root, plan.config, plan.estimator
    size = config.size_in_reading
    readable: set[str] = set()
    for start in range(0, len(records), plan.config.batch_size):
        batch = records[start : start + plan.config.batch_size]
        images = [
            read_record(root, record, size, estimator.inputs(record.path), is_absent=record.path in plan.absent)
            for record in batch
        ]
        failures = estimate(estimator, config.size, images, device=config.device).failures
        readable |= {record.path for index, record in enumerate(batch) if index not in failures}
    return frozenset(readable)


def _sound_rows(stored: StoredImages, changes: Changes) -> dict[str, StoredRow]:
    """The rows of a store that are what reading and estimating their images again would give, by path."""
    left_out = stored.failed.union(changes.changed, changes.gone)
    return {
        path: StoredRow(path, stored.store, row, stored.digests[row], path in stored.taken_whole)
        for path, row in stored.rows.items()
        if path not in left_out and row not in stored.unattributed
    }


def _kept_shards(
    plan: Plan, compared: Sequence[tuple[StoredImages, Changes]], still_failing: Collection[str]
) -> dict[int, Store]:
    """The store that has each shard of the plan as it is to be, where one has."""
    paths = [record.path for record in plan.dataset.records]
    kept: dict[int, Store] = {}
    for stored, changes in reversed(compared):
        left_out = stored.failed.union(changes.changed).difference(still_failing)
        before, is_current = stored.store.geometry, stored.store.version == FORMAT_VERSION
        for shard in range(min(plan.geometry.num_shards, before.num_shards) if is_current else 0):
            rows = plan.geometry.shard_slice(shard)
            is_same = rows == before.shard_slice(shard) and stored.paths[rows] == paths[rows]
            if is_same and rows.start in stored.digests and left_out.isdisjoint(paths[rows]):
                kept[shard] = stored.store
    return kept
