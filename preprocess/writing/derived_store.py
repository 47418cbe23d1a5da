"""A store from another one: its images and dense pose as they are, its masks and DSAP images computed again."""

from __future__ import annotations

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
from densereid.data_catalog.store.schema import FORMAT_VERSION, Geometry, arrays_written
from densereid.data_catalog.store.store import Store, checksum, damaged_shard, exists, open_store, write_shard
from densereid.preprocess.semantics.derive import Collision
from densereid.preprocess.writing.batch_rows import EstimatedBatch
from densereid.preprocess.writing.changes import lost_labels
from densereid.preprocess.writing.inputs import read_inputs, write_inputs
from densereid.preprocess.writing.plan import DERIVED_FROM, PreprocessConfig, check_same, check_settings, same_rows
from densereid.preprocess.writing.update import Update, update_path

COPIED = ("image", "iuv", "score", "box", "status")
"""Arrays of a shard that do not depend on how its DSAP images are made."""

_COPIED_NOTES = ("inputs", "taken_whole", "whole_images")
"""Notes of a shard's marker that say what its images are; an older store's lack some."""


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
        other = sorted(set(store.markers()) - set(self.unchanged_shards(store)))
        if other:
            raise UserError(
                f"{self.path} was made from other images or IUV maps than {self.source.path} holds: shards {other}",
                "move it away to create it again",
            )

    def unchanged_shards(self, store: Store) -> list[int]:
        """The finished shards of ``store``, derived before, whose images and dense pose the source holds today."""
        written, source = store.markers(), self.source.markers()
        return [
            shard
            for shard in sorted(set(written) & set(source))
            if store.geometry.shard_slice(shard) == self.geometry.shard_slice(shard)
            and _copied(written[shard]) == _copied(source[shard])
        ]

    def record_inputs(self) -> None:
        """Copy what the source says."""
        inputs = read_inputs(self.source.path)
        if inputs["root"]:
            write_inputs(self.path, inputs)

    def task(self, shard: int) -> DerivedTask:
        """The work of one shard."""
        return DerivedTask(shard, self.path.absolute(), self.geometry, self.config, self.source, self._markers[shard])

    @cached_property
    def _markers(self) -> dict[int, dict[str, Any]]:
        return self.source.markers()


def find_derived_update(plan: DerivedPlan) -> Update | None:
    """What has to be done to a store that was derived before; None where there is none, or only shards are missing."""

    def is_current(store: Store) -> bool:
        return len(plan.unchanged_shards(store)) == len(store.markers())

    if not exists(plan.path) or _resolved(plan.path) == _resolved(plan.source.path):
        return None
    store = open_store(plan.path, incomplete=True)
    check_settings(plan, store)
    if same_rows(plan, store) and is_current(store):
        return None
    if lost := lost_labels(store, plan.rows()):
        raise UserError(
            f"{plan.path} knows {lost}, and {plan.source.path}, from which it would be derived again, does not",
            "give the source its labels first with `make preprocess PATTERN=...`, or delete the derived store",
        )
    before, now = store.read("path"), plan.source.read("path")
    slices = {shard: plan.geometry.shard_slice(shard) for shard in plan.unchanged_shards(store)}
    kept = {shard: store for shard, rows in slices.items() if np.array_equal(before[rows], now[rows])}
    if store.version != FORMAT_VERSION:  # its files are of another kind
        kept = {}
    path = update_path(plan, is_current)
    return Update(plan.path, replace(plan, path=path), kept, f"{plan.source.path} has changed")


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
        failed = {failure["path"]: failure for failure in self.marker.get("failures", [])}
        paths = self.source.read("path", rows) if failed else ()
        failures = {index: failed[path] for index, path in enumerate(paths) if path in failed}
        return EstimatedBatch(image, iuv, score, box, failures=failures)

    def write(self, rows: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
        """Write the shard, then its marker; UserError where what was copied is not what the source's marker says."""
        expected = _copied(self.marker)
        damaged = [name for name in COPIED if checksum(rows[name]) != expected[name]]
        if damaged:
            raise damaged_shard(self.source, self.shard, damaged)
        own = {name: self.marker[name] for name in _COPIED_NOTES if name in self.marker}
        write_shard(self.path, shard=self.shard, rows=rows, notes={**notes, **own})


def _copied(marker: Mapping[str, Any]) -> dict[str, int]:
    """The checksums that a derived store's shard has in common with its source's."""
    return {name: marker["crc32"][name] for name in COPIED}


def _resolved(path: AnyPath) -> AnyPath:
    return path.resolve() if isinstance(path, Path) else path
