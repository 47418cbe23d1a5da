"""Cloth as it is in photographs and hardly in renders: of one colour, and of the colour of what is behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from densereid.preprocess.embedded_training.layers import PersonLayer

GARMENTS = ((1, 2, 15, 16, 17, 18, 19, 20, 21, 22), (7, 8, 9, 10, 11, 12, 13, 14), (5, 6))
"""Parts of DensePose that a shirt with its sleeves, trousers, and shoes cover."""


def draw_plain(person: PersonLayer, rng: np.random.Generator) -> PersonLayer:
    """The person with each garment's pixels moved towards their mean: little of pattern, folds and shade is left."""
    image = person.image.astype(np.float32)
    for parts in GARMENTS:
        kept = rng.uniform(0.0, 0.6)
        worn = np.isin(person.iuv[..., 0], parts)
        if worn.any():
            mean = image[worn].mean(axis=0)
            image[worn] = mean + np.float32(kept) * (image[worn] - mean)
    return replace(person, image=np.rint(image).astype(np.uint8))


def draw_alike(background: np.ndarray, person: PersonLayer, rng: np.random.Generator) -> np.ndarray:
    """The background (H, W, 3) uint8 with less contrast, about a colour near that of one of the person's garments."""
    worn = np.isin(person.iuv[..., 0], GARMENTS[int(rng.integers(2))])
    near = person.image[worn if worn.any() else person.alpha].mean(axis=0) + rng.normal(0.0, 10.0, 3)
    away = background.astype(np.float32) - background.mean(axis=(0, 1), dtype=np.float32)
    values = near.astype(np.float32) + np.float32(rng.uniform(0.1, 0.8)) * away
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
