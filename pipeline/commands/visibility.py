"""Which body parts are seen how often, computed from a store's masks; the only module that imports dask."""

from __future__ import annotations

import dask.array as da
import numpy as np

from densereid.data_catalog.parts import NUM_MASK_LABELS
from densereid.data_catalog.store.store import Store


def masks(store: Store) -> da.Array:
    """The store's 7-part masks as a lazy dask array (sample, height, width), one block a shard."""
    array = store.array("mask")
    return da.from_array(array, chunks=(store.geometry.shard_rows, *array.shape[1:]))


def visible_share(masks: da.Array) -> np.ndarray:
    """Share of the images in which each mask label occurs, float (8,), of masks (sample, height, width)."""
    shares = [(masks == label).any(axis=(1, 2)).mean() for label in range(NUM_MASK_LABELS)]
    return np.asarray(da.stack(shares).compute())
