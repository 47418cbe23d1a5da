"""Checking a finished store: every byte against its checksum, and a sample of rows against a fresh computation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.store.manifest import damaged_files
from densereid.data_catalog.store.schema import ARRAYS, arrays_written
from densereid.data_catalog.store.store import PROVENANCE, Store
from densereid.preprocess.semantics.derive import derive
from densereid.preprocess.writing.fill import FAILURES, failures_table
from densereid.preprocess.writing.provenance import recorded_runs

DERIVED = ("mask", "dsap", "dsap_valid")
"""Arrays that follow from the stored image and IUV map alone."""


def damaged_records(store: Store) -> list[str]:
    """What is wrong with what is written when a store is made: sizes, labels, coordinates; one sentence each."""
    problems = [f"{name} is missing or not as it was written" for name in damaged_files(store.path)]
    for spec in ARRAYS:
        with store.library_errors_as_user_errors(spec.name):
            array, shape = store.array(spec.name), spec.shape(store.geometry)
        if tuple(array.shape) != shape:
            problems.append(f"{spec.name} has the shape {array.shape}, by the store's sizes it is {shape}")
        if spec.dtype != "str" and array.dtype != np.dtype(spec.dtype):
            problems.append(f"{spec.name} has the type {array.dtype}, the schema says {spec.dtype}")
    return problems


def damaged_notes(store: Store) -> list[str]:
    """What is wrong with the files beside the arrays, which do not need them; one sentence each."""
    problems, failures = [], read_whole(store.path / FAILURES)
    read_whole(store.path / PROVENANCE)  # what cannot be read for the moment is no damage
    try:
        recorded_runs(store.path)
    except UserError as error:
        problems.append(error.problem)
    if failures is not None and failures != failures_table(store).encode():
        problems.append(f"{FAILURES} is not what the markers of the shards say")
    return problems


def damaged_shards(store: Store) -> Iterator[tuple[int, list[str]]]:
    """Each finished shard with the names of its arrays that cannot be read or differ from their CRC-32."""
    names = [spec.name for spec in arrays_written("shard")]
    for shard in store.markers():
        yield shard, store.damaged_arrays(shard, names)


def differing_rows(store: Store, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Which of ``rows`` (increasing) hold another mask or DSAP than their own image and IUV map give, by array."""
    image, iuv = (torch.from_numpy(store.read(name, rows)) for name in ("image", "iuv"))
    fresh = derive(image, iuv, size=store.geometry.dsap_size, collision=store.attributes["collision"])
    axes = {spec.name: tuple(range(1, len(spec.dims))) for spec in arrays_written("shard")}
    return {name: rows[(fresh[name] != store.read(name, rows)).any(axis=axes[name])] for name in DERIVED}
