"""Rendered layers and backgrounds in files of numpy's, shard by shard: an interrupted rendering continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from densereid.data_catalog.files.atomic import replacing
from densereid.preprocess.embedded_training.layers import PersonLayer
from densereid.preprocess.embedded_training.pictures.backgrounds import draw_background

SIZE = (256, 160)
"""Height and width of a layer: room for arms that reach out."""

SHARD = 500

Maker = Callable[[np.random.Generator, int, int, int], Iterator[PersonLayer]]

_ARRAYS = ("image", "alpha", "iuv")


def render_layers(folder: Path, make: Maker, seed: int, shard: int) -> bool:
    """Render one shard of a maker's layers, unless it is there; whether there was anything to do."""
    path = _file(folder, seed, shard)
    if path.exists():
        return False
    layers = list(make(np.random.default_rng((seed, shard)), SHARD, *SIZE))
    _write(path, {name: np.stack([getattr(layer, name) for layer in layers]) for name in _ARRAYS})
    return True


def render_backgrounds(folder: Path, seed: int, shard: int) -> bool:
    """Draw one shard of backgrounds, unless it is there; whether there was anything to do."""
    path = _file(folder, seed, shard)
    if path.exists():
        return False
    rng = np.random.default_rng((seed, shard))
    _write(path, {"image": np.stack([draw_background(rng, *SIZE) for _ in range(SHARD)])})
    return True


def _file(folder: Path, seed: int, shard: int) -> Path:
    return folder / f"{seed}-{shard}.npz"


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, allow_pickle=False, **{name: values.astype(np.uint8) for name, values in arrays.items()}
        )


def read_backgrounds(folder: Path, seed: int, shards: int) -> np.ndarray:
    """The backgrounds of the first shards of a seed: (N, height, width, 3) uint8 RGB."""
    return np.concatenate([np.load(_file(folder, seed, shard))["image"] for shard in range(shards)])


def read_layers(folder: Path, seed: int, shards: int) -> list[PersonLayer]:
    """The layers of the first shards of a seed, each cut to the box that it fills."""
    with ThreadPoolExecutor() as threads:  # decompression holds no lock
        parts = threads.map(_read_shard, (_file(folder, seed, shard) for shard in range(shards)))
        return [layer for part in parts for layer in part]


def _read_shard(path: Path) -> list[PersonLayer]:
    with np.load(path) as part:
        return [_cut(*rows) for rows in zip(*(part[name] for name in _ARRAYS), strict=True)]


def _cut(image: np.ndarray, alpha: np.ndarray, iuv: np.ndarray) -> PersonLayer:
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return PersonLayer(image[box].copy(), alpha[box].astype(bool), iuv[box].copy())
