"""Fields over the vertices of a mesh: smooth noise for folds and prints, normals for light and thickness."""

from __future__ import annotations

import numpy as np


def smooth_noise(points: np.ndarray, wavelength: float, rng: np.random.Generator, waves: int = 5) -> np.ndarray:
    """A smooth random field of unit spread at points (N, 3): the sum of a few plane waves."""
    directions = rng.normal(size=(3, waves))
    directions *= 2.0 * np.pi / wavelength / np.linalg.norm(directions, axis=0) * rng.uniform(0.6, 1.5, waves)
    phases = rng.uniform(0.0, 2.0 * np.pi, waves)
    waved = np.sin(directions.T.astype(np.float32) @ points.T.astype(np.float32) + phases[:, None].astype(np.float32))
    return waved.sum(axis=0) * np.float32(np.sqrt(2.0 / waves))


def smooth_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) of the vertices (V, 3): the mean of their faces' normals, weighted by area."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    index = faces.T.ravel()
    total = np.stack([np.bincount(index, np.tile(normals[:, k], 3), len(points)) for k in range(3)], axis=1)
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-20)
