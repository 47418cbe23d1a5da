"""What people sit and ride on: chairs, benches, bicycles and motorcycles, which hide them and are no body part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import pairwise

import numpy as np

from densereid.data_catalog.synthetic.skeleton import Pose

_SEATED = 0.4
"""Radians that both thighs are raised by at least."""


class Finish(IntEnum):
    """What a block looks like; all blocks of one finish have one colour."""

    PAINT = 0
    DARK = 1
    BRIGHT = 2
    LAMP = 3


@dataclass(frozen=True)
class Block:
    """An ellipsoid, a box, or what is between them, in body heights: x is the person's left, y up, z forward."""

    centre: np.ndarray
    """(3,)."""
    half: tuple[float, float, float]
    """Half of the size along each of the axes."""
    finish: Finish
    roundness: float = 0.3
    """1 an ellipsoid, towards 0 a box."""
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    """(3, 3), one in a row."""


@dataclass(frozen=True)
class Landmarks:
    """Where a posed person meets a seat."""

    hips: np.ndarray
    """(3,) their middle."""
    hands: np.ndarray
    """(2, 3) left and right."""
    feet: np.ndarray
    """(2, 3) the ankles, left and right."""

    @property
    def ground(self) -> float:
        """The height of what the lower foot stands on."""
        return float(self.feet[:, 1].min()) - 0.04


def draw_seat(pose: Pose, landmarks: Landmarks, rng: np.random.Generator) -> list[Block]:
    """What a person in this pose sits on; some of those who stand push a bicycle. Empty for most people."""
    if min(pose.left.hip, pose.right.hip) < _SEATED:
        if rng.random() > 0.03:
            return []
        aside = np.array([rng.choice([-0.22, 0.22]), 0.0, rng.uniform(-0.1, 0.2)])
        return [replace(block, centre=block.centre + aside) for block in _bicycle(landmarks, rng)]
    kind = _SEATS[rng.choice(len(_SEATS), p=[0.12, 0.23, 0.12, 0.2, 0.33])]
    return kind(landmarks, rng)


def draw_colours(rng: np.random.Generator) -> dict[Finish, np.ndarray]:
    """An RGB colour (3,) float, 0..255, for each finish."""
    paint = rng.uniform(0.0, 255.0, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(10.0, 240.0))
    lamp = (rng.uniform(150.0, 255.0), rng.uniform(0.0, 200.0), rng.uniform(0.0, 60.0))
    dark, bright = np.full(3, rng.uniform(10.0, 70.0)), np.full(3, rng.uniform(120.0, 240.0))
    return {Finish.PAINT: paint, Finish.DARK: dark, Finish.BRIGHT: bright, Finish.LAMP: np.array(lamp)}


def _nothing(landmarks: Landmarks, rng: np.random.Generator) -> list[Block]:  # noqa: ARG001 - as its siblings
    return []


def _chair(landmarks: Landmarks, rng: np.random.Generator) -> list[Block]:
    wide, deep = rng.uniform(0.1, 0.16), rng.uniform(0.1, 0.15)
    seat = _moved(landmarks.hips, 0.0, -0.075, 0.06)
    finish = _any_finish(rng)
    blocks = [Block(seat, (wide, 0.015, deep), finish)]
    for x, z in ((-wide, -deep), (wide, -deep), (-wide, deep), (wide, deep)):
        top = _moved(seat, 0.9 * x, 0.0, 0.9 * z)
        blocks.append(_rod(top, np.array([top[0], landmarks.ground, top[2]]), 0.009, _any_finish(rng)))
    if rng.random() < 0.65:
        high = rng.uniform(0.08, 0.2)
        blocks.append(Block(_moved(seat, 0.0, high, -deep - 0.03), (wide, high, 0.012), finish))
    return blocks


def _bench(landmarks: Landmarks, rng: np.random.Generator) -> list[Block]:
    """A bench, a wall, a box."""
    top, wide = landmarks.hips[1] - 0.06, rng.uniform(0.12, 0.6)
    high = (top - landmarks.ground) / 2 * (1.0 if rng.random() < 0.6 else rng.uniform(0.05, 0.4))
    centre = np.array([landmarks.hips[0] + rng.normal(0.0, 0.3) * wide, top - high, landmarks.hips[2] + 0.02])
    return [Block(centre, (wide, high, rng.uniform(0.1, 0.16)), _any_finish(rng), 0.2)]


def _bicycle(landmarks: Landmarks, rng: np.random.Generator) -> list[Block]:
    radius, ground, hips = rng.uniform(0.17, 0.2), landmarks.ground, landmarks.hips
    back = np.array([0.0, ground + radius, hips[2] - rng.uniform(0.1, 0.2)])
    front = _moved(back, 0.0, 0.0, rng.uniform(0.55, 0.65))
    saddle, pedals = _moved(hips, 0.0, -0.08, -0.02), np.array([0.0, ground + 0.15, hips[2] + 0.08])
    left, right = _grips(landmarks, front[2])
    grip = (left + right) / 2
    head = np.array([0.0, (grip[1] + front[1]) / 2 + 0.08, front[2] - 0.07])
    frame = [(saddle, pedals), (pedals, back), (saddle, back), (saddle, head), (pedals, head), (head, front)]
    blocks = [_rod(start, end, 0.012, Finish.PAINT) for start, end in frame]
    blocks += [_rod(left, right, 0.009, Finish.BRIGHT), _rod(head, grip, 0.01, Finish.BRIGHT)]
    blocks.append(Block(saddle, (0.04, 0.018, 0.07), Finish.DARK, 0.6))
    blocks += _rim(back, radius) + _rim(front, radius)
    if rng.random() < 0.35:
        blocks.append(Block(_moved(front, 0.0, radius + 0.1, 0.03), (0.09, 0.06, 0.07), _any_finish(rng)))
    if rng.random() < 0.3:
        blocks.append(Block(_moved(back, 0.0, radius + 0.07, -0.05), (0.08, rng.uniform(0.01, 0.09), 0.1), Finish.DARK))
    return blocks


def _rim(hub: np.ndarray, radius: float) -> list[Block]:
    angles = np.linspace(0.0, 2.0 * np.pi, 13)
    points = hub + radius * np.stack([np.zeros(13), np.cos(angles), np.sin(angles)], axis=1)
    return [_rod(start, end, 0.011, Finish.DARK) for start, end in pairwise(points)]


def _motorcycle(landmarks: Landmarks, rng: np.random.Generator) -> list[Block]:
    """A motorcycle or a scooter, with a case, panniers and a screen or without."""
    radius, ground, hips = rng.uniform(0.11, 0.17), landmarks.ground - rng.uniform(0.0, 0.08), landmarks.hips
    tyre, wide, seat = rng.uniform(0.025, 0.05), rng.uniform(0.045, 0.1), hips[1] - 0.06
    back = np.array([0.0, ground + radius, hips[2] - rng.uniform(0.2, 0.32)])
    front = _moved(back, 0.0, 0.0, rng.uniform(0.65, 0.8))
    left, right = _grips(landmarks, front[2])
    low, tail = ground + 0.6 * radius, np.array([0.0, seat - 0.03, back[2] - rng.uniform(0.0, 0.08)])
    lamp = np.array([0.0, (left[1] + right[1]) / 2 - 0.06, front[2] - 0.02])
    blocks = [
        *(Block(hub, (tyre, radius, radius), Finish.DARK, 0.8) for hub in (back, front)),
        Block(np.array([0.0, (low + seat) / 2, hips[2] + 0.08]), (wide, (seat - low) / 2, 0.26), Finish.PAINT, 0.6),
        Block(np.array([0.0, seat - 0.02, hips[2] - 0.05]), (wide, 0.03, 0.22), Finish.DARK, 0.5),
        Block(tail, (wide, rng.uniform(0.03, 0.06), 0.12), Finish.PAINT, 0.5),
        Block(_moved(tail, 0.0, -0.01, -0.13), (0.6 * wide, 0.018, 0.01), Finish.LAMP),
        Block(_moved(tail, 0.0, -0.08, -0.12), (0.05, 0.03, 0.005), Finish.BRIGHT),
        Block(lamp, (0.045, 0.045, 0.04), Finish.BRIGHT, 0.9),
        *(_rod(_moved(front, x, 0.0, 0.0), _moved(lamp, x, 0.0, 0.0), 0.014, Finish.BRIGHT) for x in (-0.04, 0.04)),
        _rod(left, right, 0.011, Finish.DARK),
    ]
    for grip, sign in ((left, 1.0), (right, -1.0)):
        mirror = _moved(grip, 0.03 * sign, rng.uniform(0.07, 0.13), 0.05)
        blocks += [_rod(grip, mirror, 0.005, Finish.DARK), Block(mirror, (0.03, 0.022, 0.01), Finish.DARK, 0.7)]
        blocks.append(
            Block(_moved(tail, sign * rng.uniform(0.08, 0.12), -0.01, -0.1), (0.02, 0.018, 0.02), Finish.LAMP, 0.9)
        )
    return blocks + _cases(tail, lamp, rng)


def _cases(tail: np.ndarray, lamp: np.ndarray, rng: np.random.Generator) -> list[Block]:
    blocks = []
    if rng.random() < 0.4:
        high = rng.uniform(0.05, 0.1)
        case = _moved(tail, 0.0, 0.04 + high, -0.04)
        blocks.append(Block(case, (rng.uniform(0.07, 0.13), high, 0.08), _any_finish(rng), 0.4))
    if rng.random() < 0.3:
        finish = _any_finish(rng)
        blocks += [Block(_moved(tail, x, -0.1, 0.0), (0.05, 0.09, 0.11), finish) for x in (-0.14, 0.14)]
    if rng.random() < 0.4:  # a shield before the legs, or a screen before the chest
        up = rng.uniform(-0.2, 0.15)
        blocks.append(
            Block(_moved(lamp, 0.0, up, -0.04), (rng.uniform(0.08, 0.14), 0.13, 0.015), _any_finish(rng), 0.5)
        )
    return blocks


def _grips(landmarks: Landmarks, front: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the handlebar: the hands, where both reach forward."""
    left, right = landmarks.hands
    if min(left[2], right[2]) < landmarks.hips[2] + 0.15 or left[0] < right[0]:
        middle = np.array([0.0, landmarks.hips[1] + 0.18, front - 0.14])
        left, right = _moved(middle, 0.15, 0.0, 0.0), _moved(middle, -0.15, 0.0, 0.0)
    beyond = 0.15 * (left - right)
    return left + beyond, right - beyond


def _any_finish(rng: np.random.Generator) -> Finish:
    """Of what is no lamp."""
    return Finish(int(rng.integers(3)))


def _moved(point: np.ndarray, left: float, up: float, forward: float) -> np.ndarray:
    return point + np.array([left, up, forward])


def _rod(start: np.ndarray, end: np.ndarray, radius: float, finish: Finish) -> Block:
    along = end - start
    length = float(np.linalg.norm(along))
    along = along / length
    across = np.cross(along, [0.0, 0.0, 1.0] if abs(along[2]) < 0.9 else [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    axes = np.stack([across, along, np.cross(across, along)])
    return Block((start + end) / 2, (radius, length / 2 + radius, radius), finish, 0.3, axes)


_SEATS: tuple[Callable[[Landmarks, np.random.Generator], list[Block]], ...] = (
    *(_nothing, _chair, _bench, _bicycle, _motorcycle),
)
