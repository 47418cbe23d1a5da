"""What a run will cost, measured before it starts by running a small sample of it into memory.

The sample is a real run - images read, estimated, derived, compressed - whose store lies in fsspec's memory
filesystem: the code that is measured is the code that will run, and nothing is written to a disk.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from rich import filesize

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import UrlPath, folder_bytes, free_bytes
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import MASK_CHUNK_ROWS, arrays_written
from densereid.preprocess.estimators.base import Charts, EstimatorInputs
from densereid.preprocess.images import Crop
from densereid.preprocess.writing.fill import fill_store
from densereid.preprocess.writing.plan import Plan, StorePlan, prepare

SAMPLE = 32
"""Images that are measured: one chunk of masks."""

SHARDS_IN_MEMORY = 2
"""One that is computed, and one that is written."""

_MARGIN = 1.1
"""Factor on the estimate of a sample, which is wrong by a few percent."""


@dataclass(frozen=True)
class MeasuredSample:
    """A measured sample: images, seconds and bytes of the store for all of them, and the process's peak memory."""

    images: int
    seconds: float
    num_bytes: int
    resident_bytes: int


def measure(plan: Plan, images: int = SAMPLE) -> MeasuredSample:
    """Run ``images`` of the plan's dataset, spread evenly over it, into memory; the estimator is loaded before.

    Raises what the estimator raises.
    """
    _run_in_memory(_subset(plan, 1))
    small = _subset(plan, images)
    seconds, num_bytes = _run_in_memory(small)
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return MeasuredSample(len(small.dataset.records), seconds, num_bytes, resident)


def _subset(plan: Plan, images: int) -> Plan:
    total = len(plan.dataset.records)
    chosen = np.unique(np.linspace(0, total - 1, min(images, total)).round().astype(int))
    return replace(
        plan,
        dataset=replace(plan.dataset, records=tuple(plan.dataset.records[index] for index in chosen)),
        path=UrlPath(f"memory://densereid-{uuid4().hex}/sample.zarr"),
        config=replace(plan.config, shard_rows=MASK_CHUNK_ROWS * ceil(len(chosen) / MASK_CHUNK_ROWS)),
    )


def _run_in_memory(plan: Plan) -> tuple[float, int]:
    assert isinstance(plan.path, UrlPath)
    try:
        shards = prepare(plan, format="zarr")
        empty = folder_bytes(plan.path)
        start = time.perf_counter()
        fill_store(plan, shards)
        return time.perf_counter() - start, folder_bytes(plan.path) - empty
    finally:
        plan.path.remove()


@dataclass(frozen=True)
class NullEstimator:
    """Finds no person: where the estimator cannot be run, the images alone are measured with it."""

    name: str = "none"

    def settings(self) -> dict[str, Any]:
        """None."""
        return {}

    def inputs(self, image: str) -> EstimatorInputs:  # noqa: ARG002 - the same for every image
        """None."""
        return EstimatorInputs()

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        """All background."""
        nothing = np.full(len(crops), np.nan, np.float32)
        return Charts(torch.zeros(len(crops), *size, 3, dtype=torch.uint8), nothing, np.full((len(crops), 4), np.nan))


def check_memory(plan: StorePlan) -> None:
    """Raise UserError where the shards that a process holds are larger than this machine's memory."""
    rows = min(plan.geometry.num_samples, plan.geometry.shard_rows)
    needed, there = SHARDS_IN_MEMORY * raw_bytes(plan, rows), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        height, width = plan.config.size
        raise UserError(
            f"{SHARDS_IN_MEMORY} shards of {plural(rows, 'image')} of {height}x{width} with DSAP images of "
            f"{plan.config.dsap_size}x{plan.config.dsap_size} take {filesize.decimal(needed)}; "
            f"this machine has {filesize.decimal(there)} of memory",
            "choose a smaller SIZE or DSAP_SIZE, or fewer images in a shard with SHARD_ROWS",
        )


def raw_bytes(plan: StorePlan, images: int) -> int:
    """Uncompressed bytes of the arrays of ``images`` rows: what a store cannot exceed, and a shard's size in memory."""
    return images * sum(spec.row_bytes(plan.geometry) for spec in arrays_written("shard"))


def check_space(plan: Plan, images: int, measured: Callable[[], MeasuredSample]) -> None:
    """Raise UserError where ``images`` more rows will not fit on the disk of the plan's store.

    Where even the uncompressed rows fit, nothing is measured.
    """
    free = free_bytes(plan.path)
    if free is None or raw_bytes(plan, images) < free:
        return
    sample = measured()
    needed = int(_MARGIN * images * sample.num_bytes / sample.images)
    if needed > free:
        raise UserError(
            f"{plural(images, 'image')} will take about {filesize.decimal(needed)} at {plan.path} "
            f"({filesize.decimal(sample.num_bytes // sample.images)} each, measured on {sample.images}); "
            f"{filesize.decimal(free)} are free there",
            "make room, choose another disk with STORE_ROOT, or a smaller SIZE or DSAP_SIZE; "
            "IGNORE_SPACE=1 starts all the same, and what is written before the disk is full is kept",
        )


def is_disk_full(error: OSError) -> bool:
    """Whether an error says that a disk, a quota or the size of a file has come to its end."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error)


def disk_full(plan: StorePlan, done: int, error: OSError) -> UserError:
    """The error for a disk that became full during a run, with ``done`` shards written."""
    free = free_bytes(plan.path)
    left = "" if free is None else f", {filesize.decimal(free)} are free"
    return UserError(
        f"the disk of {plan.path} is full: {error.strerror or error}{left}; "
        f"{done} of {plural(plan.geometry.num_shards, 'shard')} are written and kept",
        "make room (the store may also be moved; set STORE_ROOT then) and run the same command again; it continues",
    )
