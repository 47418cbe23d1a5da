"""Orthographic ray casting of quadric solids, each inside its own bounding box, with a depth buffer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densereid.data_catalog.synthetic.body import Solid
from densereid.data_catalog.synthetic.charts import Surface, surface_iuv
from densereid.data_catalog.synthetic.skeleton import turn_about_x, turn_about_y


@dataclass(frozen=True)
class Camera:
    """An orthographic camera: body point -> pixel, with x to the right and y down."""

    rotation: np.ndarray
    """(3, 3); its rows are the image's right, up, and the direction towards the camera, in body coordinates."""
    scale: tuple[float, float]
    """Pixels per body height, across and down."""
    origin: tuple[float, float]
    """The pixel position (x, y) of the body's origin, which is on the ground between the feet."""

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Pixel positions (N, 2) of body points (N, 3)."""
        seen = points @ self.rotation.T
        across = self.origin[0] + self.scale[0] * seen[:, 0]
        return np.stack([across, self.origin[1] - self.scale[1] * seen[:, 1]], axis=1)


def view_rotation(yaw: float, pitch: float) -> np.ndarray:
    """The rotation (3, 3) of a camera that looks down by ``pitch`` at a person turned by ``yaw``, both radians.

    Yaw 0 faces the camera; a quarter turn shows the person's right side with the face to the image's right.
    """
    return turn_about_x(-pitch) @ turn_about_y(yaw)


def outline_boxes(solids: list[Solid], camera: Camera) -> np.ndarray:
    """Pixel boxes (N, 4) as x0, y0, x1, y1 (float) that hold each solid."""
    axes = np.stack([solid.frame.axes for solid in solids]) @ camera.rotation.T
    origins = np.stack([solid.frame.origin for solid in solids])
    factor = np.array([solid.largest_factor() for solid in solids])
    offsets = np.array([solid.centre for solid in solids])
    radii = np.array([solid.radii for solid in solids])
    half = factor[:, None] * np.hypot(radii[:, :1] * axes[:, 0, :2], radii[:, 1:] * axes[:, 2, :2])
    middle = (origins @ camera.rotation.T)[:, :2]
    middle = middle + offsets[:, :1] * axes[:, 0, :2] + offsets[:, 1:] * axes[:, 2, :2]
    ends = np.array([solid.clip for solid in solids])
    first, last = (middle + ends[:, k : k + 1] * axes[:, 1, :2] for k in (0, 1))
    low, high = np.minimum(first, last) - half, np.maximum(first, last) + half
    scale_x, scale_y = camera.scale
    x, y = camera.origin
    edges = (x + scale_x * low[:, 0], y - scale_y * high[:, 1], x + scale_x * high[:, 0], y - scale_y * low[:, 1])
    return np.stack(edges, axis=1)


def cast(solids: list[Solid], camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest solid (H, W) int16, -1 where there is none, and its depth (H, W) towards the camera."""
    nearest = np.full((height, width), -1, np.int16)
    depth = np.full((height, width), -np.inf)
    boxes = outline_boxes(solids, camera)
    low = np.maximum(np.floor(boxes[:, :2] - 0.5), 0).astype(int)
    high = np.minimum(np.ceil(boxes[:, 2:] + 0.5), (width, height)).astype(int)
    for index, solid in enumerate(solids):
        (x0, y0), (x1, y1) = low[index], high[index]
        if x0 < x1 and y0 < y1:
            window = slice(y0, y1), slice(x0, x1)
            visible, reached = _hit(solid, camera, np.arange(y0, y1), np.arange(x0, x1))
            visible &= reached > depth[window]
            depth[window][visible] = reached[visible]
            nearest[window][visible] = index
    return nearest, depth


def _local_rays(solid: Solid, camera: Camera, x: np.ndarray, y: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """The rays of pixel centres in the solid's coordinates, scaled so that it is round: starts and directions.

    Three starts (outward, along, forward) in the shape of ``x`` and ``y`` broadcast, at depth 0.
    """
    # Plain floats: numpy's own scalars would cost as much as the small arrays they multiply.
    axes = (solid.frame.axes @ camera.rotation.T).tolist()
    start = (-(solid.frame.axes @ solid.frame.origin)).tolist()
    across = (x + 0.5 - camera.origin[0]) / camera.scale[0]
    up = (camera.origin[1] - y - 0.5) / camera.scale[1]
    shift = (solid.centre[0], 0.0, solid.centre[1])
    size = (solid.radii[0], 1.0, solid.radii[1])
    starts = [(start[k] - shift[k] + axes[k][0] * across + axes[k][1] * up) / size[k] for k in range(3)]
    return starts, [axes[k][2] / size[k] for k in range(3)]


def _hit(solid: Solid, camera: Camera, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels' rays enter the solid: (rows, columns) bool, and the depth of that point."""
    (x, t, z), (dx, dt, dz) = _local_rays(solid, camera, columns[None, :], rows[:, None])
    q0, q1, q2 = solid.quadratic
    square = dx * dx + dz * dz - q2 * dt * dt
    if abs(square) < 1e-12:
        square = 1e-12
    half = dx * x + dz * z - (q2 * dt) * t - 0.5 * q1 * dt
    constant = x * x + z * z - (q2 * t + q1) * t - q0
    inside = half * half - square * constant
    # The root with +sqrt is where the surface faces the camera, whatever the sign of the square term.
    depth = (np.sqrt(np.maximum(inside, 0.0)) - half) / square
    height = t + dt * depth
    return (inside >= 0.0) & (height >= solid.clip[0]) & (height <= solid.clip[1]), depth


@dataclass(frozen=True)
class Skin:
    """What the camera sees of the solids, for the N pixels that hit one."""

    rows: np.ndarray
    columns: np.ndarray
    iuv: np.ndarray
    """(N, 3) uint8 in the order I, U, V; 0, 0, 0 on an object."""
    colours: np.ndarray
    """(N, 3) uint8 RGB of the objects; 0 on skin."""
    normals: np.ndarray
    """(N, 3) unit vectors: to the image's right, up, and towards the camera."""


def see(solids: list[Solid], camera: Camera, height: int, width: int) -> Skin:
    """Cast all solids and name the surface point that each pixel shows."""
    nearest, depth = cast(solids, camera, height, width)
    rows, columns = np.nonzero(nearest >= 0)
    which, depth = nearest[rows, columns], depth[rows, columns]
    axes = np.stack([solid.frame.axes for solid in solids])
    origin = np.stack([solid.frame.origin for solid in solids])
    centre, radii, quadratic, span = (np.array([getattr(s, n) for s in solids]) for n in _GATHERED)
    surface = np.array([solid.surface for solid in solids])[which]
    left = np.array([solid.left for solid in solids])[which]
    seen = np.stack(
        [
            (columns + 0.5 - camera.origin[0]) / camera.scale[0],
            (camera.origin[1] - rows - 0.5) / camera.scale[1],
            depth,
        ],
        axis=1,
    )
    offset = seen @ camera.rotation - origin[which]
    x, t, z = np.einsum("nij,nj->in", axes[which], offset)
    first, last = span[which].T
    along = np.clip((t - first) / (last - first), 0.0, 1.0)
    left = np.where(surface == Surface.HEAD, x < 0.0, left)
    outward = np.where(surface == Surface.HEAD, np.abs(x), x)
    iuv = surface_iuv(surface, left, np.degrees(np.arctan2(outward, z)), along)
    iuv[surface == Surface.OBJECT] = 0
    colours = np.array([solid.colour for solid in solids], np.uint8)[which]
    slope = -0.5 * (quadratic[which, 1] + 2.0 * quadratic[which, 2] * t)
    (x0, z0), (a, b) = centre[which].T, radii[which].T
    gradient = np.stack([(x - x0) / a**2, slope, (z - z0) / b**2], axis=1)
    normals = np.einsum("nij,ni->nj", axes[which], gradient) @ camera.rotation.T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    return Skin(rows, columns, iuv, colours, normals)


_GATHERED = ("centre", "radii", "quadratic", "span")
