"""From a pose to the frame of every bone. Lengths are in body heights; x is the person's left, y up, z forward."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

NECK_HEIGHT = 0.835
PELVIS_HEIGHT = 0.52
HIP_HEIGHT = 0.5
UPPER_LEG_LENGTH = 0.235
LOWER_LEG_LENGTH = 0.235
UPPER_ARM_LENGTH = 0.165
LOWER_ARM_LENGTH = 0.14


@dataclass(frozen=True)
class SidePose:
    """Joint angles of one side, radians; positive flexion swings the limb forward, abduction away from the body."""

    hip: float = 0.0
    hip_abduction: float = 0.03
    knee: float = 0.0
    """Bends the lower leg backward."""
    ankle: float = 0.0
    """Points the toes down."""
    shoulder: float = 0.0
    shoulder_abduction: float = 0.12
    shoulder_turn: float = 0.0
    """Turns the arm about itself, outward."""
    elbow: float = 0.1
    """Bends the lower arm forward."""


@dataclass(frozen=True)
class Pose:
    """A whole body's joint angles, radians. ``left`` and ``right`` are the person's own."""

    left: SidePose = SidePose()
    right: SidePose = SidePose()
    lean_forward: float = 0.0
    lean_side: float = 0.0
    """To the person's left."""
    twist: float = 0.0
    """Turns the trunk to the person's left."""
    head_turn: float = 0.0
    """Turns the head to the person's left."""
    head_nod: float = 0.0
    """Looks down."""

    def mirrored(self) -> Pose:
        """The same pose seen in a mirror."""
        return replace(
            self,
            left=self.right,
            right=self.left,
            lean_side=-self.lean_side,
            twist=-self.twist,
            head_turn=-self.head_turn,
        )


@dataclass(frozen=True)
class Frame:
    """A bone's frame: ``origin`` (3,) and ``axes`` (3, 3) whose rows point outward, along the bone, and forward."""

    origin: np.ndarray
    axes: np.ndarray

    def point(self, outward: float, along: float, forward: float) -> np.ndarray:
        """The body coordinates (3,) of a point given in this frame."""
        return self.origin + np.array([outward, along, forward]) @ self.axes


_REST_DOWN = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
_REST_FOOT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
_REST_UP = np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
_REST_TRUNK = np.array([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])


def turn_about_x(angle: float) -> np.ndarray:
    """The rotation (3, 3) that swings a hanging limb forward by ``angle`` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])


def turn_about_y(angle: float) -> np.ndarray:
    """The rotation (3, 3) that turns the forward direction towards +x by ``angle`` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def turn_about_z(angle: float) -> np.ndarray:
    """The rotation (3, 3) that swings a hanging limb towards +x by ``angle`` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def bone_frames(pose: Pose, *, shoulder_width: float, hip_width: float) -> dict[str, Frame]:
    """The frame of every bone: ``torso``, ``head`` and, per side, e.g. ``left upper leg``, ``right hand``.

    ``shoulder_width`` and ``hip_width`` are the distances between the two joints, in body heights.
    """
    pelvis = np.array([0.0, PELVIS_HEIGHT, 0.0])
    trunk = turn_about_y(pose.twist) @ turn_about_z(-pose.lean_side) @ turn_about_x(-pose.lean_forward)
    neck = pelvis + trunk @ np.array([0.0, NECK_HEIGHT - PELVIS_HEIGHT, 0.0])
    head = trunk @ turn_about_y(pose.head_turn) @ turn_about_x(-pose.head_nod)
    frames = {"torso": Frame(neck, _REST_TRUNK @ trunk.T), "head": Frame(neck, _REST_UP @ head.T)}
    for name, side, sign in (("left", pose.left, 1.0), ("right", pose.right, -1.0)):
        frames.update(_leg(name, side, sign, hip_width))
        frames.update(_arm(name, side, sign, shoulder_width, neck, trunk))
    return frames


def _leg(name: str, side: SidePose, sign: float, hip_width: float) -> dict[str, Frame]:
    # A side is worked out with +x outward and mirrored at the end, so that left and right agree to the last bit.
    flip = np.array([sign, 1.0, 1.0])
    upper = turn_about_z(side.hip_abduction) @ turn_about_x(side.hip)
    lower = upper @ turn_about_x(-side.knee)
    foot = lower @ turn_about_y(0.15) @ turn_about_x(-side.ankle)
    hip = np.array([hip_width / 2, HIP_HEIGHT, 0.0])
    knee = hip + upper @ np.array([0.0, -UPPER_LEG_LENGTH, 0.0])
    ankle = knee + lower @ np.array([0.0, -LOWER_LEG_LENGTH, 0.0])
    return {
        f"{name} upper leg": Frame(hip * flip, _REST_DOWN @ upper.T * flip),
        f"{name} lower leg": Frame(knee * flip, _REST_DOWN @ lower.T * flip),
        f"{name} foot": Frame(ankle * flip, _REST_FOOT @ foot.T * flip),
    }


def _arm(
    name: str, side: SidePose, sign: float, shoulder_width: float, neck: np.ndarray, trunk: np.ndarray
) -> dict[str, Frame]:
    flip = np.array([sign, 1.0, 1.0])
    upper = turn_about_z(side.shoulder_abduction) @ turn_about_x(side.shoulder) @ turn_about_y(side.shoulder_turn)
    lower = upper @ turn_about_x(side.elbow)
    shoulder = np.array([shoulder_width / 2, -0.06, 0.0])
    elbow = shoulder + upper @ np.array([0.0, -UPPER_ARM_LENGTH, 0.0])
    wrist = elbow + lower @ np.array([0.0, -LOWER_ARM_LENGTH, 0.0])
    return {
        f"{name} upper arm": Frame(neck + trunk @ (shoulder * flip), (_REST_DOWN @ upper.T * flip) @ trunk.T),
        f"{name} lower arm": Frame(neck + trunk @ (elbow * flip), (_REST_DOWN @ lower.T * flip) @ trunk.T),
        f"{name} hand": Frame(neck + trunk @ (wrist * flip), (_REST_DOWN @ lower.T * flip) @ trunk.T),
    }


def walking_pose(rng: np.random.Generator) -> Pose:
    """A random moment of a walk: gait phase, arm swing, a small lean and head turn, and sometimes a raised arm."""
    phase = rng.uniform(0.0, 2.0 * np.pi)
    stride = rng.uniform(0.15, 0.5) if rng.random() < 0.85 else 0.04
    swing = rng.uniform(0.3, 1.1) * stride
    sides = [_walking_side(phase, stride, swing, rng), _walking_side(phase + np.pi, stride, swing, rng)]
    action = rng.random()
    which = int(rng.integers(2))
    if action < 0.12:  # holds something up to the face
        sides[which] = replace(sides[which], shoulder=0.55, elbow=2.1, shoulder_abduction=0.2, shoulder_turn=-0.5)
    elif action < 0.26:  # carries something in front
        sides[which] = replace(sides[which], shoulder=0.15, elbow=1.4, shoulder_turn=-0.4)
    elif action < 0.32:  # hands joined behind the back
        sides = [replace(s, shoulder=-0.5, elbow=0.7, shoulder_turn=-1.2, shoulder_abduction=0.22) for s in sides]
    return Pose(
        left=sides[0],
        right=sides[1],
        lean_forward=rng.normal(0.04, 0.04),
        lean_side=rng.normal(0.0, 0.025),
        twist=0.25 * stride * np.sin(phase),
        head_turn=rng.normal(0.0, 0.25),
        head_nod=rng.normal(0.08, 0.12),
    )


def _walking_side(phase: float, stride: float, swing: float, rng: np.random.Generator) -> SidePose:
    hip = stride * np.sin(phase) + 0.05
    knee = 0.08 + 1.7 * stride * max(0.0, np.cos(phase - 0.3)) ** 2 * (0.6 + 0.4 * np.cos(phase))
    return SidePose(
        hip=hip,
        hip_abduction=rng.uniform(0.0, 0.06),
        knee=knee,
        ankle=0.5 * max(0.0, -np.sin(phase)) * stride * 2 - 0.03,
        shoulder=-swing * np.sin(phase),
        shoulder_abduction=rng.uniform(0.08, 0.22),
        shoulder_turn=rng.normal(-0.15, 0.15),
        elbow=rng.uniform(0.08, 0.5),
    )
