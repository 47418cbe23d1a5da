"""What a preprocessing run makes, decided before it starts: the plan, and the store that fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.store import Store, create_store, exists, open_store, remove_leftovers
from densereid.preprocess.estimators.base import Estimator
from densereid.preprocess.semantics.derive import Collision
from densereid.preprocess.writing.batch_rows import DecodedImage, EstimatedBatch, estimate, read_record


@dataclass(frozen=True)
class PreprocessConfig:
    """How a store is made: canonical (height, width), DSAP size and rule, rows per shard, images per batch."""

    size: tuple[int, int]
    dsap_size: int = 32
    collision: Collision = "last"
    shard_rows: int = 1024
    batch_size: int = 64
    device: str = "cpu"


@dataclass(frozen=True)
class Plan:
    """One dataset into one store."""

    dataset: Dataset
    path: AnyPath
    estimator: Estimator
    config: PreprocessConfig

    @property
    def geometry(self) -> Geometry:
        """The sizes of the store."""
        height, width = self.config.size
        return Geometry(len(self.dataset.records), height, width, self.config.dsap_size, self.config.shard_rows)

    def task(self, shard: int) -> ShardTask:
        """The work of one shard. Paths are absolute: a worker may have another working directory."""
        geometry = self.geometry
        return ShardTask(
            shard,
            self.dataset.records[geometry.shard_slice(shard)],
            self.dataset.root.absolute(),
            self.path.absolute(),
            geometry,
            self.estimator,
            self.config,
        )

    def attributes(self) -> dict[str, Any]:
        """What the store says about its making; equal for two runs that give equal stores."""
        return {
            "dataset": self.dataset.name,
            "estimator": {"name": self.estimator.name, **self.estimator.settings()},
            "collision": self.config.collision,
        }

    def origin(self) -> dict[str, Any]:
        """Nothing besides; who made the store is in its provenance.json (preprocess/writing/provenance.py)."""
        return {}

    def rows(self) -> dict[str, np.ndarray]:
        """The arrays that are known before anything is computed."""
        return self.dataset.rows()


@dataclass(frozen=True)
class ShardTask:
    """The unit of work: all that a worker needs to compute and write one shard, and nothing of the others."""

    shard: int
    records: tuple[ImageRecord, ...]
    root: Path
    path: AnyPath
    geometry: Geometry
    estimator: Estimator
    config: PreprocessConfig

    def read(self, rows: slice, readers: Executor) -> list[Future[DecodedImage]]:
        """Begin to read the images of ``rows`` (of this shard), each a job of ``readers``."""
        return [readers.submit(read_record, self.root, record, self.config.size) for record in self.records[rows]]

    def estimate(self, reading: Sequence[Future[DecodedImage]]) -> EstimatedBatch:
        """The images that :meth:`read` began to read, with their dense pose."""
        return estimate(self.estimator, self.config.size, [future.result() for future in reading])

    def check(self, rows: Mapping[str, np.ndarray]) -> None:
        """Nothing to compare a shard with that is made for the first time."""


class StorePlan(Protocol):
    """What is decided about a store before it is made; :class:`Plan` is one."""

    @property
    def path(self) -> AnyPath:
        """Where the store lives, or will."""
        ...

    @property
    def config(self) -> PreprocessConfig:
        """How the store is made."""
        ...

    @property
    def geometry(self) -> Geometry:
        """The sizes of the store."""
        ...

    def attributes(self) -> dict[str, Any]:
        """What the store says about its making; equal for two runs that give equal stores."""
        ...

    def origin(self) -> dict[str, Any]:
        """What the store says besides, which may differ."""
        ...

    def rows(self) -> dict[str, np.ndarray]:
        """The arrays that are known before anything is computed."""
        ...


def prepare(plan: StorePlan, *, format: str) -> list[int]:
    """Make the store, or check that the one at ``plan.path`` is of the same making; return the missing shards."""
    if not exists(plan.path):
        create_store(
            plan.path,
            format=format,
            geometry=plan.geometry,
            attributes={**plan.attributes(), **plan.origin()},
            rows=plan.rows(),
        )
    store = open_store(plan.path, incomplete=True)
    check_same(plan, store)
    remove_leftovers(plan.path)
    return store.missing_shards()


def check_same(plan: StorePlan, store: Store) -> None:
    """Raise UserError that names every difference unless the store is of the plan's making."""
    wanted = {**plan.attributes(), **plan.geometry.to_dict()}
    found = {**store.attributes, **store.geometry.to_dict()}
    different = [
        f"{key} is {found.get(key)}, asked for {value}" for key, value in wanted.items() if found.get(key) != value
    ]
    if not different:
        rows = plan.rows()
        changed = sum(store.read(name) != values for name, values in rows.items())
        if np.any(changed):
            different = [f"{np.count_nonzero(changed)} images are not those of the store"]
    if different:
        raise UserError(
            f"{plan.path} was made otherwise: {'; '.join(different)}",
            "delete it to make it anew, or choose another folder with STORE_ROOT",
        )
