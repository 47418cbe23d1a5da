"""What a preprocessing run makes, decided before it starts: the plan of a store, and the store that fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.store import Store, create_store, exists, open_store, remove_leftovers, write_shard
from densereid.preprocess.estimators.base import Estimator
from densereid.preprocess.semantics.derive import Collision
from densereid.preprocess.writing.batch_rows import DecodedImage, EstimatedBatch, estimate, read_record
from densereid.preprocess.writing.inputs import ABSENT, image_of, in_threads, stamp_of, write_inputs

DERIVED_FROM = "derived_from"
"""Attribute of a store that was made from another one, and which; it is not compared, because the rows are equal."""


@dataclass(frozen=True)
class PreprocessConfig:
    """How a store is made: canonical (height, width), DSAP size and rule, rows per shard, images per batch."""

    size: tuple[int, int]
    dsap_size: int
    collision: Collision
    shard_rows: int = Geometry.shard_rows
    batch_size: int = 64
    device: str = "cpu"

    @property
    def size_in_reading(self) -> tuple[int, int] | None:
        """To what images are resized while they are read; on a GPU that comes later, a batch at a time."""
        return self.size if self.device == "cpu" else None


class StorePlan(Protocol):
    """Which store is made, where, and from what: from images (:class:`Plan`), or from another store."""

    @property
    def path(self) -> AnyPath:
        """Where the store is, or will be."""
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
        """What the store says about how it was made; equal for two runs that give equal stores."""
        ...

    def rows(self) -> dict[str, np.ndarray]:
        """The arrays that are known before anything is computed."""
        ...

    def check(self, store: Store) -> None:
        """Raise UserError that names every difference unless ``store`` can be resumed by this plan."""
        ...

    def record_inputs(self) -> None:
        """Write beside the store's arrays where its images lie, before any of them is read."""
        ...

    def task(self, shard: int) -> ShardTask:
        """The work of one shard. Its paths are absolute: a worker may have another working directory."""
        ...


class ShardTask(Protocol):
    """The unit of work: what a process needs to compute and write one shard, and nothing of the others; it pickles."""

    @property
    def shard(self) -> int:
        """Its number."""
        ...

    @property
    def geometry(self) -> Geometry:
        """The sizes of the store."""
        ...

    @property
    def config(self) -> PreprocessConfig:
        """How the store is made."""
        ...

    def read(self, rows: slice, readers: Executor) -> Any:
        """Begin to read ``rows`` of the shard, as jobs of ``readers``; what :meth:`estimate` takes."""
        ...

    def estimate(self, reading: Any) -> EstimatedBatch:
        """The rows that :meth:`read` began to read, with their dense pose."""
        ...

    def write(self, rows: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
        """Write the shard, and at the end its marker with ``notes``. Raises UserError where the rows are wrong."""
        ...


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

    def attributes(self) -> dict[str, Any]:
        """Dataset, estimator with its settings, and DSAP rule."""
        return {
            "dataset": self.dataset.name,
            "estimator": {"name": self.estimator.name, **self.estimator.settings()},
            "collision": self.config.collision,
        }

    def rows(self) -> dict[str, np.ndarray]:
        """What the dataset alone decides."""
        return self.dataset.rows()

    def check(self, store: Store) -> None:
        """Raise UserError unless ``store`` has the plan's attributes, sizes and images."""
        check_same(self, store)

    @cached_property
    def stamps(self) -> list[str]:
        """Stamp of every image, as it is when this is first asked for."""
        root, inputs = self.dataset.root, self.estimator.inputs
        return in_threads(lambda record: stamp_of(root / record.path, inputs(record.path)), self.dataset.records)

    @cached_property
    def absent(self) -> frozenset[str]:
        """Paths of the images that only a list names: an incomplete copy of a dataset does not have them.

        Every other image was seen in its folder. Raises FileNotFoundError where the folder of the images is gone.
        """
        spec, root = self.dataset.spec, self.dataset.root
        if spec is None or not spec.split_lists:
            return frozenset()
        pairs = zip(self.dataset.records, self.stamps, strict=True)
        absent = frozenset(record.path for record, stamp in pairs if image_of(stamp) == ABSENT)
        for folder in {Path(path).parts[0] for path in absent}:
            (root / folder).stat()
        return absent

    def record_inputs(self) -> None:
        """Write the dataset's folders and pattern, and the stamp of every image."""
        root, iuv_root = str(self.dataset.root.resolve()), self.dataset.iuv_root
        maps, pattern = "" if iuv_root is None else str(iuv_root.resolve()), self.dataset.pattern or ""
        write_inputs(self.path, {"root": root, "iuv_root": maps, "pattern": pattern, "stamps": self.stamps})

    def task(self, shard: int) -> PreprocessTask:
        """The work of one shard."""
        geometry = self.geometry
        return PreprocessTask(
            shard,
            self.dataset.records[geometry.shard_slice(shard)],
            self.dataset.root.absolute(),
            self.path.absolute(),
            geometry,
            self.estimator,
            self.config,
            self.absent,
        )


@dataclass(frozen=True)
class PreprocessTask:
    """One shard of a dataset: its images are read from their files, and an estimator gives their dense pose."""

    shard: int
    records: tuple[ImageRecord, ...]
    root: Path
    path: AnyPath
    geometry: Geometry
    estimator: Estimator
    config: PreprocessConfig
    absent: frozenset[str] = frozenset()
    """Paths that need not be there; any other that is not stops the run."""

    def read(self, rows: slice, readers: Executor) -> list[Future[DecodedImage]]:
        """Begin to read the images of ``rows`` (of this shard), each a job of ``readers``."""
        return [self.read_one(record, readers) for record in self.records[rows]]

    def read_one(self, record: ImageRecord, readers: Executor) -> Future[DecodedImage]:
        """Begin to read one image as a job of ``readers``."""
        inputs, is_absent = self.estimator.inputs(record.path), record.path in self.absent
        size = self.config.size_in_reading
        return readers.submit(read_record, self.root, record, size, inputs, is_absent=is_absent)

    def estimate(self, reading: Sequence[Future[DecodedImage]]) -> EstimatedBatch:
        """The images that :meth:`read` began to read, with their dense pose."""
        images = [future.result() for future in reading]
        return estimate(self.estimator, self.config.size, images, device=self.config.device)

    def write(self, rows: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
        """Write the shard, then its marker."""
        write_shard(self.path, shard=self.shard, rows=rows, notes=notes)


def prepare(plan: StorePlan, *, format: str) -> list[int]:
    """Create the plan's store, or check that the one at its path can be resumed; return the missing shards.

    Raises UserError where the store that is there was created with other settings or from other images.
    """
    if not exists(plan.path):
        create_store(plan.path, format=format, geometry=plan.geometry, attributes=plan.attributes(), rows=plan.rows())
    store = open_store(plan.path, incomplete=True)
    plan.check(store)
    remove_leftovers(plan.path)
    missing = store.missing_shards()
    try:
        plan.record_inputs()
    except OSError:
        if missing:  # a finished store may lie where nothing can be written: what is recorded only spares reading
            raise
    return missing


def check_same(plan: StorePlan, store: Store) -> None:
    """Raise UserError that names every difference between the plan's attributes, sizes and images and the store's."""
    check_settings(plan, store)
    if not same_rows(plan, store):
        raise UserError(
            f"{plan.path} was created from other images than there are now",
            "choose another folder with STORE_ROOT, or move it away to create it again",
        )


def check_settings(plan: StorePlan, store: Store) -> None:
    """Raise UserError that names every difference between the plan's settings and sizes and those of the store."""
    different = differing_settings(plan, store)
    if different:
        raise UserError(
            f"{plan.path} was created with different settings: {'; '.join(different)}",
            "choose another folder with STORE_ROOT, or move it away to create it again",
        )


def differing_settings(plan: StorePlan, store: Store) -> list[str]:
    """What differs between the plan's settings and sizes and those of the store, one sentence each.

    The number of images may differ, and whatever a store does not say, because it is older, or says beside.
    """
    wanted = {**plan.attributes(), **plan.geometry.to_dict()}
    actual = {**store.attributes, **store.geometry.to_dict()}
    for name in ("num_samples", DERIVED_FROM):
        wanted.pop(name, None)
    return [
        f"{key} is {actual.get(key)}, asked for {value}"
        for key, value in wanted.items()
        if _shared(actual.get(key), value) != value
    ]


def _shared(actual: Any, wanted: Any) -> Any:
    """Of a setting that holds several, those that are asked for."""
    if not isinstance(actual, dict) or not isinstance(wanted, dict):
        return actual
    return {key: value for key, value in actual.items() if key in wanted}


def same_rows(plan: StorePlan, store: Store) -> bool:
    """Whether the store has exactly the plan's images, in their order, with their labels."""
    return plan.geometry == store.geometry and all(
        np.array_equal(store.read(name), values) for name, values in plan.rows().items()
    )
