"""A posed person as a list of solids: limbs of revolution, ellipsoids for head, hands and feet, and a bag."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from densereid.data_catalog.synthetic.charts import Surface
from densereid.data_catalog.synthetic.skeleton import (
    LOWER_ARM_LENGTH,
    LOWER_LEG_LENGTH,
    UPPER_ARM_LENGTH,
    UPPER_LEG_LENGTH,
    Frame,
    Pose,
    bone_frames,
)


class Bag(StrEnum):
    """What a person carries; a bag is not skin: it hides the body and is background in IUV."""

    NONE = "none"
    BACKPACK = "backpack"
    SHOULDER_BAG = "shoulder bag"
    HANDBAG = "handbag"


class Hair(StrEnum):
    """Hair that changes the head's outline or its texture."""

    SHORT = "short"
    LONG = "long"
    BUN = "bun"
    BALD = "bald"
    CAP = "cap"


@dataclass(frozen=True)
class Build:
    """The shape of one person, in body heights; it does not depend on the pose."""

    girth: float = 1.0
    """Thickness of trunk and limbs against the average, about 0.85..1.25."""
    shoulder_width: float = 0.215
    hip_width: float = 0.1
    loose_top: float = 0.0
    """How far the top stands off the waist and sleeves, 0..1."""
    trousers_width: float = 0.5
    """0 is bare or tight, 1 is wide."""
    skirt: bool = False
    hair: Hair = Hair.SHORT
    bag: Bag = Bag.NONE
    bag_on_left: bool = True


class Solid(NamedTuple):
    """A piece of quadric: ``((x - x0) / a)^2 + ((z - z0) / b)^2 = q0 + q1 t + q2 t^2`` for t in [t0, t1].

    x, t, z are coordinates in ``frame``: outward, along and forward.
    """

    frame: Frame
    surface: Surface
    left: bool
    centre: tuple[float, float]
    """x0, z0."""
    radii: tuple[float, float]
    """a, b."""
    quadratic: tuple[float, float, float]
    """q0, q1, q2."""
    clip: tuple[float, float]
    """t0, t1."""
    span: tuple[float, float]
    """The t at which the chart's ``along`` is 0, and 1."""
    colour: tuple[int, int, int] = (0, 0, 0)
    """RGB of an OBJECT; skin takes its colour from the texture."""

    def largest_factor(self) -> float:
        """The largest factor q(t)^0.5 in the clip range, which bounds the outline."""
        q0, q1, q2 = self.quadratic
        ends = [q0 + q1 * t + q2 * t * t for t in self.clip]
        if q2 < 0 and self.clip[0] < -q1 / (2 * q2) < self.clip[1]:
            ends.append(q0 - q1 * q1 / (4 * q2))
        return float(np.sqrt(max(*ends, 0.0)))


class Bone(NamedTuple):
    """Where a solid belongs: its frame, surface, side and the span of its chart."""

    frame: Frame
    surface: Surface
    left: bool
    span: tuple[float, float]
    colour: tuple[int, int, int] = (0, 0, 0)


def limb(
    bone: Bone,
    clip: tuple[float, float],
    profile: tuple[float, float, float],
    *,
    depth: float = 1.0,
    z0: float = 0.0,
) -> Solid:
    """A surface of revolution through the half-widths ``profile`` at the start, middle and end of ``clip``.

    ``depth`` is its thickness front to back against its width.
    """
    t0, t1 = clip
    start, middle, end = (radius * radius for radius in profile)
    curve = 2.0 * (start - 2.0 * middle + end) / (t1 - t0) ** 2
    slope = (end - start) / (t1 - t0) - curve * (t0 + t1)
    constant = start - slope * t0 - curve * t0 * t0
    return Solid(*bone[:3], (0.0, z0), (1.0, depth), (constant, slope, curve), clip, bone.span, bone.colour)


def ellipsoid(
    bone: Bone,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    clip: tuple[float, float] = (-1.0, 1.0),
) -> Solid:
    """An ellipsoid with its ``centre`` and ``radii`` outward, along and forward; ``clip`` in units of its radius."""
    x0, t, z0 = centre
    a, c, b = radii
    quadratic = (1.0 - t * t / (c * c), 2.0 * t / (c * c), -1.0 / (c * c))
    ends = (t + clip[0] * c, t + clip[1] * c)
    return Solid(*bone[:3], (x0, z0), (a, b), quadratic, ends, bone.span, bone.colour)


def body_solids(build: Build, pose: Pose) -> list[Solid]:
    """The skin of a posed person: at least one solid for each of the 24 parts' surfaces."""
    frames = bone_frames(pose, shoulder_width=build.shoulder_width, hip_width=build.hip_width)
    solids = [*_trunk(build, frames["torso"]), *_head(build, frames["head"])]
    for side in ("left", "right"):
        bones = {name: frame for name, frame in frames.items() if name.startswith(side)}
        solids += _arm(build, bones, side)
        solids += _leg(build, bones, side)
    return solids


def _trunk(build: Build, frame: Frame) -> list[Solid]:
    bone = Bone(frame, Surface.TORSO, False, (0.0, 0.37))
    chest = build.shoulder_width * 0.47 * (0.7 + 0.3 * build.girth)
    hips = (build.hip_width / 2 + 0.044) * build.girth
    waist = (0.079 + 0.014 * build.loose_top) * build.girth
    depth = 0.6 + 0.1 * (build.girth - 1.0)
    middle = max(waist, (chest + hips) / 2 * 0.9)
    return [
        limb(bone, (-0.01, 0.07), (0.032, 0.052, 0.082), depth=depth, z0=-0.005),
        ellipsoid(bone, (0.0, 0.095, -0.002), (chest, 0.068, depth * chest), (-1.0, 0.1)),
        ellipsoid(bone, (0.0, 0.068, -0.004), (chest * 1.08, 0.03, 0.04 * build.girth)),
        limb(bone, (0.09, 0.325), (chest, middle, hips), depth=depth, z0=-0.002),
        ellipsoid(bone, (0.0, 0.32, -0.002), (hips, 0.055, hips * depth), (-0.2, 1.0)),
        ellipsoid(bone, (0.0, 0.3, -0.018), (hips * 0.92, 0.055, hips * depth), (-1.0, 1.0)),
    ]


def _head(build: Build, frame: Frame) -> list[Solid]:
    bone = Bone(frame, Surface.HEAD, False, (0.0, 0.165))
    solids = [
        limb(bone, (-0.02, 0.06), (0.036, 0.03, 0.029), z0=-0.006),
        ellipsoid(bone, (0.0, 0.098, 0.01), (0.045, 0.067, 0.055)),
        ellipsoid(bone, (0.0, 0.088, 0.062), (0.008, 0.016, 0.012)),
    ]
    if build.hair is not Hair.BALD:
        solids.append(ellipsoid(bone, (0.0, 0.112, 0.001), (0.05, 0.06, 0.059)))
    if build.hair is Hair.LONG:
        solids.append(ellipsoid(bone, (0.0, 0.05, -0.028), (0.052, 0.095, 0.034)))
    if build.hair is Hair.BUN:
        solids.append(ellipsoid(bone, (0.0, 0.135, -0.062), (0.026, 0.026, 0.024)))
    if build.hair is Hair.CAP:
        solids.append(ellipsoid(bone, (0.0, 0.13, 0.06), (0.036, 0.006, 0.045)))
    return solids


def _arm(build: Build, frames: dict[str, Frame], side: str) -> list[Solid]:
    left, thick = side == "left", build.girth * (1.0 + 0.15 * build.loose_top)
    upper = Bone(frames[f"{side} upper arm"], Surface.UPPER_ARM, left, (-0.03, UPPER_ARM_LENGTH + 0.01))
    lower = Bone(frames[f"{side} lower arm"], Surface.LOWER_ARM, left, (-0.015, LOWER_ARM_LENGTH + 0.01))
    hand = Bone(frames[f"{side} hand"], Surface.HAND, left, (-0.01, 0.09))
    r0, r1, r2, r3 = 0.034 * thick, 0.031 * thick, 0.026 * thick, 0.019 * (0.6 + 0.4 * thick)
    return [
        ellipsoid(upper, (-0.009, 0.008, 0.0), (r0 * 1.12, r0 * 0.88, r0 * 1.05)),
        limb(upper, (0.0, UPPER_ARM_LENGTH), (r0, r1, r2), depth=1.08),
        ellipsoid(lower, (0.0, 0.0, 0.0), (r2, r2, r2 * 1.05)),
        limb(lower, (0.0, LOWER_ARM_LENGTH), (r2, r2 * 1.02, r3), depth=1.05),
        ellipsoid(lower, (0.0, LOWER_ARM_LENGTH, 0.0), (r3, r3 * 0.5, r3 * 1.05)),
        ellipsoid(hand, (0.0, 0.04, 0.004), (0.014, 0.05, 0.024)),
    ]


def _leg(build: Build, frames: dict[str, Frame], side: str) -> list[Solid]:
    left, thick, wide = side == "left", build.girth, build.trousers_width
    upper = Bone(frames[f"{side} upper leg"], Surface.UPPER_LEG, left, (-0.04, UPPER_LEG_LENGTH + 0.01))
    lower = Bone(frames[f"{side} lower leg"], Surface.LOWER_LEG, left, (-0.02, LOWER_LEG_LENGTH + 0.015))
    foot = Bone(frames[f"{side} foot"], Surface.FOOT, left, (-0.04, 0.115))
    r0, r1, r2 = 0.052 * thick, (0.045 + 0.003 * wide) * thick, (0.033 + 0.008 * wide) * thick
    if build.skirt:
        r1, r2 = 0.06 * thick, 0.066 * thick
    knee = 0.034 * thick if build.skirt else r2
    calf, ankle = (0.034 + 0.008 * wide) * thick, 0.021 + 0.016 * wide
    return [
        ellipsoid(upper, (0.0, 0.0, -0.004), (r0, r0 * 0.8, r0 * 1.1)),
        limb(upper, (0.0, UPPER_LEG_LENGTH), (r0, r1, r2), depth=1.1),
        ellipsoid(lower, (0.0, 0.0, 0.0), (knee, knee, knee * 1.1)),
        limb(lower, (0.0, LOWER_LEG_LENGTH), (knee, calf, ankle), depth=1.08, z0=-0.003),
        ellipsoid(lower, (0.0, LOWER_LEG_LENGTH, -0.003), (ankle, ankle * 0.5, ankle * 1.08)),
        ellipsoid(foot, (0.0, 0.03, -0.014), (0.029, 0.08, 0.021)),
        ellipsoid(foot, (0.0, -0.008, -0.004), (0.026, 0.032, 0.028)),
    ]


def bag_solids(build: Build, pose: Pose, colour: tuple[int, int, int]) -> list[Solid]:
    """The bag that this person carries, with its straps; empty for none."""
    if build.bag is Bag.NONE:
        return []
    frames = bone_frames(pose, shoulder_width=build.shoulder_width, hip_width=build.hip_width)
    dark = (colour[0] * 7 // 10, colour[1] * 7 // 10, colour[2] * 7 // 10)
    side = "left" if build.bag_on_left else "right"
    if build.bag is Bag.HANDBAG:
        bone = Bone(_hanging(frames[f"{side} hand"].point(0.0, 0.07, 0.0)), Surface.OBJECT, False, (0.0, 1.0), colour)
        return [
            limb(bone, (0.05, 0.15), (0.022, 0.03, 0.034), depth=2.3),
            ellipsoid(bone, (0.0, 0.15, 0.0), (0.034, 0.012, 0.078)),
            limb(bone._replace(colour=dark), (0.0, 0.06), (0.006, 0.008, 0.014), depth=2.3),
        ]
    bone = Bone(frames["torso"], Surface.OBJECT, False, (0.0, 1.0), colour)
    strap = bone._replace(colour=dark)
    outward = -1.0 if build.bag_on_left else 1.0
    if build.bag is Bag.BACKPACK:
        straps = [ellipsoid(strap, (x, 0.075, 0.0), (0.013, 0.085, 0.071 * build.girth)) for x in (-0.06, 0.06)]
        return [
            limb(bone, (0.05, 0.23), (0.062, 0.078, 0.074), depth=0.62, z0=-0.085),
            ellipsoid(bone, (0.0, 0.05, -0.085), (0.062, 0.03, 0.038), (-1.0, 0.0)),
            ellipsoid(bone, (0.0, 0.23, -0.085), (0.074, 0.022, 0.046), (0.0, 1.0)),
            ellipsoid(strap, (0.0, 0.18, -0.13), (0.05, 0.04, 0.018)),
            *straps,
        ]
    hip = frames["torso"].point(outward * 0.118, 0.3, 0.0)
    bag = Bone(_hanging(hip), Surface.OBJECT, False, (0.0, 1.0), colour)
    return [
        limb(bag, (-0.05, 0.06), (0.024, 0.033, 0.034), depth=2.1),
        ellipsoid(bag, (0.0, 0.06, 0.0), (0.034, 0.014, 0.071)),
        ellipsoid(bag, (0.0, -0.05, 0.0), (0.024, 0.012, 0.05)),
        *_shoulder_strap(frames["torso"], strap, outward, build.girth),
    ]


def _hanging(point: np.ndarray) -> Frame:
    return Frame(point, np.array([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]))


def _shoulder_strap(torso: Frame, bone: Bone, outward: float, girth: float) -> list[Solid]:
    """Two bands across the trunk, front and back, from the other shoulder down to the bag."""
    solids = []
    for forward in (0.066 * girth, -0.068 * girth):
        start, end = torso.point(-outward * 0.06, 0.05, forward * 0.8), torso.point(outward * 0.108, 0.26, forward)
        along = (end - start) / np.linalg.norm(end - start)
        across = np.cross(along, torso.axes[2])
        across /= np.linalg.norm(across)
        frame = Frame(start, np.stack([across, along, np.cross(along, across)]))
        length = float(np.linalg.norm(end - start))
        solids.append(limb(bone._replace(frame=frame), (0.0, length), (0.013, 0.013, 0.013), depth=0.9))
    return solids
