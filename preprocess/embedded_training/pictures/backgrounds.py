"""What is behind people: streets of the project's renderer, and pictures of nothing in particular."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from densereid.data_catalog.synthetic.scene import background, camera_scene


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture (height, width, 3) uint8 RGB: streets, clutter, smooth noise of any colours, or two of them."""
    picture = _one(rng, height, width)
    if rng.random() < 0.4:  # walls, vehicles, doors
        edge = int(rng.integers(1, width))
        side = slice(0, edge) if rng.random() < 0.5 else slice(edge, width)
        picture[:, side] = _one(rng, height, width)[:, side]
    return picture


def _one(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    kind = rng.random()
    if kind < 0.4:
        return _street(rng, height, width)
    return _clutter(rng, height, width) if kind < 0.75 else _clouds(rng, height, width)


def _street(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    scene = camera_scene.__wrapped__(int(rng.integers(2**31)), 1, height, width)  # drawn once: nothing to remember
    return background(scene, rng, height, width)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Mostly dull, as streets are."""
    grey = rng.uniform(20.0, 235.0)
    values = np.clip(grey + rng.normal(0.0, 12.0 if rng.random() < 0.7 else 60.0, 3), 0, 255)
    return int(values[0]), int(values[1]), int(values[2])


def _clutter(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Boxes, ellipses, poles and lines over one another, some of them as upright and as wide as limbs."""
    picture = Image.fromarray(_clouds(rng, height, width))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(5, 60))):
        x, y = rng.uniform(-0.2, 1.1) * width, rng.uniform(-0.2, 1.1) * height
        wide, high = width * rng.exponential(0.2), height * rng.exponential(0.2)
        kind = rng.random()
        if kind < 0.4:
            draw.rectangle((x, y, x + wide, y + high), fill=_colour(rng))
        elif kind < 0.65:
            draw.ellipse((x, y, x + wide, y + high), fill=_colour(rng))
        elif kind < 0.8:
            draw.rectangle((x, min(y, height), x + width * rng.uniform(0.01, 0.12), height), fill=_colour(rng))
        else:
            end = (x + rng.normal(0.0, width), y + rng.normal(0.0, height))
            draw.line((x, y, *end), fill=_colour(rng), width=int(rng.integers(1, max(2, width // 12))))
    return np.array(picture)


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of several coarsenesses, between two colours and beyond."""
    field = np.zeros((height, width))
    for cells in (2, 4, 8, 16, 32, 64):
        small = Image.fromarray(rng.normal(0.0, 1.0, (cells * 2, cells)).astype(np.float32))
        field += rng.exponential(1.0 / cells**0.5) * np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    low, high = np.array(_colour(rng), float), np.array(_colour(rng), float)
    share = 0.5 + field[..., None] * rng.uniform(0.1, 0.6)
    return np.clip(low + (high - low) * share, 0, 255).astype(np.uint8)
