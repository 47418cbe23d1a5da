"""One rendered person with nothing behind it: what both body makers give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PersonLayer:
    """A person as a layer over any background."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, lit; 0 where ``alpha`` is False."""
    alpha: np.ndarray
    """(H, W) bool: the person with all that is worn, carried and sat on."""
    iuv: np.ndarray
    """(H, W, 3) uint8 in the order I, U, V; 0 off the body, and where a bag or a seat hides it."""

    def body_box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the pixels that are body."""
        body = self.iuv[..., 0] > 0
        rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
