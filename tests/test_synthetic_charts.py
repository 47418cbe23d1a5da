"""The charts of the synthetic body: their directions, their inverse and the flip rule."""

from __future__ import annotations

import numpy as np
import pytest
from reference_synthetic import mirrored_point

from densereid.data_catalog.synthetic.appearance import draw_appearance
from densereid.data_catalog.synthetic.body import body_solids
from densereid.data_catalog.synthetic.charts import mirror_texture, surface_iuv, texel_points
from densereid.data_catalog.synthetic.raycast import Camera, see, view_rotation
from densereid.data_catalog.synthetic.skeleton import Pose

# Signs of (dU/dx, dU/dy, dV/dx, dV/dy), 0 where the demo output does not decide, fitted over each part's pixels of
# DensePose's published demo output: a man who faces the camera, and one seen from behind.
FACING = {
    2: (0, 1, -1, 0),
    3: (-1, 0, 0, 1),
    4: (-1, 0, 0, 1),
    5: (0, 1, 1, 0),
    6: (0, -1, -1, 0),
    9: (0, -1, 1, 0),
    10: (0, -1, -1, 0),
    13: (0, 1, -1, 0),
    14: (0, 1, 1, 0),
    15: (0, 1, 1, 0),
    16: (0, 1, -1, 0),
    19: (0, -1, -1, 0),
    20: (0, -1, 1, 0),
    21: (0, 1, -1, 0),
    22: (0, 1, 1, 0),
    23: (1, 0, 0, -1),
    24: (1, 0, 0, -1),
}
BEHIND = {
    1: (0, 1, 1, 0),
    7: (0, 1, 1, 0),
    8: (0, 1, -1, 0),
    11: (0, -1, 1, 0),
    12: (0, -1, -1, 0),
    17: (0, 1, -1, 0),
    18: (0, 1, 1, 0),
    23: (1, 0, 0, -1),
    24: (1, 0, 0, -1),
}


def rendered_iuv(yaw: float) -> np.ndarray:
    build = draw_appearance(np.random.default_rng(3)).build
    camera = Camera(view_rotation(yaw, 0.2), (300.0, 260.0), (64.0, 250.0))
    skin = see(body_solids(build, Pose()), camera, 270, 128)
    iuv = np.zeros((270, 128, 3), np.uint8)
    iuv[skin.rows, skin.columns] = skin.iuv
    return iuv


@pytest.mark.parametrize(("yaw", "measured"), [(0.0, FACING), (np.pi, BEHIND)])
def test_directions_are_those_measured_on_densepose_output(yaw, measured):
    iuv = rendered_iuv(yaw).astype(float)
    for part, signs in measured.items():
        rows, columns = np.nonzero(iuv[..., 0] == part)
        assert len(rows) > 30, part
        plane = np.stack([np.ones(len(rows)), columns, rows], axis=1)
        slopes = np.linalg.lstsq(plane, iuv[rows, columns, 1:], rcond=None)[0][1:]
        fitted = (slopes[0, 0], slopes[1, 0], slopes[0, 1], slopes[1, 1])
        for sign, slope in zip(signs, fitted, strict=True):
            assert sign == 0 or sign * slope > 0.1, (part, signs, fitted)


def test_all_parts_appear_and_nothing_gapes():
    views = [rendered_iuv(yaw) for yaw in np.radians([0, 90, 180, 270])]
    assert set(np.concatenate(views)[..., 0].ravel()) == set(range(25))
    front = views[0][..., 0]
    rows = np.flatnonzero((front == 2).any(axis=1))
    for row in rows:
        columns = np.flatnonzero(front[row] == 2)
        assert (front[row, columns[0] : columns[-1] + 1] > 0).all(), row


@pytest.mark.parametrize("part", range(1, 25))
def test_texel_points_invert_the_charts(part):
    surface, theta, along = texel_points(part)
    left = np.full(theta.size, part in (4, 5, 8, 10, 12, 14, 15, 17, 19, 21, 24))
    iuv = surface_iuv(np.full(theta.size, surface), left, theta.ravel(), along.ravel()).astype(int)
    u, v = np.divmod(np.arange(32 * 32), 32)
    np.testing.assert_array_equal(iuv[:, 0], part)
    np.testing.assert_array_equal(np.minimum(31, 32 * iuv[:, 1] // 255), u)
    np.testing.assert_array_equal(np.minimum(31, 32 * iuv[:, 2] // 255), v)


def test_a_mirrored_texture_follows_the_flip_rule():
    texture = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    mirrored = mirror_texture(texture)
    for part in range(1, 25):
        for u, v in ((0, 0), (3, 30), (17, 5)):
            other, mu, mv = mirrored_point(part, u / 31, v / 31)
            np.testing.assert_array_equal(mirrored[other - 1, round(31 * mu), round(31 * mv)], texture[part - 1, u, v])
