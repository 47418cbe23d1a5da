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
    """(H, W) bool: the person with all that is worn and carried."""
    iuv: np.ndarray
    """(H, W, 3) uint8 in the order I, U, V; 0 off the body, and where a bag hides it."""
