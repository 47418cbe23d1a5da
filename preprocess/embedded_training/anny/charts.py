"""Where the points of a resting body lie in the 24 charts: along and round the bone of their region.

A pixel's place is worked out from its own interpolated point of the resting body: u and v jump at a chart's seam and
an angle jumps at 180 degrees, so that neither could be interpolated across a triangle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densereid.data_catalog.synthetic.charts import Surface, surface_iuv
from densereid.data_catalog.synthetic.skeleton import Frame

OVERHANG: dict[Surface, tuple[float, float]] = {
    Surface.UPPER_ARM: (0.18, 0.06),
    Surface.LOWER_ARM: (0.107, 0.07),
    Surface.UPPER_LEG: (0.17, 0.043),
    Surface.LOWER_LEG: (0.085, 0.064),
}
"""How far a limb's chart reaches beyond its two joints, in bone lengths; the project's own bodies have these spans."""

_SIDES = ((False, "right"), (True, "left"))
_LIMBS = {
    Surface.UPPER_ARM: ("upper arm", "lower arm"),
    Surface.LOWER_ARM: ("lower arm", "hand"),
    Surface.UPPER_LEG: ("upper leg", "lower leg"),
    Surface.LOWER_LEG: ("lower leg", "foot"),
}
_UP, _FORWARD = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
_BINS = 12
_RING = 12
"""So many vertices of a limb's skin lie round its end."""

_STRAIGHT = np.zeros((1, 3))


@dataclass(frozen=True)
class ChartBone:
    """The bone that a region's chart is laid round, in the resting body."""

    frame: Frame
    span: tuple[float, float]
    """The position along the bone at which ``along`` is 0, and 1."""
    centre_line: np.ndarray
    """(K, 3): at the position in column 0, the outward and forward coordinates of the chart's axis; rows ascend."""

    def place(self, points: np.ndarray) -> np.ndarray:
        """Along (not clipped), outward and forward (N, 3) of points (N, 3) of the resting body."""
        outward, t, forward = ((points - self.frame.origin) @ self.frame.axes.T).T
        at, across, ahead = self.centre_line.T
        first, last = self.span
        outward, forward = outward - np.interp(t, at, across), forward - np.interp(t, at, ahead)
        return np.stack([(t - first) / (last - first), outward, forward], axis=1)


Regions = dict[tuple[Surface, bool], ChartBone]
"""The bone of each region: surface, and whether it is the person's left (False for trunk and head)."""


def limb_frame(start: np.ndarray, end: np.ndarray, outward: np.ndarray) -> tuple[Frame, float]:
    """The frame of a bone from joint to joint (3,), outward axis near ``outward``, and the bone's length.

    The forward axis completes it, mirrored for the left as in skeleton.py: hanging limbs look forward.
    """
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length
    outward = outward - (outward @ along) * along
    outward /= np.linalg.norm(outward)
    forward = np.cross(along, outward)
    forward = forward if forward @ _FORWARD >= 0.0 else -forward
    return Frame(start, np.stack([outward, along, forward])), length


def chart_bones(joints: dict[str, np.ndarray], surface: np.ndarray, left: np.ndarray, points: np.ndarray) -> Regions:
    """The chart bones of a resting body: its joints, and Surface (V,), side (V,), position (V, 3) of its skin."""
    regions: Regions = {
        (Surface.TORSO, False): _torso(joints, points[surface == Surface.TORSO]),
        (Surface.HEAD, False): _head(joints, points[surface == Surface.HEAD]),
    }
    for is_left, side in _SIDES:
        sign = 1.0 if is_left else -1.0
        for limb, (start, end) in _LIMBS.items():
            outward = np.array([sign, 0.0, 0.0])
            if limb is Surface.LOWER_ARM:
                outward = regions[Surface.UPPER_ARM, is_left].frame.axes[0]
            frame, length = limb_frame(joints[f"{side} {start}"], joints[f"{side} {end}"], outward)
            skin = points[(surface == limb) & (left == is_left)]
            regions[limb, is_left] = _limb(limb, frame, length, skin)
        hand, foot = (points[(surface == part) & (left == is_left)] for part in (Surface.HAND, Surface.FOOT))
        regions[Surface.HAND, is_left] = _hand(joints, side, regions[Surface.LOWER_ARM, is_left].frame, hand)
        regions[Surface.FOOT, is_left] = _foot(joints, side, sign, foot)
    return regions


def _limb(limb: Surface, frame: Frame, length: float, skin: np.ndarray) -> ChartBone:
    """A limb's chart: its joints lie where its skin (N, 3) ends, but for hip and shoulder, whose edge is slanted."""
    t = np.sort((skin - frame.origin) @ frame.axes[1])
    before, after = OVERHANG[limb]
    lower = limb in (Surface.LOWER_ARM, Surface.LOWER_LEG)
    start = float(t[:_RING].mean()) if lower else 0.0
    span = (start - before * length, float(t[-_RING:].mean()) + after * length)
    # The shin bone lies in front of the calf: without the middle, most of the lower leg would be its back.
    return (
        _between_extremes(frame, skin, span, (0, 2)) if limb is Surface.LOWER_LEG else ChartBone(frame, span, _STRAIGHT)
    )


def _torso(joints: dict[str, np.ndarray], skin: np.ndarray) -> ChartBone:
    frame = Frame(joints["neck"] * (0.0, 1.0, 1.0), np.array([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], _FORWARD]))
    near = np.abs(skin[:, 0]) < 0.6 * np.abs(skin[:, 0]).max()
    return _between_extremes(frame, skin[near], (0.0, float(frame.origin[1] - skin[:, 1].min())), axes=(2,))


def _head(joints: dict[str, np.ndarray], skin: np.ndarray) -> ChartBone:
    frame = Frame(joints["neck"] * (0.0, 1.0, 1.0), np.array([[-1.0, 0.0, 0.0], _UP, _FORWARD]))
    top = float(skin[:, 1].max() - frame.origin[1])
    bone = _between_extremes(frame, skin, (0.0, top), axes=(2,))
    # The face and the nose reach forward: the axis stands a little behind the middle, as in the project's heads.
    bone.centre_line[:, 2] -= 0.04 * top
    return bone


def _hand(joints: dict[str, np.ndarray], side: str, arm: Frame, skin: np.ndarray) -> ChartBone:
    frame, _ = limb_frame(joints[f"{side} hand"], joints[f"{side} finger tip"], arm.axes[0])
    reach = float(((skin - frame.origin) @ frame.axes[1]).max())
    return _between_extremes(frame, skin, (-0.1 * reach, reach), axes=(0, 2))


def _foot(joints: dict[str, np.ndarray], side: str, sign: float, skin: np.ndarray) -> ChartBone:
    ankle, toe = joints[f"{side} foot"], joints[f"{side} toe"]
    along = (toe - ankle) * (1.0, 0.0, 1.0)
    along /= np.linalg.norm(along)
    outward = sign * np.cross(_UP, along)
    frame = Frame(ankle, np.stack([outward, along, _UP]))
    reach = (skin - ankle) @ along
    bone = _between_extremes(frame, skin, (float(reach.min()), float(reach.max())), axes=(0, 2))
    # The axis lies high in the foot (5/6 of its height), as that of the project's feet.
    bone.centre_line[:, 2] = (5.0 * bone.centre_line[:, 2] * 2.0 - 4.0 * -ankle[1]) / 6.0
    return bone


def _between_extremes(frame: Frame, skin: np.ndarray, span: tuple[float, float], axes: tuple[int, ...]) -> ChartBone:
    """A chart whose axis runs in the middle of the skin (N, 3) along ``axes`` (0 outward, 2 forward)."""
    local = (skin - frame.origin) @ frame.axes.T
    edges = np.linspace(local[:, 1].min(), local[:, 1].max() + 1e-9, _BINS + 1)
    which = np.searchsorted(edges, local[:, 1], side="right") - 1
    rows = []
    for index in range(_BINS):
        inside = local[which == index]
        if len(inside) >= 4:
            middle = [(inside[:, axis].min() + inside[:, axis].max()) / 2 if axis in axes else 0.0 for axis in (0, 2)]
            rows.append([(edges[index] + edges[index + 1]) / 2, *middle])
    line = np.array(rows)
    smooth = line.copy()
    smooth[1:-1, 1:] = (line[:-2, 1:] + 2.0 * line[1:-1, 1:] + line[2:, 1:]) / 4.0
    return ChartBone(frame, span, smooth)


def point_regions(faces: np.ndarray, region_weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The region 2 x Surface + left (N,) of N points: the one of most weight there.

    A point lies in a triangle with corners ``faces`` (N, 3) at ``shares`` (N, 3); ``region_weights`` are (V, R).
    """
    corners = region_weights.argmax(axis=1)[faces]
    region = corners[:, 0]
    mixed = np.flatnonzero((corners != corners[:, :1]).any(axis=1))
    region[mixed] = np.einsum("nk,nkr->nr", shares[mixed], region_weights[faces[mixed]]).argmax(axis=1)
    return region


def region_places(regions: Regions, region: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Along, outward and forward (N, 3) of resting points (N, 3), each about the bone of its region (N,)."""
    places = np.zeros_like(points)
    for (surface, left), bone in regions.items():
        chosen = np.flatnonzero(region == 2 * surface + left)
        places[chosen] = bone.place(points[chosen])
    return places


def chart_angles(region: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left, theta in degrees and along 0..1 (N,) of points with a region (N,) and a place (N, 3), for surface_iuv."""
    along, outward, forward = place.T
    head = region // 2 == Surface.HEAD
    left = np.where(head, outward < 0.0, region % 2 == 1)
    theta = np.degrees(np.arctan2(np.where(head, np.abs(outward), outward), forward))
    return left, theta, np.clip(along, 0.0, 1.0)


def chart_iuv(surface: np.ndarray, left: np.ndarray, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    """I, U, V (N, 3) uint8 as ``surface_iuv`` gives them; 0, 0, 0 on an OBJECT."""
    iuv = np.zeros((len(surface), 3), np.uint8)
    body = surface != Surface.OBJECT
    iuv[body] = surface_iuv(surface[body], left[body], theta[body], along[body])
    return iuv
