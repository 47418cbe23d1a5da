"""Whether an IUV map was blended: resized by mixing pixels, or compressed with loss, which makes parts nobody has."""

from __future__ import annotations

import numpy as np

_MOST_SHARE = 0.02
"""Of a map's changes of part. Rendered and real maps have less than 0.007, blended ones and JPEGs from 0.035 on."""

_FEW = 4
"""So many can lie between their neighbours by chance."""


def is_blended(iuv: np.ndarray) -> bool:
    """Whether a map, uint8 (height, width, 3) in the order I, U, V, holds mixtures of its own pixels."""
    between, changes = count_blended(iuv)
    return between >= _FEW and between > _MOST_SHARE * changes


def count_blended(iuv: np.ndarray) -> tuple[int, int]:
    """How many pixels are a mixture of the two beside or above and below them, and how often the part changes.

    A mixture's part lies strictly between its neighbours', and I, U and V are all mixed in one proportion, as far as
    bytes can tell. A thin part of a body between two others may have its number between theirs, but not its U and V.
    """
    between = changes = 0
    for lines in (iuv, iuv.swapaxes(0, 1)):
        part = np.ascontiguousarray(lines[..., 0])
        rises, falls = part[:, 1:] > part[:, :-1], part[:, 1:] < part[:, :-1]
        changes += int(np.count_nonzero(rises | falls))
        inside = (rises[:, :-1] & rises[:, 1:]) | (falls[:, :-1] & falls[:, 1:])
        row, column = np.divmod(np.flatnonzero(inside), max(1, inside.shape[1]))
        before, here, after = (lines[row, column + step].astype(np.float64) for step in range(3))
        between += int(np.count_nonzero(_is_mixture(before, here, after)))
    return between, changes


def _is_mixture(before: np.ndarray, here: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Whether each of ``here`` (pixels, 3) lies on the line from ``before`` to ``after``; the parts of both differ."""
    span = (before - after)[:, :1]
    share = (here - after)[:, :1] / span
    mixed = after + share * (before - after)
    # I is rounded by half a unit of its span, which moves U and V along; their own rounding and slope come on top.
    room = np.abs(before - after) * 0.6 / np.abs(span) + 2
    return (np.abs(mixed - here) <= room)[:, 1:].all(axis=1)
