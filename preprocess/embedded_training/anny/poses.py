"""Poses of everyday life, and the resting body's skin turned into one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from densereid.data_catalog.synthetic.charts import Surface
from densereid.data_catalog.synthetic.skeleton import Frame, Pose, SidePose, bone_frames, walking_pose
from densereid.preprocess.embedded_training.anny.body import BONE_GROUPS, RestBody
from densereid.preprocess.embedded_training.anny.charts import Regions

_WRITTEN = {
    "upper leg": Surface.UPPER_LEG,
    "lower leg": Surface.LOWER_LEG,
    "foot": Surface.FOOT,
    "upper arm": Surface.UPPER_ARM,
    "lower arm": Surface.LOWER_ARM,
}
_PARENTS = {"upper leg": "pelvis", "lower leg": "upper leg", "foot": "lower leg", "clavicle": "chest"}
_PARENTS |= {"upper arm": "clavicle", "lower arm": "upper arm", "hand": "lower arm", "fingers": "hand"}
_CLAVICLE_SHARE = 0.15
"""How much of the upper arm's turn the collar bone takes."""


def group_turns(pose: Pose, regions: Regions, curls: tuple[float, float]) -> dict[str, np.ndarray]:
    """The turn (3, 3) of every group of BONE_GROUPS from rest to the pose; ``curls`` bend the fingers, radians."""
    frames = bone_frames(pose, shoulder_width=0.2, hip_width=0.1)
    trunk, head = _turn(frames["torso"], regions[Surface.TORSO, False].frame), None
    head = _turn(frames["head"], regions[Surface.HEAD, False].frame)
    turns = {"pelvis": np.eye(3), "waist": part_turn(trunk, 0.5), "chest": trunk, "head": head}
    turns["neck"] = trunk @ part_turn(trunk.T @ head, 0.5)
    for is_left, side in ((True, "left"), (False, "right")):
        for name, surface in _WRITTEN.items():
            turns[f"{side} {name}"] = _turn(frames[f"{side} {name}"], regions[surface, is_left].frame)
        turns[f"{side} clavicle"] = trunk @ part_turn(trunk.T @ turns[f"{side} upper arm"], _CLAVICLE_SHARE)
        hand = regions[Surface.HAND, is_left].frame
        turns[f"{side} hand"] = turns[f"{side} lower arm"]
        c, s = np.cos(curls[is_left]), np.sin(curls[is_left])
        curl = hand.axes.T @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ hand.axes
        turns[f"{side} fingers"] = turns[f"{side} hand"] @ curl
    return turns


def _turn(posed: Frame, rest: Frame) -> np.ndarray:
    return posed.axes.T @ rest.axes


def part_turn(turn: np.ndarray, share: float) -> np.ndarray:
    """The turn (3, 3) about the same axis by a share of the angle."""
    cosine = np.clip((np.trace(turn) - 1.0) / 2.0, -1.0, 1.0)
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    length = np.linalg.norm(axis)
    if length < 1e-9:
        return np.eye(3)
    x, y, z = axis / length
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = share * np.arccos(cosine)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def group_matrices(body: RestBody, turns: dict[str, np.ndarray]) -> np.ndarray:
    """How each group moves resting points: (len(BONE_GROUPS), 3, 4), joint by joint from the pelvis outward."""
    moves: dict[str, np.ndarray] = {}

    def move(group: str) -> np.ndarray:
        if group not in moves:
            joint = body.joints[group]
            parent = _parent(group)
            at = joint if parent is None else _apply(move(parent), joint)
            moves[group] = np.concatenate([turns[group], (at - turns[group] @ joint)[:, None]], axis=1)
        return moves[group]

    return np.stack([move(group) for group in BONE_GROUPS])


def _parent(group: str) -> str | None:
    trunk = {"pelvis": None, "waist": "pelvis", "chest": "waist", "neck": "chest", "head": "neck"}
    if group in trunk:
        return trunk[group]
    side, name = group.split(" ", 1)
    parent = _PARENTS[name]
    return parent if parent in trunk else f"{side} {parent}"


def _apply(move: np.ndarray, point: np.ndarray) -> np.ndarray:
    return move[:, :3] @ point + move[:, 3]


def skinned(points: np.ndarray, weights: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Linear blend skinning: resting points (V, 3), weights (V, G) and matrices (G, 3, 4) -> posed points (V, 3)."""
    blended = (weights @ matrices.reshape(len(matrices), 12)).reshape(-1, 3, 4)
    return np.einsum("vij,vj->vi", blended[:, :, :3], points) + blended[:, :, 3]


def everyday_pose(rng: np.random.Generator) -> Pose:
    """A random pose: a walk half of the time, else standing, seated, riding, crouching or leaning, arms at anything."""
    if rng.random() < 0.45:
        return walking_pose(rng)
    stance = _STANCES[rng.choice(len(_STANCES), p=[0.44, 0.12, 0.2, 0.1, 0.14])]
    pose = stance(rng)
    if stance is _riding and rng.random() < 0.8:
        return pose
    pose = replace(pose, left=_with_arm(pose.left, rng), right=_with_arm(pose.right, rng))
    action = rng.random()
    if action < 0.2:  # crossed, behind the back, or both hands up
        both = _BOTH_ARMS[rng.integers(len(_BOTH_ARMS))]
        pose = replace(pose, left=replace(pose.left, **both), right=replace(pose.right, **both))
    return pose


_BOTH_ARMS: tuple[dict[str, float], ...] = (
    {"shoulder": 0.45, "elbow": 1.75, "shoulder_abduction": 0.15, "shoulder_turn": -1.0},
    {"shoulder": -0.5, "elbow": 0.8, "shoulder_abduction": 0.25, "shoulder_turn": -1.2},
    {"shoulder": 2.6, "elbow": 0.5, "shoulder_abduction": 0.3, "shoulder_turn": 0.0},
    {"shoulder": 0.5, "elbow": 1.5, "shoulder_abduction": 0.1, "shoulder_turn": -0.5},
    {"shoulder": -0.1, "elbow": 1.6, "shoulder_abduction": 0.8, "shoulder_turn": -1.2},
)
"""Crossed, behind the back, up, in front with a phone, hands on the hips."""


def _with_arm(side: SidePose, rng: np.random.Generator) -> SidePose:
    kind = rng.random()
    turn, spread = rng.normal(-0.2, 0.25), rng.uniform(0.05, 0.3)
    if kind < 0.45:  # hangs
        return replace(side, shoulder=rng.normal(0.0, 0.2), elbow=rng.uniform(0.02, 0.5), shoulder_turn=turn)
    if kind < 0.6:  # carries, reads, pushes
        turn = rng.uniform(-0.9, 0.2)
        return replace(side, shoulder=rng.uniform(0.0, 0.8), elbow=rng.uniform(0.8, 1.9), shoulder_turn=turn)
    if kind < 0.72:  # a phone at the ear
        turn = rng.uniform(-0.7, -0.2)
        return replace(side, shoulder=rng.uniform(0.4, 0.8), elbow=2.3, shoulder_abduction=0.4, shoulder_turn=turn)
    if kind < 0.84:  # points or waves
        up = rng.uniform(0.8, 2.8)
        return replace(side, shoulder=up, elbow=rng.uniform(0.0, 1.2), shoulder_abduction=spread, shoulder_turn=turn)
    spread = rng.uniform(0.4, 1.5)
    return replace(side, shoulder=rng.normal(0.0, 0.3), elbow=rng.uniform(0.0, 1.5), shoulder_abduction=spread)


def _side(rng: np.random.Generator, hip: float, knee: float, *, abduction: float = 0.05) -> SidePose:
    return SidePose(
        hip=hip + rng.normal(0.0, 0.06),
        knee=max(0.0, knee + rng.normal(0.0, 0.08)),
        hip_abduction=abduction + rng.uniform(-0.03, 0.08),
        shoulder_abduction=rng.uniform(0.06, 0.3),
    )


def _posed(left: SidePose, right: SidePose, rng: np.random.Generator, lean: float) -> Pose:
    return Pose(
        left=left,
        right=right,
        lean_forward=lean + rng.normal(0.0, 0.06),
        lean_side=rng.normal(0.0, 0.06),
        twist=rng.normal(0.0, 0.15),
        head_turn=rng.normal(0.0, 0.4),
        head_nod=rng.normal(0.1, 0.2) - 0.5 * lean,
    )


def _standing(rng: np.random.Generator) -> Pose:
    return _posed(_side(rng, 0.0, 0.03), _side(rng, 0.0, 0.03, abduction=rng.uniform(0.03, 0.15)), rng, 0.0)


def _seated(rng: np.random.Generator) -> Pose:
    hip, knee = rng.uniform(1.1, 1.6), rng.uniform(0.9, 1.7)
    return _posed(_side(rng, hip, knee), _side(rng, hip, knee, abduction=0.1), rng, rng.uniform(-0.1, 0.3))


def _riding(rng: np.random.Generator) -> Pose:
    phase = rng.uniform(0.0, 2.0 * np.pi)
    legs = [_side(rng, 0.85 + 0.4 * np.sin(p), 1.1 + 0.45 * np.sin(p + 0.5)) for p in (phase, phase + np.pi)]
    lean = rng.uniform(0.1, 0.7)
    reach, elbow = rng.uniform(0.7, 1.2), rng.uniform(0.1, 0.6)
    apart, wide = rng.uniform(0.0, 0.4), rng.uniform(0.1, 0.35)
    legs = [
        replace(leg, hip_abduction=leg.hip_abduction + apart, shoulder=reach, elbow=elbow, shoulder_abduction=wide)
        for leg in legs
    ]
    return _posed(legs[0], legs[1], rng, lean)


def _crouching(rng: np.random.Generator) -> Pose:
    hip, knee = rng.uniform(0.8, 1.9), rng.uniform(1.0, 2.2)
    left = _side(rng, hip, knee, abduction=0.15)
    right = _side(rng, hip if rng.random() < 0.5 else 0.2, knee, abduction=0.15)
    return _posed(left, right, rng, rng.uniform(0.1, 0.7))


def _leaning(rng: np.random.Generator) -> Pose:
    lean = rng.uniform(0.3, 1.2)
    return _posed(_side(rng, rng.uniform(-0.1, 0.4), 0.1), _side(rng, 0.0, 0.1), rng, lean)


_STANCES: tuple[Callable[[np.random.Generator], Pose], ...] = (_standing, _seated, _riding, _crouching, _leaning)
