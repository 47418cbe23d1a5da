"""Training images of Anny's bodies: charts, poses and rasteriser without the package anny, whole layers with it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V, NUM_BODY_PARTS
from densereid.data_catalog.synthetic.body import Build, body_solids
from densereid.data_catalog.synthetic.charts import Surface
from densereid.data_catalog.synthetic.skeleton import Pose, bone_frames, turn_about_x, turn_about_y, walking_pose
from densereid.preprocess.embedded_training.anny import body as anny_body
from densereid.preprocess.embedded_training.anny.body import BONE_GROUPS, RestBody, bone_group
from densereid.preprocess.embedded_training.anny.charts import (
    OVERHANG,
    chart_angles,
    chart_bones,
    chart_iuv,
    point_regions,
    region_places,
)
from densereid.preprocess.embedded_training.anny.layers import anny_layers
from densereid.preprocess.embedded_training.anny.mesh_fields import smooth_normals
from densereid.preprocess.embedded_training.anny.mesh_raster import rasterise
from densereid.preprocess.embedded_training.anny.poses import (
    everyday_pose,
    group_matrices,
    group_turns,
    part_turn,
    skinned,
)

needs_anny = pytest.mark.skipif(find_spec("anny") is None, reason="needs anny: the group embedded-training")

_MIDDLE = {"pelvis": (0.0, 0.52, 0.01), "waist": (0.0, 0.53, 0.01), "chest": (0.0, 0.61, 0.0)}
_MIDDLE |= {"neck": (0.0, 0.85, 0.0), "head": (0.0, 0.89, 0.02)}
_LEFT = {
    "clavicle": (0.015, 0.8, 0.01),
    "upper arm": (0.1, 0.79, 0.01),
    "lower arm": (0.2, 0.68, 0.02),
    "hand": (0.27, 0.6, 0.1),
    "fingers": (0.3, 0.57, 0.15),
    "finger tip": (0.31, 0.54, 0.18),
    "upper leg": (0.065, 0.52, 0.01),
    "lower leg": (0.085, 0.3, 0.025),
    "foot": (0.105, 0.045, 0.005),
    "toe": (0.11, 0.015, 0.09),
}
_BONES = {
    Surface.UPPER_ARM: ("upper arm", "lower arm"),
    Surface.LOWER_ARM: ("lower arm", "hand"),
    Surface.HAND: ("hand", "finger tip"),
    Surface.UPPER_LEG: ("upper leg", "lower leg"),
    Surface.LOWER_LEG: ("lower leg", "foot"),
    Surface.FOOT: ("foot", "toe"),
}


def place_iuv(region: np.ndarray, place: np.ndarray) -> np.ndarray:
    return chart_iuv(region // 2, *chart_angles(region, place))


def toy_joints() -> dict[str, np.ndarray]:
    joints = {name: np.array(point) for name, point in _MIDDLE.items()}
    for name, point in _LEFT.items():
        joints |= {f"left {name}": np.array(point), f"right {name}": np.array(point) * (-1.0, 1.0, 1.0)}
    return joints


def toy_skin(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface, left and position of clouds of points where each region lies; the second half mirrors the first."""
    joints = toy_joints()
    clouds = {Surface.TORSO: (joints["chest"], (0.1, 0.2, 0.07)), Surface.HEAD: (joints["head"], (0.05, 0.09, 0.07))}
    surface = np.repeat([*clouds, *_BONES], 150)
    points = [middle + rng.normal(size=(150, 3)) * size for middle, size in clouds.values()]
    for start, end in (tuple(joints[f"right {name}"] for name in bone) for bone in _BONES.values()):
        points.append(start + rng.uniform(size=(150, 1)) * (end - start) + rng.uniform(-0.04, 0.04, (150, 3)))
    points = np.concatenate(points)
    sided = np.isin(surface, list(_BONES))
    mirrored = points * (-1.0, 1.0, 1.0)
    return np.tile(surface, 2), np.concatenate([np.zeros_like(sided), sided]), np.concatenate([points, mirrored])


def test_each_triangle_is_drawn_where_a_slow_search_finds_it() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-4.0, 20.0, (24, 3))
    faces = rng.integers(0, 24, (12, 3))
    nearest, weights = rasterise(points, faces, 15, 13)
    for row in range(15):
        for column in range(13):
            best = (-np.inf, -1, np.zeros(3))
            for index, face in enumerate(faces):
                corners = np.concatenate([points[face, :2].T, np.ones((1, 3))])
                if abs(np.linalg.det(corners)) < 1e-9:
                    continue
                share = np.linalg.solve(corners, [column + 0.5, row + 0.5, 1.0])
                depth = share @ points[face, 2]
                if share.min() >= 0.0 and depth > best[0]:
                    best = (depth, index, share)
            assert nearest[row, column] == best[1]
            np.testing.assert_allclose(weights[row, column], best[2], atol=1e-6)


@pytest.mark.parametrize(
    ("bone", "surface", "left", "group"),
    [
        ("root", Surface.TORSO, False, "pelvis"),
        ("spine02", Surface.TORSO, False, "chest"),
        ("shoulder01.L", Surface.TORSO, False, "left clavicle"),
        ("eye.L", Surface.HEAD, False, "head"),
        ("upperleg02.R", Surface.UPPER_LEG, False, "right upper leg"),
        ("toe5-3.L", Surface.FOOT, True, "left foot"),
        ("finger3-2.L", Surface.HAND, True, "left fingers"),
        ("finger1-2.R", Surface.HAND, False, "right hand"),
    ],
)
def test_a_bone_belongs_to_a_region_and_a_group(bone: str, surface: Surface, left: bool, group: str) -> None:
    assert bone_group(bone) == (surface, left, group)
    assert group in BONE_GROUPS


def test_limbs_have_the_spans_of_the_projects_own_bodies() -> None:
    for solid in body_solids(Build(), Pose()):
        if solid.surface in OVERHANG:
            before, after = OVERHANG[solid.surface]
            length = (solid.span[1] - solid.span[0]) / (1.0 + before + after)
            np.testing.assert_allclose(solid.span, (-before * length, (1.0 + after) * length), atol=5e-4)


def test_charts_follow_the_mirror_rule() -> None:
    surface, left, points = toy_skin(np.random.default_rng(1))
    regions = chart_bones(toy_joints(), surface, left, points)
    region = 2 * surface + left
    iuv = place_iuv(region, region_places(regions, region, points))
    right, mirrored = np.split(iuv.astype(int), 2)
    np.testing.assert_array_equal(MIRROR_PART[right[:, 0]], mirrored[:, 0])
    turned = right.copy()
    turned[np.isin(right[:, 0], MIRROR_TURNS_U), 1] = 255 - turned[np.isin(right[:, 0], MIRROR_TURNS_U), 1]
    turned[np.isin(right[:, 0], MIRROR_TURNS_V), 2] = 255 - turned[np.isin(right[:, 0], MIRROR_TURNS_V), 2]
    assert np.abs(turned[:, 1:] - mirrored[:, 1:]).max() <= 1
    assert set(np.unique(iuv[:, 0])) == set(range(1, NUM_BODY_PARTS + 1))


@pytest.mark.parametrize(
    ("surface", "point", "part", "u"),
    [
        (Surface.UPPER_LEG, (-0.075, 0.41, 0.1), 9, 0.45),
        (Surface.UPPER_LEG, (-0.075, 0.41, -0.1), 7, 0.55),
        (Surface.LOWER_LEG, (-0.095, 0.17, 0.1), 13, 0.5),
        (Surface.TORSO, (0.0, 0.8, 0.2), 2, 0.1),
        (Surface.TORSO, (0.0, 0.8, -0.2), 1, 0.1),
    ],
)
def test_charts_run_as_measured(surface: Surface, point: tuple[float, float, float], part: int, u: float) -> None:
    every, left, points = toy_skin(np.random.default_rng(2))
    regions = chart_bones(toy_joints(), every, left, points)
    place = regions[surface, False].place(np.array([point]))
    iuv = place_iuv(np.array([2 * surface]), place)
    assert iuv[0, 0] == part
    assert iuv[0, 1] / 255 == pytest.approx(u, abs=0.1)


def test_an_object_has_no_chart() -> None:
    iuv = place_iuv(np.zeros(3, int), np.ones((3, 3)))
    assert iuv.max() == 0


def test_a_point_takes_the_region_of_most_weight() -> None:
    rng = np.random.default_rng(3)
    weights, faces = rng.dirichlet(np.full(18, 0.2), 40), rng.integers(0, 40, (200, 3))
    shares = rng.dirichlet(np.ones(3), 200)
    expected = [
        int(np.argmax(sum(share * weights[corner] for share, corner in zip(point, face, strict=True))))
        for point, face in zip(shares, faces, strict=True)
    ]
    assert point_regions(faces, weights, shares).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_bones_point_where_the_skeleton_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    surface, left, points = toy_skin(rng)
    joints = toy_joints()
    body = RestBody(points, joints, 0.0)
    regions = chart_bones(joints, surface, left, points)
    pose = everyday_pose(rng) if seed % 2 else walking_pose(rng)
    turns = group_turns(pose, regions, (0.0, 0.0))
    matrices = dict(zip(BONE_GROUPS, group_matrices(body, turns), strict=True))
    frames = bone_frames(pose, shoulder_width=0.2, hip_width=0.1)
    for side in ("left", "right"):
        for bone, child in (("upper leg", "lower leg"), ("lower leg", "foot"), ("upper arm", "lower arm")):
            ends = [joints[f"{side} {name}"] for name in (bone, child)]
            move = matrices[f"{side} {bone}"]
            start, end = (move[:, :3] @ point + move[:, 3] for point in ends)
            direction = (end - start) / np.linalg.norm(end - start)
            np.testing.assert_allclose(direction, frames[f"{side} {bone}"].axes[1], atol=1e-9)
            child_move = matrices[f"{side} {child}"]
            np.testing.assert_allclose(child_move[:, :3] @ ends[1] + child_move[:, 3], end, atol=1e-12)
    for turn in turns.values():
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) == pytest.approx(1.0)


def test_a_turn_is_shared_about_its_axis() -> None:
    turn = turn_about_x(0.7) @ turn_about_y(-0.4)
    np.testing.assert_allclose(part_turn(turn, 0.5) @ part_turn(turn, 0.5), turn, atol=1e-12)
    np.testing.assert_allclose(part_turn(np.eye(3), 0.5), np.eye(3))


def test_skin_follows_its_bones_by_their_weights() -> None:
    rng = np.random.default_rng(5)
    points, weights = rng.normal(size=(20, 3)), rng.dirichlet(np.ones(4), 20)
    matrices = rng.normal(size=(4, 3, 4))
    expected = [
        sum(w * (matrix[:, :3] @ point + matrix[:, 3]) for w, matrix in zip(share, matrices, strict=True))
        for point, share in zip(points, weights, strict=True)
    ]
    np.testing.assert_allclose(skinned(points, weights, matrices), expected, atol=1e-12)


def test_normals_are_the_mean_of_the_faces_round_a_vertex() -> None:
    rng = np.random.default_rng(6)
    points, faces = rng.normal(size=(9, 3)), rng.integers(0, 9, (30, 3))
    total = np.zeros((9, 3))
    for a, b, c in faces:
        for corner in (a, b, c):
            total[corner] += np.cross(points[b] - points[a], points[c] - points[a])
    expected = total / np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(smooth_normals(points, faces), expected, atol=1e-9)


def test_without_anny_the_group_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    anny_body._model.cache_clear()
    anny_body.anny_anatomy.cache_clear()
    with pytest.raises(UserError, match=r"need the package anny.*\n.*densereid\[embedded-training\]"):
        next(anny_layers(np.random.default_rng(0), 1))


@needs_anny
def test_layers_are_people_with_all_parts_and_repeat() -> None:
    layers = list(anny_layers(np.random.default_rng(11), 20, 128, 80))
    again = list(anny_layers(np.random.default_rng(11), 6, 128, 80))
    for first, second in zip(layers, again, strict=False):
        assert all((getattr(first, name) == getattr(second, name)).all() for name in ("image", "alpha", "iuv"))
    for layer in layers:
        assert (layer.image.shape, layer.alpha.shape, layer.iuv.shape) == ((128, 80, 3), (128, 80), (128, 80, 3))
        assert layer.image.dtype == layer.iuv.dtype == np.uint8
        assert layer.image[~layer.alpha].max() == 0
        assert layer.iuv[~layer.alpha].max() == 0
        rows, columns = np.nonzero(layer.iuv[..., 0])
        assert 0.8 <= max(np.ptp(rows) / 128, np.ptp(columns) / 80) <= 0.95
    parts = set().union(*(np.unique(layer.iuv[..., 0]).tolist() for layer in layers))
    assert parts == set(range(NUM_BODY_PARTS + 1))


@needs_anny
def test_annys_skin_is_charted_alike_on_both_sides() -> None:
    anatomy = anny_body.anny_anatomy()
    body = anny_body.draw_rest_body(np.random.default_rng(4))
    regions = chart_bones(body.joints, anatomy.surface, anatomy.left, body.vertices)
    chosen = np.flatnonzero(body.vertices[:, 0] < -0.004)[::25]
    mirrored = body.vertices[chosen] * (-1.0, 1.0, 1.0)
    partner = np.array([int(((body.vertices - point) ** 2).sum(axis=1).argmin()) for point in mirrored])
    values = []
    for index in (chosen, partner):
        region = 2 * anatomy.surface[index] + anatomy.left[index]
        values.append(place_iuv(region, region_places(regions, region, body.vertices[index])).astype(int))
    right, left = values
    assert (MIRROR_PART[right[:, 0]] == left[:, 0]).mean() > 0.98
    keeps_v = ~np.isin(right[:, 0], MIRROR_TURNS_V)
    assert np.median(np.abs(right[keeps_v, 2] - left[keeps_v, 2])) <= 2
