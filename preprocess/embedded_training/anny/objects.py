"""Meshes of what is no body part: backpacks, shoulder bags, handbags, suitcases, phones, and what people sit on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from densereid.preprocess.embedded_training.anny.body import BONE_GROUPS, RestBody
from densereid.preprocess.embedded_training.seats import Block, Landmarks


class Carried(StrEnum):
    """What a person carries."""

    NOTHING = "nothing"
    BACKPACK = "backpack"
    SHOULDER_BAG = "shoulder bag"
    HANDBAG = "handbag"
    SUITCASE = "suitcase"
    PHONE = "phone"


@dataclass(frozen=True)
class Load:
    """What one person carries, and on which side."""

    kind: Carried
    sign: float
    """1 on the person's left, -1 on the right."""
    size: np.ndarray
    """(3,) half of its width, height and depth, body heights."""
    roundness: float
    """1 an ellipsoid, towards 0 a box."""


_HALF_SIZES: dict[Carried, tuple[float, float, float]] = {
    Carried.NOTHING: (0.0, 0.0, 0.0),
    Carried.BACKPACK: (0.085, 0.125, 0.055),
    Carried.SHOULDER_BAG: (0.03, 0.075, 0.09),
    Carried.HANDBAG: (0.025, 0.07, 0.085),
    Carried.SUITCASE: (0.07, 0.17, 0.11),
    Carried.PHONE: (0.006, 0.045, 0.022),
}
_SHARES = (0.5, 0.17, 0.12, 0.12, 0.05, 0.04)


def draw_load(rng: np.random.Generator) -> Load:
    """A random load; half of the people carry nothing."""
    kind = tuple(_HALF_SIZES)[rng.choice(len(_SHARES), p=_SHARES)]
    size = np.array(_HALF_SIZES[kind]) * rng.uniform(0.7, 1.3) * rng.uniform(0.8, 1.25, 3)
    return Load(kind, 1.0 if rng.random() < 0.5 else -1.0, size, rng.uniform(0.2, 0.8))


def _block(half: np.ndarray, roundness: float, around: int = 20, levels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A rounded box about the origin, its ``half`` size (3,): vertices (V, 3) and faces (F, 3)."""
    turn, rise = np.meshgrid(
        np.arange(around) * 2.0 * np.pi / around, np.linspace(-np.pi / 2, np.pi / 2, levels), indexing="xy"
    )

    def power(wave: np.ndarray) -> np.ndarray:
        return np.sign(wave) * np.abs(wave) ** roundness

    ring = power(np.cos(rise))
    sphere = np.stack([ring * power(np.cos(turn)), power(np.sin(rise)), ring * power(np.sin(turn))], axis=-1)
    row, column = np.mgrid[: levels - 1, :around]
    following = (column + 1) % around
    a, b = (row * around + column).ravel(), (row * around + following).ravel()
    faces = np.concatenate([np.stack([a, a + around, b], axis=1), np.stack([b, a + around, b + around], axis=1)])
    return sphere.reshape(-1, 3) * half, faces


def load_mesh(load: Load, body: RestBody, matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The load of a posed person: vertices (V, 3) in the posed body's space, and faces (F, 3); none are empty."""
    if load.kind is Carried.NOTHING:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    points, faces = _block(load.size, load.roundness)
    if load.kind is Carried.BACKPACK:
        middle = (body.joints["neck"] + body.joints["chest"]) / 2
        return _moved(points + middle + [0.0, -0.01, -0.075 - 0.7 * load.size[2]], "chest", matrices), faces
    side = "left" if load.sign > 0 else "right"
    if load.kind is Carried.SHOULDER_BAG:
        hip = body.joints[f"{side} upper leg"] + [load.sign * (0.075 + load.size[0]), 0.05, -0.01]
        return _moved(points + hip, "pelvis", matrices), faces
    tip = _moved(body.joints[f"{side} fingers"][None], f"{side} hand", matrices)
    if load.kind is Carried.PHONE:
        return points + tip, faces
    if load.kind is Carried.HANDBAG:
        return points + tip - [0.0, load.size[1] + 0.02, 0.0], faces
    ground = tip * (1.0, 0.0, 1.0) + [load.sign * 0.04, load.size[1] + 0.015, -0.03]
    return points + ground, faces


def landmarks(body: RestBody, matrices: np.ndarray) -> Landmarks:
    """Where a posed person meets a seat."""

    def posed(joint: str, group: str) -> np.ndarray:
        return _moved(body.joints[joint][None], group, matrices)[0]

    hips = (posed("left upper leg", "pelvis") + posed("right upper leg", "pelvis")) / 2
    hands, feet = (
        np.stack([posed(f"{side} {joint}", f"{side} {group}") for side in ("left", "right")])
        for joint, group in (("fingers", "hand"), ("foot", "foot"))
    )
    return Landmarks(hips, hands, feet)


def seat_mesh(blocks: Sequence[Block]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), faces (F, 3) and the Finish of each face (F,)."""
    points, faces, finishes = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    number = 0
    for block in blocks:
        own, corners = _block(np.array(block.half), block.roundness, around=12, levels=8)
        points.append(own @ block.axes + block.centre)
        faces.append(corners + number)
        finishes.append(np.full(len(corners), block.finish))
        number += len(own)
    return np.concatenate(points), np.concatenate(faces), np.concatenate(finishes)


def _moved(points: np.ndarray, group: str, matrices: np.ndarray) -> np.ndarray:
    matrix = matrices[BONE_GROUPS.index(group)]
    return points @ matrix[:, :3].T + matrix[:, 3]


def on_strap(load: Load, rest: np.ndarray, body: RestBody) -> np.ndarray:
    """Which points (N, 3) of the resting trunk lie under the load's straps: (N,) bool."""
    neck, hip = body.joints["neck"], body.joints["left upper leg"]
    across, down = rest[:, 0], neck[1] - rest[:, 1]
    if load.kind is Carried.BACKPACK:
        front = (rest[:, 2] > neck[2] - 0.02) & (down < 0.2)
        return (np.abs(np.abs(across) - 0.055 - 0.1 * down) < 0.011) & front
    if load.kind is Carried.SHOULDER_BAG:
        share = down / (neck[1] - hip[1])
        return np.abs(across - load.sign * (share * 0.19 - 0.07)) < 0.009
    return np.zeros(len(rest), bool)
