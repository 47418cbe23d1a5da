"""Rendered layers in a zarr group, made shard by shard: an interrupted rendering continues, and the seed says all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import zarr

from densereid.preprocess.embedded_training.layers import PersonLayer

SIZE = (256, 160)
"""Height and width of a layer: room for arms that reach out."""

SHARD = 500

Maker = Callable[[np.random.Generator, int, int, int], Iterator[PersonLayer]]

_ARRAYS = {"image": (*SIZE, 3), "alpha": SIZE, "iuv": (*SIZE, 3)}


def render_layers(folder: Path, make: Maker, seed: int, shard: int) -> bool:
    """Render one shard of a maker's layers, unless it is there; whether there was anything to do."""
    group = zarr.open_group(folder, mode="a")
    name = f"{seed}-{shard}"
    if name in group and group[name].attrs.get("complete"):
        return False
    layers = list(make(np.random.default_rng((seed, shard)), SHARD, *SIZE))
    part = group.create_group(name, overwrite=True)
    for array, shape in _ARRAYS.items():
        values = np.stack([getattr(layer, array) for layer in layers]).astype(np.uint8)
        part.create_array(array, data=values, chunks=(50, *shape))
    part.attrs["complete"] = True
    return True


def read_layers(folder: Path, seed: int, shards: int) -> list[PersonLayer]:
    """The layers of the first shards of a seed, each cut to the box that it fills."""
    group = zarr.open_group(folder, mode="r")
    layers = []
    for shard in range(shards):
        arrays = [np.asarray(group[f"{seed}-{shard}"][name]) for name in _ARRAYS]
        layers += [_cut(*rows) for rows in zip(*arrays, strict=True)]
    return layers


def _cut(image: np.ndarray, alpha: np.ndarray, iuv: np.ndarray) -> PersonLayer:
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return PersonLayer(image[box].copy(), alpha[box].astype(bool), iuv[box].copy())
