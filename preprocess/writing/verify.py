"""Checking a finished store: every byte against its checksum, and a sample of rows against a fresh computation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from densereid.data_catalog.store.schema import arrays_written
from densereid.data_catalog.store.store import Store, checksum
from densereid.preprocess.semantics.derive import derive

DERIVED = ("mask", "dsap", "dsap_valid")
"""Arrays that follow from the stored image and IUV map alone."""


def damaged_arrays(store: Store) -> Iterator[tuple[int, list[str]]]:
    """Each finished shard with the names of its arrays that cannot be read or differ from their CRC-32."""
    for shard, marker in store.markers().items():
        yield shard, damaged_in(store, shard, marker["crc32"])


def damaged_in(store: Store, shard: int, names: Iterable[str]) -> list[str]:
    """Those arrays of a finished shard that cannot be read or differ from their CRC-32."""
    checksums = store.marker(shard)["crc32"]
    return [name for name in names if _checksum(store, name, shard) != checksums.get(name)]


def _checksum(store: Store, name: str, shard: int) -> int | None:
    try:
        rows = store.read(name, store.geometry.shard_slice(shard))
    except (OSError, ValueError, KeyError):  # what the formats raise for a torn or missing file
        return None
    return checksum(rows)


def differing_rows(store: Store, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Which of ``rows`` (increasing) hold another mask or DSAP than their own image and IUV map give, by array."""
    image, iuv = (torch.from_numpy(store.read(name, rows)) for name in ("image", "iuv"))
    fresh = derive(image, iuv, size=store.geometry.dsap_size, collision=store.attributes["collision"])
    axes = {spec.name: tuple(range(1, len(spec.dims))) for spec in arrays_written("shard")}
    return {name: rows[(fresh[name] != store.read(name, rows)).any(axis=axes[name])] for name in DERIVED}
