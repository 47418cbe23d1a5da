"""What people sit and ride on: where it stands, that both body makers draw the same, and that it is no body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from densereid.data_catalog.synthetic.raycast import Camera, cast, view_rotation
from densereid.data_catalog.synthetic.skeleton import Pose, SidePose
from densereid.preprocess.embedded_training import solids
from densereid.preprocess.embedded_training.anny.mesh_raster import rasterise
from densereid.preprocess.embedded_training.anny.objects import seat_mesh
from densereid.preprocess.embedded_training.layers import PersonLayer
from densereid.preprocess.embedded_training.pictures.composition import KIND, detector_box
from densereid.preprocess.embedded_training.seats import Block, Finish, Landmarks, draw_seat
from densereid.preprocess.embedded_training.solids import solid_layers

SEATED, STANDING = (Pose(left=SidePose(hip=hip), right=SidePose(hip=hip)) for hip in (1.2, 0.1))


def landmarks_of_somebody(rng: np.random.Generator) -> Landmarks:
    hips = np.array([0.0, 0.5, 0.0]) + rng.normal(0.0, 0.02, 3)
    hands = hips + np.array([[0.12, 0.2, 0.3], [-0.12, 0.2, 0.3]]) + rng.normal(0.0, 0.05, (2, 3))
    feet = hips + np.array([[0.06, -0.3, 0.15], [-0.06, -0.35, 0.15]]) + rng.normal(0.0, 0.03, (2, 3))
    return Landmarks(hips, hands, feet)


def corners(block: Block) -> np.ndarray:
    """(8, 3) of the box that the block fills."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return block.centre + (signs * block.half) @ block.axes


def test_who_sits_has_something_beneath_the_hips_that_stands_on_the_ground() -> None:
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(300):
        landmarks = landmarks_of_somebody(rng)
        blocks = draw_seat(SEATED, landmarks, rng)
        kinds.append(len(blocks))
        if not blocks:
            continue
        tops = [corners(block)[:, 1].max() for block in blocks if abs(block.centre[2] - landmarks.hips[2]) < 0.2]
        assert any(0.02 < landmarks.hips[1] - top < 0.13 for top in tops)
        lowest = min(corners(block)[:, 1].min() for block in blocks)
        assert lowest > landmarks.ground - 0.12
        assert len(blocks) == 1 or lowest < landmarks.ground + 0.02  # a bench may be a board
        assert all(np.allclose(block.axes @ block.axes.T, np.eye(3)) for block in blocks)
    assert 0.05 < np.mean([number == 0 for number in kinds]) < 0.2
    assert 1 in kinds  # a bench
    assert max(kinds) > 30  # a bicycle


def test_of_those_who_stand_a_few_push_a_bicycle() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_seat(STANDING, landmarks_of_somebody(rng), rng) for _ in range(2000)]
    bicycles = [blocks for blocks in drawn if blocks]
    assert 0.015 < len(bicycles) / len(drawn) < 0.05
    assert all(abs(np.mean([block.centre[0] for block in blocks])) > 0.12 for blocks in bicycles)


def test_a_bent_knee_alone_is_no_seat() -> None:
    rng = np.random.default_rng(2)
    climbing = replace(STANDING, left=SidePose(hip=1.4, knee=1.2))
    assert sum(bool(draw_seat(climbing, landmarks_of_somebody(rng), rng)) for _ in range(300)) < 30


@pytest.mark.parametrize("roundness", [0.3, 0.9])
def test_both_makers_draw_a_block_at_the_same_place(roundness: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        axes = view_rotation(rng.uniform(0, 6), rng.uniform(-1, 1))
        half = tuple(rng.uniform(0.05, 0.3, 3).tolist())
        block = Block(rng.normal(0.0, 0.1, 3), half, Finish.PAINT, roundness, axes)
        pieces = solids._block_solids(block, (9, 9, 9))
        drawn = cast(pieces, Camera(np.eye(3), (60.0, 60.0), (40.0, 40.0)), 80, 80)[0] >= 0
        points, faces, finishes = seat_mesh([block])
        assert (finishes == Finish.PAINT).all()
        screen = np.stack([40 + 60 * points[:, 0], 40 - 60 * points[:, 1], points[:, 2]], axis=1)
        meshed = rasterise(screen, faces, 80, 80)[0] >= 0
        assert (drawn & meshed).sum() / (drawn | meshed).sum() > 0.7


def test_a_seat_hides_the_body_and_has_no_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Block(np.array([0.0, 0.25, 0.0]), (3.0, 0.25, 3.0), Finish.DARK, 0.9)
    for seed in range(4):
        monkeypatch.setattr(solids, "draw_seat", lambda *_: [])
        bare = next(solid_layers(np.random.default_rng(seed), 1, 96, 60))
        monkeypatch.setattr(solids, "draw_seat", lambda *_: [wall])
        seated = next(solid_layers(np.random.default_rng(seed), 1, 96, 60))
        body, still = bare.iuv[..., 0] > 0, seated.iuv[..., 0] > 0
        assert 0.2 < (body & ~still).sum() / body.sum() < 0.8
        assert np.array_equal(seated.iuv, np.where(still[..., None], bare.iuv, 0))
        assert (seated.alpha >= bare.alpha).all()
        assert seated.image[body & ~still].any()


def a_layer(iuv: np.ndarray, alpha: np.ndarray) -> PersonLayer:
    return PersonLayer(np.zeros((*alpha.shape, 3), np.uint8), alpha, iuv)


def test_the_box_of_a_body_against_a_loop() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        body = rng.random((13, 9)) < 0.05
        body[rng.integers(13), rng.integers(9)] = True
        layer = a_layer(np.repeat(body[..., None], 3, axis=2).astype(np.uint8), np.ones((13, 9), bool))
        found = [(x, y) for y in range(13) for x in range(9) if body[y, x]]
        columns, rows = zip(*found, strict=True)
        assert layer.body_box() == (min(columns), min(rows), max(columns) + 1, max(rows) + 1)


def test_a_detectors_box_is_about_the_body_whatever_it_sits_on() -> None:
    iuv = np.zeros((96, 60, 3), np.uint8)
    iuv[20:60, 25:40] = 1
    narrow, wide = iuv[..., 0] > 0, np.ones((96, 60), bool)
    for seed in range(20):
        boxes = [
            detector_box(a_layer(iuv, alpha), np.random.default_rng(seed), (64, 32), KIND) for alpha in (narrow, wide)
        ]
        assert boxes[0] == boxes[1]
        middle = boxes[0].x + boxes[0].width / 2, boxes[0].y + boxes[0].height / 2
        assert abs(middle[0] - 32.5) < 8
        assert abs(middle[1] - 40) < 20
