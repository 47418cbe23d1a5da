"""The 24 charts of the synthetic body: which part, u and v a point of the skin has.

A point is given on a bone's surface: ``along`` runs 0..1 down the bone (up for the head, heel to toes
for the foot) and ``theta`` turns round it: 0 degrees faces forward (up, for the foot), +90 away from the body's
midline (the person's right, for the trunk), -90 towards it, 180 backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np

from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V, NUM_BODY_PARTS

TEXTURE_SIZE = 32
"""Texels along u and along v of each part's texture, as in a DSAP image."""


class Surface(IntEnum):
    """What a solid of the renderer belongs to; ``OBJECT`` (a bag) has no chart and is background in IUV."""

    OBJECT = 0
    TORSO = 1
    UPPER_LEG = 2
    LOWER_LEG = 3
    UPPER_ARM = 4
    LOWER_ARM = 5
    HAND = 6
    FOOT = 7
    HEAD = 8


@dataclass(frozen=True)
class Chart:
    """One chart of the right side: where it lies round the bone and how its coordinates run."""

    part: int
    surface: Surface
    centre: float
    """Angle of its middle, degrees."""
    half_span: float
    """Degrees from its middle to its seams."""
    along: str
    """The coordinate that runs along the bone, ``u`` or ``v``; the other runs round it."""
    along_grows: bool
    """Whether that coordinate grows with ``along``."""
    theta_grows: bool
    """Whether the other grows with ``theta``."""


CHARTS: tuple[Chart, ...] = (
    Chart(2, Surface.TORSO, 0, 90, "u", True, True),
    Chart(1, Surface.TORSO, 180, 90, "u", True, False),
    Chart(9, Surface.UPPER_LEG, 0, 90, "u", False, False),
    Chart(7, Surface.UPPER_LEG, 180, 90, "u", True, False),
    Chart(13, Surface.LOWER_LEG, 0, 90, "u", True, True),
    Chart(11, Surface.LOWER_LEG, 180, 90, "u", False, False),
    Chart(16, Surface.UPPER_ARM, -30, 90, "u", True, True),
    Chart(18, Surface.UPPER_ARM, 150, 90, "u", True, False),
    Chart(20, Surface.LOWER_ARM, -90, 90, "u", False, False),
    Chart(22, Surface.LOWER_ARM, 90, 90, "u", True, False),
    Chart(3, Surface.HAND, 90, 180, "v", True, True),
    Chart(6, Surface.FOOT, 0, 180, "u", False, True),
    Chart(23, Surface.HEAD, 90, 90, "v", True, False),
)
"""Directions measured on DensePose's published demo output; the left side follows from the mirror rule in parts."""


def _surface_charts() -> np.ndarray:
    """Indices of each surface's two charts; a surface with one chart names it twice."""
    table = np.zeros((len(Surface), 2), np.intp)
    for surface in Surface:
        rows = [index for index, chart in enumerate(CHARTS) if chart.surface == surface]
        if rows:
            table[surface] = rows[0], rows[-1]
    return table


_SURFACE_CHARTS = _surface_charts()
_PART = np.array([chart.part for chart in CHARTS], np.uint8)
_CENTRE = np.array([chart.centre for chart in CHARTS], float)
_HALF_SPAN = np.array([chart.half_span for chart in CHARTS], float)
_ALONG_IS_U = np.array([chart.along == "u" for chart in CHARTS])
_ALONG_GROWS = np.array([chart.along_grows for chart in CHARTS])
_THETA_GROWS = np.array([chart.theta_grows for chart in CHARTS])
_TURNS_U = np.isin(_PART, MIRROR_TURNS_U)


def surface_iuv(surface: np.ndarray, left: np.ndarray, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Part, u and v of N skin points: (N, 3) uint8 in the order I, U, V, with U and V = round(255 x value).

    ``surface`` (N,) holds Surface values other than OBJECT, ``left`` (N,) bool the person's own left,
    ``theta`` (N,) degrees and ``along`` (N,) 0..1 the position on the surface, both as the module describes.
    """
    first = _SURFACE_CHARTS[surface, 0]
    from_centre = (theta - _CENTRE[first] + 180.0) % 360.0 - 180.0
    chart = np.where(np.abs(from_centre) <= _HALF_SPAN[first], first, _SURFACE_CHARTS[surface, 1])
    half_span = _HALF_SPAN[chart]
    from_centre = (theta - _CENTRE[chart] + 180.0) % 360.0 - 180.0
    across = np.clip((from_centre + half_span) / (2.0 * half_span), 0.0, 1.0)
    across = np.where(_THETA_GROWS[chart], across, 1.0 - across)
    along = np.where(_ALONG_GROWS[chart], along, 1.0 - along)
    along_is_u = _ALONG_IS_U[chart]
    u = np.where(along_is_u, along, across)
    v = np.where(along_is_u, across, along)
    u = np.where(left & _TURNS_U[chart], 1.0 - u, u)
    part = np.where(left, MIRROR_PART[_PART[chart]], _PART[chart])
    return np.stack([part, np.rint(255.0 * u), np.rint(255.0 * v)], axis=1).astype(np.uint8)


@lru_cache(maxsize=NUM_BODY_PARTS)
def texel_points(part: int) -> tuple[Surface, np.ndarray, np.ndarray]:
    """The inverse of the charts at a part's texel centres: its surface, and theta (degrees) and along, both (32, 32).

    Row is u, column is v, as in a texture. The arrays are shared: read them only.
    """
    left = part not in _PART
    chart = CHARTS[list(_PART).index(MIRROR_PART[part] if left else part)]
    steps = (np.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE
    u, v = np.meshgrid(steps, steps, indexing="ij")
    if left and chart.part in MIRROR_TURNS_U:
        u = 1.0 - u
    along, across = (u, v) if chart.along == "u" else (v, u)
    along = along if chart.along_grows else 1.0 - along
    across = across if chart.theta_grows else 1.0 - across
    theta = chart.centre + (2.0 * across - 1.0) * chart.half_span
    return chart.surface, (theta + 180.0) % 360.0 - 180.0, along


def texel_colours(texture: np.ndarray, iuv: np.ndarray) -> np.ndarray:
    """The texel of every IUV pixel with a part: (N, 3) uint8 RGB for ``iuv`` (N, 3) with I >= 1."""
    texel = np.minimum(TEXTURE_SIZE - 1, iuv[:, 1:].astype(np.intp) * TEXTURE_SIZE // 255)
    return texture[iuv[:, 0].astype(np.intp) - 1, texel[:, 0], texel[:, 1]]


def mirror_texture(texture: np.ndarray) -> np.ndarray:
    """The mirrored person's texture: parts swap sides and the turning coordinates turn, texel by texel.

    ``texture`` and the result are (24, 32, 32, 3).
    """
    mirrored = texture[MIRROR_PART[1:].astype(np.intp) - 1].copy()
    for part in range(1, NUM_BODY_PARTS + 1):
        if part in MIRROR_TURNS_U:
            mirrored[part - 1] = mirrored[part - 1][::-1]
        if part in MIRROR_TURNS_V:
            mirrored[part - 1] = mirrored[part - 1][:, ::-1]
    return mirrored
