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
from densereid.data_catalog.store.store import Store, write_shard
from densereid.preprocess.semantics.derive import Collision
from densereid.preprocess.writing.batch_rows import EstimatedBatch
from densereid.preprocess.writing.plan import DERIVED_FROM, PreprocessConfig, check_same

COPIED = ("image", "iuv", "score", "box", "status")
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

    def attributes(self) -> dict[str, Any]:
        """What preprocessing from the images would give the store, and which store this one is made from."""
        attributes = self.source.attributes
        described = {key: attributes[key] for key in ("collision", DERIVED_FROM) if key in attributes}
        origin = {"store": self.source.path.name, "dsap_size": self.source.geometry.dsap_size, **described}
        copied = {key: attributes[key] for key in ("dataset", "estimator")}
        return {**copied, "collision": self.collision, DERIVED_FROM: origin}

    def rows(self) -> dict[str, np.ndarray]:
        """The source's."""
        return {spec.name: self.source.read(spec.name) for spec in arrays_written("create")}

    def check(self, store: Store) -> None:
        """Raise UserError where ``store`` is the source itself, has other settings, or was made from other images."""
        if _resolved(self.path) == _resolved(self.source.path):
            raise UserError(
                f"{self.source.path} has these DSAP images already: size {self.dsap_size}, collision {self.collision}",
                "choose other ones: DSAP_SIZE=64, or COLLISION=mean",
            )
        check_same(self, store)
        source, written = self.source.markers(), store.markers()
        other = [shard for shard in written if _copied(written[shard]) != _copied(source[shard])]
        if other:
            raise UserError(
                f"{self.path} was made from other images or IUV maps than {self.source.path} holds: shards {other}",
                "delete it to create it again",
            )

    def task(self, shard: int) -> DerivedTask:
        """The work of one shard."""
        return DerivedTask(shard, self.path.absolute(), self.geometry, self.config, self.source, self._markers[shard])

    @cached_property
    def _markers(self) -> dict[int, dict[str, Any]]:
        return self.source.markers()


@dataclass(frozen=True)
class DerivedTask:
    """One shard of a derived store: images and dense pose are read from the source."""

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
        return {index: failures[path] for index, path in enumerate(paths) if path in failures}

    def write(self, rows: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
        """Write the shard, then its marker; UserError where what was copied is not what the source's marker says."""
        expected = _copied(self.marker)
        damaged = [name for name in COPIED if zlib.crc32(rows[name].data) != expected[name]]
        if damaged:
            raise UserError(
                f"shard {self.shard} of {self.source.path} is damaged: {', '.join(damaged)}",
                f"`densereid verify {self.source.path}` says what else is",
            )
        write_shard(self.path, shard=self.shard, rows=rows, notes=notes)


def _copied(marker: Mapping[str, Any]) -> dict[str, int]:
    """The checksums that a derived store's shard has in common with its source's."""
    return {name: marker["crc32"][name] for name in COPIED}


def _resolved(path: AnyPath) -> AnyPath:
    return path.resolve() if isinstance(path, Path) else path
