"""A store from another one: its images and dense pose as they are, its masks and DSAP images computed again."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Geometry, arrays_written
from densereid.data_catalog.store.store import Store, open_store
from densereid.preprocess.semantics.derive import Collision
from densereid.preprocess.writing.batch_rows import EstimatedBatch
from densereid.preprocess.writing.plan import PreprocessConfig, prepare

TAKEN_OVER = ("image", "iuv", "score", "box", "status")
"""Arrays of a shard that do not depend on how its DSAP images are made."""


@dataclass(frozen=True)
class DerivedPlan:
    """The store ``source`` (complete; its path absolute) into one at ``path`` with other DSAP images."""

    source: Store
    path: AnyPath
    dsap_size: int
    collision: Collision
    device: str = "cpu"

    @property
    def geometry(self) -> Geometry:
        """The source's, but for the DSAP images."""
        return replace(self.source.geometry, dsap_size=self.dsap_size)

    @property
    def config(self) -> PreprocessConfig:
        """The source's, but for the DSAP images."""
        size = (self.source.geometry.height, self.source.geometry.width)
        return PreprocessConfig(
            size, self.dsap_size, self.collision, self.source.geometry.shard_rows, device=self.device
        )

    def task(self, shard: int) -> DerivedTask:
        """The work of one shard."""
        return DerivedTask(shard, self.path.absolute(), self.geometry, self.config, self.source, self._markers[shard])

    @cached_property
    def _markers(self) -> dict[int, dict[str, Any]]:
        return self.source.markers()

    def attributes(self) -> dict[str, Any]:
        """What preprocessing from the images would say about the store's making."""
        taken_over = {name: self.source.attributes[name] for name in ("dataset", "estimator")}
        return {**taken_over, "collision": self.collision}

    def origin(self) -> dict[str, Any]:
        """From which other store this one was made."""
        told = ("collision", "derived_from")
        known = {name: self.source.attributes[name] for name in told if name in self.source.attributes}
        source = {"store": self.source.path.name, "dsap_size": self.source.geometry.dsap_size, **known}
        return {"derived_from": source}

    def rows(self) -> dict[str, np.ndarray]:
        """The arrays that are known before anything is computed."""
        return {spec.name: self.source.read(spec.name) for spec in arrays_written("create")}


@dataclass(frozen=True)
class DerivedTask:
    """All that a worker needs to derive one shard: see :class:`densereid.preprocess.writing.shard_pipeline.Task`."""

    shard: int
    path: AnyPath
    geometry: Geometry
    config: PreprocessConfig
    source: Store
    marker: Mapping[str, Any]
    """The source's, of this shard."""

    def read(self, rows: slice, readers: Executor) -> slice:  # noqa: ARG002 - the estimating thread has nothing to do
        """Leave the reading to :meth:`estimate`."""
        return rows

    def estimate(self, reading: slice) -> EstimatedBatch:
        """The rows ``reading`` of the shard as the source holds them."""
        first = self.geometry.shard_slice(self.shard).start
        rows = slice(first + reading.start, first + reading.stop)
        image, iuv = (torch.from_numpy(self.source.read(name, rows)) for name in ("image", "iuv"))
        score, box = (self.source.read(name, rows) for name in ("score", "box"))
        # The marker counts them by shard: the shard's first batch brings them all.
        num_fallbacks = self.marker.get("taken_whole", 0) if reading.start == 0 else 0
        return EstimatedBatch(image, iuv, score, box, self._failures(rows), num_fallbacks)

    def _failures(self, rows: slice) -> dict[int, dict[str, str]]:
        failures = {failure["path"]: failure for failure in self.marker.get("failures", [])}
        paths = self.source.read("path", rows) if failures else ()
        return {place: failures[path] for place, path in enumerate(paths) if path in failures}

    def check(self, rows: Mapping[str, np.ndarray]) -> None:
        """Raise UserError where what was taken over is not what the source's marker says it wrote."""
        checksums = self.marker["crc32"]
        damaged = [name for name in TAKEN_OVER if zlib.crc32(rows[name].data) != checksums[name]]
        if damaged:
            raise UserError(
                f"shard {self.shard} of {self.source.path} is damaged: {', '.join(damaged)}",
                f"`python -m pipeline verify {self.source.path}` says what else is",
            )


def prepare_derived(plan: DerivedPlan, *, format: str) -> list[int]:
    """Make the store, or check that the one at ``plan.path`` can be gone on with; return the missing shards.

    Raises UserError where the store is the source itself, was made otherwise, or from other images.
    """
    source = plan.source
    if _resolved(plan.path) == _resolved(source.path):
        raise UserError(
            f"{source.path} has these DSAP images already: size {plan.dsap_size}, collision {plan.collision}",
            "say which are wanted: DSAP_SIZE=64, or COLLISION=mean",
        )
    missing = prepare(plan, format=format)
    theirs, ours = source.markers(), open_store(plan.path, incomplete=True).markers()
    other = [
        shard
        for shard, marker in ours.items()
        if any(marker["crc32"][name] != theirs[shard]["crc32"][name] for name in TAKEN_OVER)
    ]
    if other:
        raise UserError(
            f"{plan.path} was made from other images or IUV maps than {source.path} holds: shards {other}",
            "delete it to make it anew",
        )
    return missing


def _resolved(place: AnyPath) -> AnyPath:
    return place.resolve() if isinstance(place, Path) else place
