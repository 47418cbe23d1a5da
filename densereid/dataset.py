"""A store as a dataset for torch's DataLoader."""

from __future__ import annotations

from collections.abc import Sequence

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import open_store
from densereid.train.data.dataset import ARRAYS_OF_SAMPLES, StoreDataset


def open_dataset(
    path: str | AnyPath,
    split: str = "train",
    *,
    arrays: Sequence[str] = ("image", "mask", "dsap"),
    size: tuple[int, int] | None = None,
    unidentified: bool | None = None,
) -> StoreDataset:
    """One split (train, query, gallery) of the store in the folder or at the URL ``path``, zarr or HDF5.

    A sample is a dictionary of tensors: ``image``, uint8 (3, height, width) RGB; ``mask``, uint8 (height, width),
    0..7 (:data:`MASK_LABELS`); ``dsap``, uint8 (24, 3, S, S) (:data:`BODY_PARTS`), with ``valid``, bool (24, S, S),
    the texels that a pixel reached; ``identity``, the rank of the person's number, -1 for none; ``camera`` as the
    dataset numbers it; ``row`` in the store. ``arrays`` chooses among image, mask and dsap; ``size`` (height, width)
    resizes image and mask. ``unidentified``: whether images of no known person are there, too: distractors, junk, a
    folder without identities; unless said, those of query and gallery are and those of train are not.

    Raises UserError where there is no whole store, and where no image is left.
    """
    splits = {each.name.lower(): each for each in Split}
    if split not in splits:
        raise UserError(f"there is no split {split!r}", f"Expected one of {', '.join(splits)}.")
    arrays = (arrays,) if isinstance(arrays, str) else tuple(arrays)
    if unknown := [name for name in arrays if name not in ARRAYS_OF_SAMPLES]:
        raise UserError(
            f"samples have no array {unknown[0]!r}",
            f"Expected some of {', '.join(ARRAYS_OF_SAMPLES)}; densereid.open_store(...).read reads the others.",
        )
    store = open_store(path)
    height, width = size or (store.geometry.height, store.geometry.width)
    taken = splits[split] != Split.TRAIN if unidentified is None else unidentified
    return StoreDataset(store, splits[split], needs=arrays, height=height, width=width, unidentified=taken)
