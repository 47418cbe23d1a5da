"""How well the dense pose in a store agrees with the dataset's own IUV maps, where it has them."""

from __future__ import annotations

import numpy as np

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.store.store import Store
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.images import Crop, read_image
from densereid.preprocess.semantics.agreement import Agreement, agreement


def compare_with_maps(store: Store, dataset: Dataset, *, images: int, seed: int) -> Agreement:
    """Agreement of the store's IUV with the maps, for as many images as are asked for, at the store's size.

    Raises UserError where the dataset has no maps.
    """
    rows = np.random.default_rng(seed).permutation(store.geometry.num_samples)[:images]
    rows.sort()
    records = {record.path: record for record in dataset.records}
    chosen = [records[str(path)] for path in store.read("path", rows)]
    crops = [Crop(record, read_image(dataset.root / record.path)) for record in chosen]
    size = (store.geometry.height, store.geometry.width)
    exact = open_iuv(dataset, "auto").estimate(crops, size).iuv.numpy()
    return agreement(store.read("iuv", rows), exact)


def in_words(found: Agreement) -> str:
    """The four measures, as a line."""
    return (
        f"foreground IoU {found.foreground_iou:.2f}, mean IoU of the seven parts {found.mask_iou:.2f}, right one of "
        f"24 parts {found.part_accuracy:.0%}, median (u, v) error {found.uv_distance:.3f}"
    )
