"""Draw triangles into a depth buffer: which face each pixel shows, and where in it. Orthographic, compiled."""

from __future__ import annotations

import numpy as np

from densereid.preprocess.semantics.warp_cpu import compiled


@compiled
def rasterise(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest face of every pixel centre (H, W) int32, -1 where there is none, and its weights (H, W, 3) float32.

    ``points`` (V, 3) float64 are x and y in pixels (the first pixel's centre is 0.5, 0.5) and the depth towards the
    camera; ``faces`` (F, 3) name their corners, seen from both sides. Of two faces at one depth, the first one shows.
    """
    nearest = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), -np.inf)
    for face in range(len(faces)):
        a, b, c = points[faces[face, 0]], points[faces[face, 1]], points[faces[face, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area == 0.0:
            continue
        first_row = max(0, int(np.ceil(min(a[1], b[1], c[1]) - 0.5)))
        last_row = min(height - 1, int(np.floor(max(a[1], b[1], c[1]) - 0.5)))
        first_column = max(0, int(np.ceil(min(a[0], b[0], c[0]) - 0.5)))
        last_column = min(width - 1, int(np.floor(max(a[0], b[0], c[0]) - 0.5)))
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                x, y = column + 0.5, row + 0.5
                share_b = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
                share_c = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
                share_a = 1.0 - share_b - share_c
                if share_a < 0.0 or share_b < 0.0 or share_c < 0.0:
                    continue
                z = share_a * a[2] + share_b * b[2] + share_c * c[2]
                if z > depth[row, column]:
                    depth[row, column] = z
                    nearest[row, column] = face
                    weights[row, column] = share_a, share_b, share_c
    return nearest, weights
