"""The names of a store's codes for xarray: ``split`` as ``train``, ``query``, ``gallery``, ``status`` as ``ok``, ..."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray


def with_named_codes(dataset: xarray.Dataset) -> xarray.Dataset:
    """The dataset that ``xarray.open_zarr`` gives of a store, with names in place of codes; the big arrays stay lazy.

    Every coordinate of one dimension that has the attributes ``flag_values`` and ``flag_meanings`` (the CF
    convention) becomes an index of names, so that ``.sel(split="train")`` and ``.where(dataset.split == "train")``
    work. A code without a name, as in rows that are not written yet, is its number.
    """
    for name, codes in dataset.coords.items():
        if "flag_meanings" not in codes.attrs or codes.ndim != 1:
            continue
        values = np.atleast_1d(codes.attrs["flag_values"]).tolist()
        names = dict(zip(values, codes.attrs["flag_meanings"].split(), strict=True))
        named = np.array([names.get(code, str(code)) for code in codes.values.tolist()], object)
        attributes = {key: value for key, value in codes.attrs.items() if not key.startswith("flag_")}
        dataset = dataset.assign_coords({name: (codes.dims, named, attributes)}).set_xindex(name)
    return dataset
