"""What is new, changed or gone in a dataset since a store was made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.datasets.records import UNKNOWN as UNKNOWN_LABEL
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import Store
from densereid.preprocess.estimators.base import EstimatorInputs
from densereid.preprocess.images import read_reduced, resize_image
from densereid.preprocess.writing.inputs import (
    UNKNOWN,
    digest_of,
    image_of,
    in_threads,
    read_inputs,
    stamp_of,
)

_SAMPLE = 64
"""Images whose pixels are compared with those of a store that does not say which files it was made from."""

_SAME_IMAGE = 4.0
"""Grey levels by which they may differ in the mean: another version of a decoder rounds otherwise."""


@dataclass(frozen=True)
class StoredImages:
    """The images in the finished shards of a store: its row, and what was recorded of it, by path."""

    store: Store

    @cached_property
    def markers(self) -> dict[int, dict[str, Any]]:
        """Marker of every finished shard."""
        return self.store.markers()

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of every image."""
        return {path: row for row, path in enumerate(self.paths) if row in self.digests}

    @cached_property
    def paths(self) -> list[str]:
        """Path of every row, finished or not."""
        return [str(path) for path in self.store.read("path")]

    @cached_property
    def digests(self) -> dict[int, str]:
        """Recorded digest of every row that is finished."""
        found: dict[int, str] = {}
        for shard, marker in self.markers.items():
            covered = self.store.geometry.shard_slice(shard)
            rows = range(covered.start, covered.stop)
            digests = marker.get("inputs", [])
            found |= dict(zip(rows, digests if len(digests) == len(rows) else [UNKNOWN] * len(rows), strict=True))
        return found

    @cached_property
    def failed(self) -> frozenset[str]:
        """Paths of the images that failed."""
        return frozenset(failure["path"] for marker in self.markers.values() for failure in marker.get("failures", []))

    @cached_property
    def taken_whole(self) -> frozenset[str]:
        """Paths of the images that are used whole because a detector found no person in them."""
        return frozenset(path for marker in self.markers.values() for path in marker.get("whole_images", []))

    @cached_property
    def unattributed(self) -> frozenset[int]:
        """Rows of shards whose marker counts images that are used whole, but does not name them: it is older."""
        slices = (
            self.store.geometry.shard_slice(shard)
            for shard, marker in self.markers.items()
            if marker.get("taken_whole", 0) != len(marker.get("whole_images", []))
        )
        return frozenset(row for rows in slices for row in range(rows.start, rows.stop))

    @cached_property
    def stamps(self) -> dict[str, str]:
        """Recorded stamp of every image; none where they were not recorded."""
        stamps = read_inputs(self.store.path)["stamps"]
        return dict(zip(self.paths, stamps, strict=True)) if len(stamps) == len(self.paths) else {}


@dataclass(frozen=True)
class Changes:
    """Paths of images: what differs between a dataset and the finished shards of a store."""

    new: tuple[str, ...] = ()
    """Not in the store."""
    changed: tuple[str, ...] = ()
    """Their file, or what else their dense pose was read from, holds something else."""
    gone: tuple[str, ...] = ()
    """In the store, but not in the dataset."""
    unknown: tuple[str, ...] = field(default=(), repr=False)
    """Of these the store does not say which file they were made from."""

    def is_any(self) -> bool:
        """Whether anything is known to differ."""
        return bool(self.new or self.changed or self.gone)

    def __str__(self) -> str:
        kinds = (("new", self.new), ("changed", self.changed), ("gone", self.gone))
        return ", ".join(f"{len(paths)} {kind}" for kind, paths in kinds if paths) or "no changes"


def find_changes(
    stored: StoredImages,
    root: Path,
    paths: Sequence[str],
    *,
    inputs: Callable[[str], EstimatorInputs] | None = None,
    stamps: Sequence[str] | None = None,
) -> Changes:
    """Compare the images ``paths`` below ``root`` with those of a store; only files whose stamp differs are read.

    ``inputs`` says what else each follows from, and ``stamps`` are theirs if they are known; without it the image
    files alone are compared.
    """
    part: Callable[[str], str] = image_of if inputs is None else str
    of = inputs or (lambda _: EstimatorInputs())
    now = stamps if stamps is not None else in_threads(lambda path: stamp_of(root / path, of(path)), paths)
    finished = [(path, stamp) for path, stamp in zip(paths, now, strict=True) if path in stored.rows]
    recorded = {path: stored.digests[stored.rows[path]] for path, _ in finished}
    unknown = tuple(path for path, _ in finished if recorded[path] == UNKNOWN)
    touched = [path for path, stamp in finished if recorded[path] and part(stored.stamps.get(path, "")) != part(stamp)]
    held = in_threads(lambda path: digest_of(root / path, of(path)), touched)
    present, known = set(paths), set(stored.paths)
    return Changes(
        new=tuple(path for path in paths if path not in known),
        changed=tuple(path for path, digest in zip(touched, held, strict=True) if part(recorded[path]) != digest),
        gone=tuple(path for path in stored.rows if path not in present),
        unknown=unknown,
    )


def check_same_dataset(stored: StoredImages, dataset: Dataset, changes: Changes) -> None:
    """Raise UserError where the store was made from another dataset: elsewhere on disk, and with other images.

    A dataset that was only moved, or copied, is the same; one that changed where it lies is, too.
    """
    store, root = stored.store, dataset.root.resolve()
    recorded = read_inputs(store.path)["root"]
    others = [*changes.changed, *changes.gone] if recorded != str(root) else []
    if recorded and others:
        raise UserError(
            f"{store.path} was made from the images in {recorded}; {len(others)} of its {len(stored.rows)} are not "
            f"those in {root}, for example {others[0]}",
            "these are two datasets: give this one's store another folder with STORE_ROOT, or move the store away",
        )
    differing = _differing_pixels(stored, root, changes.unknown)
    if differing:
        raise UserError(
            f"{store.path} holds other images than {root}: of {min(_SAMPLE, len(changes.unknown))} that were compared, "
            f"{len(differing)} differ, for example {differing[0]}",
            "give these images' store another folder with STORE_ROOT, or move the store away",
        )


def lost_labels(store: Store, rows: Mapping[str, np.ndarray]) -> str:
    """What a store knows of images that the new ``rows`` have too, and these do not; empty where that is nothing."""
    row_of = {str(path): row for row, path in enumerate(rows["path"])}
    both = [(row, row_of[str(path)]) for row, path in enumerate(store.read("path")) if str(path) in row_of]
    before, now = np.array(both, np.int64).reshape(-1, 2).T
    unknown = {"person_id": UNKNOWN_LABEL, "camera_id": UNKNOWN_LABEL, "split": Split.TRAIN}
    old = {name: store.read(name)[before] for name in unknown}
    lost = {name: (old[name] != value) & (rows[name][now] == value) for name, value in unknown.items()}
    persons = len(np.unique(old["person_id"][lost["person_id"]]))
    words = {"person_id": f"{plural(persons, 'identity')} of", "camera_id": "the camera of", "split": "the split of"}
    found = {name: int(which.sum()) for name, which in lost.items()}
    return ", ".join(f"{words[name]} {plural(number, 'image')}" for name, number in found.items() if number)


def _differing_pixels(stored: StoredImages, root: Path, paths: Sequence[str]) -> list[str]:
    """Those of a sample of ``paths`` whose pixels are not the stored ones; none of the images that failed."""
    sound = [path for path in paths if path not in stored.failed]
    chosen = np.unique(np.linspace(0, len(sound) - 1, min(_SAMPLE, len(sound))).round().astype(int))
    size = (stored.store.geometry.height, stored.store.geometry.width)
    return [sound[index] for index in chosen if not _has_pixels(stored, root, sound[index], size)]


def _has_pixels(stored: StoredImages, root: Path, path: str, size: tuple[int, int]) -> bool:
    try:
        pixels, _ = read_reduced(root / path)
    except UserError:
        return False
    row = stored.rows[path]
    [held] = stored.store.read("image", slice(row, row + 1))
    return bool(np.abs(resize_image(pixels, size).astype(int) - held).mean() < _SAME_IMAGE)
