"""What the report of a store is made of: its labels, how often each part is seen, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densereid.data_catalog.parts import NUM_BODY_PARTS, NUM_MASK_LABELS, seen_labels
from densereid.data_catalog.store.schema import Status, unpack_validity
from densereid.data_catalog.store.store import Store
from densereid.pipeline.progress import ProgressReport
from densereid.preprocess.writing.provenance import recorded_runs

_IMAGES_AT_ONCE = 512


@dataclass(frozen=True)
class StoreFindings:
    """A store of N images, read once."""

    store: Store
    labels: Mapping[str, np.ndarray]
    """person_id, camera_id, split, status, score and path, (N,) each, as stored."""
    seen: np.ndarray
    """bool (N, 7): the parts of the mask that have a pixel."""
    texels: np.ndarray
    """float32 (N, 24): the share of each DSAP image's texels that a pixel reached."""
    failures: Sequence[Mapping[str, str]]
    """Path and reason of each image that could not be read."""
    taken_whole: int
    """Images in which a detector found no person, so that the estimator was given all of them."""
    runs: Sequence[Mapping[str, Any]]
    """Who made the store, with what and when, oldest first."""

    @property
    def readable(self) -> np.ndarray:
        """bool (N,): the images that could be read."""
        return np.asarray(self.labels["status"] != Status.FAILED)


def read_store(store: Store) -> StoreFindings:
    """Read a whole store for its report, with progress. Raises UserError where it cannot be read."""
    count = store.geometry.num_samples
    names = ("person_id", "camera_id", "split", "status", "score", "path")
    labels = {name: store.read(name) for name in names}
    seen = np.zeros((count, NUM_MASK_LABELS - 1), bool)
    texels = np.zeros((count, NUM_BODY_PARTS), np.float32)
    with ProgressReport("reading", count) as report:
        for start in range(0, count, _IMAGES_AT_ONCE):
            rows = slice(start, min(start + _IMAGES_AT_ONCE, count))
            seen[rows] = seen_labels(store.read("mask", rows))
            texels[rows] = unpack_validity(store.read("dsap_valid", rows)).mean((2, 3))
            report.advance(rows.stop - rows.start)
    markers = store.markers().values()
    return StoreFindings(
        store, labels, seen, texels,
        failures=[failure for marker in markers for failure in marker.get("failures", [])],
        taken_whole=sum(marker.get("taken_whole", 0) for marker in markers),
        runs=recorded_runs(store.path),
    )  # fmt: skip
