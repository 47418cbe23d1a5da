"""Slow, scalar versions of the synthetic renderer's inner steps, written from the documents and not from the code."""

from __future__ import annotations

import math

import numpy as np

from densereid.data_catalog.synthetic.body import Solid
from densereid.data_catalog.synthetic.charts import Surface
from densereid.data_catalog.synthetic.errors import IuvErrors
from densereid.data_catalog.synthetic.raycast import Camera


def texture_pixel(texture: np.ndarray, part: int, qu: int, qv: int) -> list[int]:
    """The definition of a pixel's albedo."""
    return texture[part - 1, min(31, 32 * qu // 255), min(31, 32 * qv // 255)].tolist()


def mirrored_point(part: int, u: float, v: float) -> tuple[int, float, float]:
    """The flip rule measured on DensePose's output."""
    if part in (1, 2):
        return part, u, 1.0 - v
    partner = part + 1 if part % 2 else part - 1
    if part in (3, 4, 5, 6, 23, 24):
        return partner, 1.0 - u, v
    return partner, u, v


def right_chart(surface: Surface, theta: float, along: float) -> tuple[int, float, float]:
    """Part, u and v on the right side; theta in degrees, -180..180, 0 forward and 90 outward."""
    front = abs(theta) <= 90
    behind = (theta + 360) % 360 - 90  # 0 at the outer seam, 180 at the inner one
    if surface == Surface.TORSO:
        return (2, along, (theta + 90) / 180) if front else (1, along, 1 - behind / 180)
    if surface == Surface.UPPER_LEG:
        return (9, 1 - along, (90 - theta) / 180) if front else (7, along, 1 - behind / 180)
    if surface == Surface.LOWER_LEG:
        return (13, along, (90 + theta) / 180) if front else (11, 1 - along, 1 - behind / 180)
    return _right_arm_or_end(surface, theta, along)


def _right_arm_or_end(surface: Surface, theta: float, along: float) -> tuple[int, float, float]:
    if surface == Surface.UPPER_ARM:
        if -120 <= theta <= 60:
            return 16, along, (theta + 120) / 180
        return 18, along, 1 - ((theta + 360) % 360 - 60) / 180
    if surface == Surface.LOWER_ARM:
        return (20, 1 - along, -theta / 180) if theta <= 0 else (22, along, 1 - theta / 180)
    if surface == Surface.HAND:
        return 3, ((theta + 90) % 360) / 360, along
    if surface == Surface.FOOT:
        return 6, 1 - along, (theta + 180) / 360
    return 23, 1 - theta / 180, along


def cast_pixel(solids: list[Solid], camera: Camera, row: int, column: int) -> tuple[int, int, int] | None:
    """I, U, V of one pixel (0, 0, 0 on an object), or None where no solid is."""
    seen_x = (column + 0.5 - camera.origin[0]) / camera.scale[0]
    seen_y = (camera.origin[1] - row - 0.5) / camera.scale[1]
    nearest, best = None, -math.inf
    for solid in solids:

        def local(depth: float, solid: Solid = solid) -> np.ndarray:
            point = np.array([seen_x, seen_y, depth]) @ camera.rotation
            return solid.frame.axes @ (point - solid.frame.origin)

        def level(depth: float, solid: Solid = solid, local=local) -> float:
            x, t, z = local(depth)
            round_part = ((x - solid.centre[0]) / solid.radii[0]) ** 2 + ((z - solid.centre[1]) / solid.radii[1]) ** 2
            return round_part - sum(q * t**power for power, q in enumerate(solid.quadratic))

        square = (level(1.0) + level(-1.0)) / 2 - level(0.0)
        slope = (level(1.0) - level(-1.0)) / 2
        for root in np.roots([square, slope, level(0.0)]):
            entering = np.isreal(root) and 2 * square * root.real + slope > 0
            if entering and solid.clip[0] <= local(root.real)[1] <= solid.clip[1] and root.real > best:
                nearest, best = (solid, local(root.real)), root.real
    return None if nearest is None else _iuv(*nearest)


def _iuv(solid: Solid, point: np.ndarray) -> tuple[int, int, int]:
    if solid.surface == Surface.OBJECT:
        return 0, 0, 0
    x, t, z = point
    along = min(1.0, max(0.0, (t - solid.span[0]) / (solid.span[1] - solid.span[0])))
    left = x < 0 if solid.surface == Surface.HEAD else solid.left
    if solid.surface == Surface.HEAD:
        x = abs(x)
    part, u, v = right_chart(solid.surface, math.degrees(math.atan2(x, z)), along)
    if left:
        part, u, v = mirrored_point(part, u, v)
    return part, round(255 * u), round(255 * v)


def slow_disturb(iuv: np.ndarray, errors: IuvErrors) -> np.ndarray:
    """An IUV map with the errors of one image, pixel by pixel."""
    height, width = iuv.shape[:2]
    disturbed = np.zeros_like(iuv)
    for row in range(height):
        for column in range(width):
            source_row = min(height - 1, max(0, row + round(float(errors.displacement[0, row, column]))))
            source_column = min(width - 1, max(0, column + round(float(errors.displacement[1, row, column]))))
            part, *coordinates = iuv[source_row, source_column].tolist()
            if errors.relabel[part] == 0:
                continue
            wrong = []
            for (shift, stretch), coordinate in zip(errors.chart[part], coordinates, strict=True):
                wrong.append(coordinate / 255 + shift + stretch * (coordinate / 255 - 0.5))
            if errors.turn_v and part in (1, 2):
                wrong[1] = 1 - wrong[1]
            disturbed[row, column] = (errors.relabel[part], *(round(255 * min(1, max(0, w))) for w in wrong))
    return disturbed
