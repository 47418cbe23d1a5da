"""Rendered people of Anny's bodies, each alone on its layer, with exact IUV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from densereid.data_catalog.synthetic.charts import Surface
from densereid.data_catalog.synthetic.raycast import view_rotation
from densereid.preprocess.embedded_training.anny.body import RestBody, draw_rest_body
from densereid.preprocess.embedded_training.anny.charts import (
    Regions,
    chart_angles,
    chart_iuv,
    point_regions,
    region_places,
)
from densereid.preprocess.embedded_training.anny.clothes import (
    DressedBody,
    Material,
    Outfit,
    draw_outfit,
    dress,
)
from densereid.preprocess.embedded_training.anny.colours import SkinPoints, paint_points
from densereid.preprocess.embedded_training.anny.mesh_fields import smooth_noise, smooth_normals
from densereid.preprocess.embedded_training.anny.mesh_raster import rasterise
from densereid.preprocess.embedded_training.anny.objects import (
    Load,
    draw_load,
    landmarks,
    load_mesh,
    on_strap,
    seat_mesh,
)
from densereid.preprocess.embedded_training.anny.poses import everyday_pose, group_matrices, group_turns, skinned
from densereid.preprocess.embedded_training.layers import PersonLayer
from densereid.preprocess.embedded_training.seats import draw_seat

_VIEWS = 5
"""Views of one posed body, each in new colours and light: the body model costs more than a picture."""

_FILL = 0.92
_SUB = 2
"""Colour samples along each side of a pixel."""


@dataclass(frozen=True)
class PosedPerson:
    """A dressed person in a pose, with the load and the seat, as triangles."""

    body: RestBody
    regions: Regions
    outfit: Outfit
    load: Load
    dressed: DressedBody
    """With the load and the seat at its end, in region 0."""
    posed: np.ndarray
    """(V, 3) float64: the vertices in the pose."""
    normals: np.ndarray
    """(V, 3)."""
    people: int
    """How many of the vertices are the person's own; those of load and seat follow."""


def anny_layers(rng: np.random.Generator, count: int, height: int = 256, width: int = 160) -> Iterator[PersonLayer]:
    """``count`` random people, a few views of each, from any side; the same generator state gives the same bytes.

    Raises UserError where the package anny is not installed.
    """
    for index in range(count):
        if index % _VIEWS == 0:
            person = draw_person(rng)
        yield render_person(person, rng, height, width)


def draw_person(rng: np.random.Generator) -> PosedPerson:
    """A random person in a random pose."""
    body, outfit, load = draw_rest_body(rng), draw_outfit(rng), draw_load(rng)
    dressed, regions = dress(body, outfit, rng)
    curls = (rng.uniform(0.0, 1.3), rng.uniform(0.0, 1.3))
    pose = everyday_pose(rng)
    matrices = group_matrices(body, group_turns(pose, regions, curls))
    posed = skinned(dressed.vertices, dressed.weights, matrices)
    people = len(posed)
    points, faces = load_mesh(load, body, matrices)
    dressed, posed = _joined(dressed, posed, points, faces, np.full(len(faces), Material.BAG))
    points, faces, finishes = seat_mesh(draw_seat(pose, landmarks(body, matrices), rng))
    dressed, posed = _joined(dressed, posed, points, faces, Material.SEAT + finishes)
    return PosedPerson(body, regions, outfit, load, dressed, posed, smooth_normals(posed, dressed.faces), people)


def _joined(
    dressed: DressedBody, posed: np.ndarray, points: np.ndarray, faces: np.ndarray, material: np.ndarray
) -> tuple[DressedBody, np.ndarray]:
    """The person with a mesh that is no body, in region 0, and the vertices of both in the pose."""
    nothing = np.zeros_like(dressed.region_weights, shape=(len(points), dressed.region_weights.shape[1]))
    joined = replace(
        dressed,
        beneath=np.concatenate([dressed.beneath, points]),
        region_weights=np.concatenate([dressed.region_weights, nothing]),
        faces=np.concatenate([dressed.faces, faces + len(posed)]),
        material=np.concatenate([dressed.material, material]),
    )
    return joined, np.concatenate([posed, points])


def render_person(person: PosedPerson, rng: np.random.Generator, height: int, width: int) -> PersonLayer:
    """One view of the person, from a random side, in random colours and light."""
    rotation = view_rotation(rng.uniform(0.0, 2.0 * np.pi), np.radians(min(35.0, abs(rng.normal(0.0, 13.0)))))
    screen = _screen(person, rotation, rng, height, width)
    faces = person.dressed.faces
    nearest, weights = rasterise(screen, faces, height, width)
    iuv = np.zeros((height, width, 3), np.uint8)
    alpha = nearest >= 0
    centres = _points(person, nearest[alpha], weights[alpha])
    iuv[alpha] = chart_iuv(centres.surface, centres.left, centres.theta, centres.along)
    fine, fine_weights = rasterise(screen * (_SUB, _SUB, 1.0), faces, height * _SUB, width * _SUB)
    seen = fine >= 0
    points = _points(person, fine[seen], fine_weights[seen])
    normals = np.einsum("nk,nkj->nj", fine_weights[seen], person.normals[faces[fine[seen]]]) @ rotation.T
    colours = np.zeros((*fine.shape, 3), np.float32)
    colours[seen] = _lit(paint_points(points, person.outfit, rng), normals, points, rng)
    image = _averaged(colours, seen)
    image[~alpha] = 0
    return PersonLayer(image, alpha, iuv)


def _screen(person: PosedPerson, rotation: np.ndarray, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """The vertices (V, 3) in pixels, with depth: the person fills the layer's height or width."""
    middle = (person.posed[: person.people].min(axis=0) + person.posed[: person.people].max(axis=0)) / 2
    seen = (person.posed - middle) @ rotation.T
    distance = 1.0 / rng.uniform(0.02, 0.3)
    near = distance / (distance - seen[:, 2])
    flat = np.stack([seen[:, 0] * near, -seen[:, 1] * near], axis=1)
    low, high = flat[: person.people].min(axis=0), flat[: person.people].max(axis=0)
    scale = _FILL * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
    pixels = (flat - (low + high) / 2) * scale + (width / 2, height / 2)
    return np.concatenate([pixels, seen[:, 2:]], axis=1)


def _points(person: PosedPerson, face: np.ndarray, weights: np.ndarray) -> SkinPoints:
    """What is seen at faces (N,) with weights (N, 3) of their corners."""
    dressed = person.dressed
    corners = dressed.faces[face]
    rest = np.einsum("nk,nkj->nj", weights, dressed.beneath[corners])
    region = point_regions(corners, dressed.region_weights, weights)
    left, theta, along = chart_angles(region, region_places(person.regions, region, rest))
    surface = region // 2
    strap = (surface == Surface.TORSO) & on_strap(person.load, rest, person.body)
    material = np.where(strap, Material.STRAP, dressed.material[face])
    return SkinPoints(np.where(strap, Surface.OBJECT, surface), left, theta, along, material, rest)


def _lit(colours: np.ndarray, normals: np.ndarray, points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    """Colours (N, 3) under a random light, with folds and their shadows."""
    cloth = points.surface != Surface.HEAD
    bend = rng.uniform(0.0, 0.35) * cloth
    tilt = np.stack([smooth_noise(points.rest, rng.uniform(0.03, 0.1), rng) for _ in range(2)], axis=1)
    normals = normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)
    # A skirt is seen from inside, too.
    normals = np.where(normals[:, 2:] < 0.0, -normals, normals)
    normals[:, :2] += bend[:, None] * tilt
    light = np.array([rng.normal(0.0, 0.8), abs(rng.normal(0.6, 0.5)), abs(rng.normal(0.8, 0.4))])
    light /= np.linalg.norm(light)
    lambert = np.clip(normals @ light / (np.linalg.norm(normals, axis=1) + 1e-12), 0.0, 1.0)
    ambient = rng.uniform(0.3, 0.8)
    low = 1.0 - rng.uniform(0.0, 0.25) * np.clip(1.0 - points.rest[:, 1], 0.0, 1.0)
    shade = (ambient + (1.2 - ambient) * lambert) * low
    gloss = rng.uniform(0.0, 60.0) * (rng.random() < 0.25) * lambert**20
    return np.clip(colours * shade[:, None] * rng.normal(1.0, 0.05, 3) + gloss[:, None], 0.0, 255.0)


def _averaged(colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The mean (H, W, 3) uint8 of the samples that were seen in each pixel."""
    corners = [(row, column) for row in range(_SUB) for column in range(_SUB)]
    total = sum(colours[row::_SUB, column::_SUB] for row, column in corners)
    number = sum(seen[row::_SUB, column::_SUB].astype(np.float32) for row, column in corners)
    return np.rint(total / np.maximum(number, 1.0)[..., None]).astype(np.uint8)
