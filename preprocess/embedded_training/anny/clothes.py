"""Clothes, hair and shoes: a resting body's skin pushed out; skirts, coat tails and long hair are extra skins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from densereid.data_catalog.synthetic.appearance import Bottom, Clothes, draw_clothes, hairline
from densereid.data_catalog.synthetic.body import Hair
from densereid.data_catalog.synthetic.charts import Surface
from densereid.data_catalog.synthetic.skeleton import Frame
from densereid.preprocess.embedded_training.anny.body import BONE_GROUPS, RestBody, anny_anatomy
from densereid.preprocess.embedded_training.anny.charts import Regions, chart_bones, region_places
from densereid.preprocess.embedded_training.anny.mesh_fields import smooth_noise, smooth_normals


class Material(IntEnum):
    """What a face is made of: SKIN is painted by its place in the chart, the others plain. From SEAT on, a Finish."""

    SKIN = 0
    TOP = 1
    BOTTOM = 2
    HAIR = 3
    BAG = 4
    STRAP = 5
    SEAT = 6


@dataclass(frozen=True)
class Outfit:
    """What a person wears beside the colours: how far it stands off. Lengths in body heights where not said."""

    clothes: Clothes
    top: float
    """How far the top stands off."""
    sleeves: float
    flare: float
    """How much farther the top stands off at its hem."""
    trousers: float
    wide_below: float
    """Trousers at the ankle against the thigh."""
    shoes: float
    hair: float
    folds: float
    """Height of folds against the cloth's distance from the skin."""
    skirt: float = 0.0
    """Where a skirt or coat tails end: 0 none, 1 the knee, 2 the ankle."""
    skirt_material: Material = Material.BOTTOM
    skirt_flare: float = 0.1
    skirt_open: bool = False
    curtain: float = 0.0
    """How far long hair or a hood reaches below the neck; 0 none."""
    hood: bool = False


@dataclass(frozen=True)
class DressedBody:
    """A dressed person at rest: its triangles, the body beneath them, and the bones that move them."""

    vertices: np.ndarray
    """(V, 3) float64, body heights."""
    beneath: np.ndarray
    """(V, 3): the point of the bare body that each vertex covers."""
    weights: np.ndarray
    """(V, len(BONE_GROUPS))."""
    region_weights: np.ndarray
    """(V, 2 x len(Surface)): how much each vertex belongs to region 2 x Surface + left."""
    faces: np.ndarray
    """(F, 3)."""
    material: np.ndarray
    """(F,) Material."""


def draw_outfit(rng: np.random.Generator) -> Outfit:
    """Random clothes: tight to wide, coats, skirts and dresses, long hair, hoods."""
    clothes = draw_clothes(rng)
    loose = rng.beta(1.2, 2.0)
    outfit = Outfit(
        clothes=replace(clothes, sleeve=float(rng.choice([0.05, 0.6, 0.8, 1.4, 1.97], p=[0.1, 0.2, 0.2, 0.1, 0.4]))),
        top=0.003 + 0.022 * loose,
        sleeves=0.002 + 0.016 * loose * rng.uniform(0.5, 1.3),
        flare=rng.uniform(0.0, 0.02),
        trousers=0.002 + 0.018 * rng.beta(1.2, 2.0),
        wide_below=rng.uniform(0.5, 2.0),
        shoes=rng.uniform(0.004, 0.01),
        hair=0.0 if clothes.hair_style is Hair.BALD else rng.uniform(0.006, 0.026),
        folds=rng.uniform(0.1, 0.6),
    )
    outfit = _with_skirt(outfit, rng)
    if clothes.hair_style is Hair.LONG:
        outfit = replace(outfit, curtain=rng.uniform(0.01, 0.16))
    elif rng.random() < 0.08:
        outfit = replace(outfit, hood=True, curtain=rng.uniform(0.01, 0.03), hair=rng.uniform(0.015, 0.035))
    return outfit


def _with_skirt(outfit: Outfit, rng: np.random.Generator) -> Outfit:
    """A skirt or dress for who wears one, and a coat for some of the others."""
    kind, clothes = rng.random(), outfit.clothes
    if clothes.bottom_kind is Bottom.SKIRT:
        material = Material.TOP if kind < 0.3 else Material.BOTTOM
        bare = replace(clothes, bottom_length=0.25)
        length, flare = rng.uniform(0.5, 1.9), rng.uniform(0.0, 0.4)
        return replace(outfit, clothes=bare, skirt=length, skirt_flare=flare, skirt_material=material)
    if kind > 0.2:
        return outfit
    outfit = replace(outfit, top=outfit.top + 0.008, sleeves=outfit.sleeves + 0.005, skirt=rng.uniform(0.2, 1.3))
    is_open = bool(rng.random() < 0.6)
    coat = replace(clothes, sleeve=1.97, hem=1.2)
    return replace(outfit, clothes=coat, skirt_material=Material.TOP, skirt_open=is_open)


def _inside(along: np.ndarray, end: float) -> np.ndarray:
    """1 above the end of a garment, 0 below, over a twelfth of a limb."""
    return np.clip((end - along) * 12.0 + 0.5, 0.0, 1.0)


def _cloth_distance(outfit: Outfit, surface: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How far clothes and shoes stand off the skin (V,), before folds."""
    along = np.clip(places[:, 0], 0.0, 1.0)
    clothes = outfit.clothes
    low = np.isin(surface, (Surface.LOWER_ARM, Surface.LOWER_LEG))
    reach = along + low
    top = (outfit.top + outfit.flare * along**2) * _inside(along, clothes.hem) * np.clip(along * 8.0, 0.3, 1.0)
    bottom = outfit.trousers * (1.0 + (outfit.wide_below - 1.0) * np.clip(reach / 2.0, 0.0, 1.0))
    bottom = bottom * _inside(reach, clothes.bottom_length)
    sleeve = (outfit.sleeves * np.clip(0.6 + 0.4 * reach, 0.0, 1.0)) * _inside(reach, clothes.sleeve)
    legs = np.isin(surface, (Surface.UPPER_LEG, Surface.LOWER_LEG))
    arms = np.isin(surface, (Surface.UPPER_ARM, Surface.LOWER_ARM))
    distance = np.where(surface == Surface.TORSO, np.maximum(top, 0.5 * outfit.trousers), 0.0)
    distance = np.where(legs, bottom, np.where(arms, sleeve, distance))
    return np.where(surface == Surface.FOOT, outfit.shoes, distance)


def _toe_cap(frame: Frame, foot: np.ndarray) -> np.ndarray:
    """How far the skin between the toes moves (N, 3) to the outline of a foot (N, 3), as the front of a shoe closes."""
    local = foot @ frame.axes.T
    t = local[:, 1]
    order = np.linspace(t.min(), t.max(), 12)
    slabs = [local[np.abs(t - level) <= (order[1] - order[0])] for level in order]
    low, high = (np.array([edge(slab, axis=0) for slab in slabs]) for edge in (np.min, np.max))
    moved = np.zeros_like(local)
    middle, half = (low + high) / 2.0, (high - low) / 2.0 + 1e-9
    axes = (0, 2)
    round_it = np.stack(
        [(local[:, k] - np.interp(t, order, middle[:, k])) / np.interp(t, order, half[:, k]) for k in axes]
    )
    reach = np.linalg.norm(round_it, axis=0) + 1e-9
    front = np.interp(t, order[[0, 5, 7]], [0.0, 0.0, 1.0])
    grow = front * (np.maximum(reach, 0.92) / reach - 1.0)
    for row, k in enumerate(axes):
        moved[:, k] = round_it[row] * grow * np.interp(t, order, half[:, k])
    return moved @ frame.axes


def _hair_distance(outfit: Outfit, surface: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How far hair or a hood stands off the head (V,)."""
    if outfit.hair == 0.0:
        return np.zeros(len(surface))
    angle = np.degrees(np.arctan2(np.abs(places[:, 1]), places[:, 2]))
    style = Hair.LONG if outfit.hood else outfit.clothes.hair_style
    begins = hairline(style, angle)
    return np.where(surface == Surface.HEAD, outfit.hair * np.clip((places[:, 0] - begins) * 8.0, 0.0, 1.0), 0.0)


def dress(body: RestBody, outfit: Outfit, rng: np.random.Generator) -> tuple[DressedBody, Regions]:
    """The dressed body, and the bones of its charts."""
    anatomy = anny_anatomy()
    regions = chart_bones(body.joints, anatomy.surface, anatomy.left, body.vertices)
    places = region_places(regions, 2 * anatomy.surface + anatomy.left, body.vertices)
    distance = _cloth_distance(outfit, anatomy.surface, places)
    folds = smooth_noise(body.vertices, 0.2, rng) + 0.5 * smooth_noise(body.vertices, 0.06, rng)
    distance = distance * np.maximum(0.2, 1.0 + outfit.folds * folds)
    distance += _hair_distance(outfit, anatomy.surface, places) * np.maximum(0.4, 1.0 + 0.3 * folds)
    normals = smooth_normals(body.vertices, anatomy.faces)
    vertices = body.vertices + distance[:, None] * normals
    for left in (False, True):
        foot = (anatomy.surface == Surface.FOOT) & (anatomy.left == left)
        vertices[foot] += _toe_cap(regions[Surface.FOOT, left].frame, vertices[foot])
    material = np.zeros(len(anatomy.faces), np.int64)
    dressed = DressedBody(vertices, body.vertices, anatomy.weights, anatomy.region_weights, anatomy.faces, material)
    for skin_mesh in (_skirt(outfit, body, vertices, rng), _curtain(outfit, body, vertices)):
        if skin_mesh is not None:
            dressed = _with_skin(dressed, *skin_mesh)
    return dressed, regions


def _with_skin(
    dressed: DressedBody, rings: np.ndarray, weights: np.ndarray, material: Material, opening: int
) -> DressedBody:
    """Add a skin of rings (R, N, 3): each vertex takes the chart of the body's nearest vertex."""
    anatomy = anny_anatomy()
    count, around = rings.shape[:2]
    points = rings.reshape(-1, 3)
    near = np.flatnonzero(np.isin(anatomy.surface, (1, 2, 3, 8)))
    near = near[:: 3 if len(near) > 3000 else 1]
    body = dressed.vertices[near]
    squares = (body**2).sum(axis=1) - 2.0 * points @ body.T
    closest = near[squares.argmin(axis=1)]
    row, column = np.mgrid[: count - 1, opening : around - opening]
    following = (column + 1) % around
    corners = [
        row * around + column,
        row * around + following,
        (row + 1) * around + column,
        (row + 1) * around + following,
    ]
    a, b, c, d = (corner.ravel() for corner in corners)
    faces = np.concatenate([np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)])
    return DressedBody(
        np.concatenate([dressed.vertices, points]),
        np.concatenate([dressed.beneath, points]),
        np.concatenate([dressed.weights, weights.reshape(-1, len(BONE_GROUPS))]),
        np.concatenate([dressed.region_weights, anatomy.region_weights[closest]]),
        np.concatenate([dressed.faces, faces + len(dressed.vertices)]),
        np.concatenate([dressed.material, np.full(len(faces), material)]),
    )


def _outline(points: np.ndarray, centre: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """The reach of points (N, 3) from a centre (3,) in each direction (K,), 0 forward, +90 degrees to the left."""
    directions = np.stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)])
    return ((points - centre) @ directions).max(axis=0)


def _skirt(
    outfit: Outfit, body: RestBody, skin: np.ndarray, rng: np.random.Generator, around: int = 36, count: int = 14
) -> tuple[np.ndarray, np.ndarray, Material, int] | None:
    """A skin round both legs from the waist down: its rings, weights, material, and half its opening in columns."""
    if outfit.skirt == 0.0:
        return None
    joints = {name: body.joints[f"left {name}"][1] for name in ("upper leg", "lower leg", "foot")}
    levels = np.array([joints["upper leg"], joints["lower leg"], joints["foot"]])
    heights = np.linspace(joints["upper leg"] + 0.07, np.interp(outfit.skirt, [0, 1, 2], levels), count)
    surface = anny_anatomy().surface
    below = skin[np.isin(surface, (Surface.TORSO, Surface.UPPER_LEG, Surface.LOWER_LEG))]
    angles = np.arange(around) * 2.0 * np.pi / around + np.pi / around
    centre = np.array([0.0, 0.0, body.joints["pelvis"][2]])
    reach, rings = np.zeros(around), []
    waves = 0.03 * outfit.skirt_flare * np.cos(angles * rng.integers(4, 9) + rng.uniform(0, 6))
    for step, height in enumerate(heights):
        slab = below[np.abs(below[:, 1] - height) < 0.02]
        if len(slab):
            reach = np.maximum(reach * 0.97, _outline(slab, centre, angles) + 0.004)
        share = step / count
        wide = reach * (1.0 + outfit.skirt_flare * share) + waves * share
        rings.append(
            np.stack([wide * np.sin(angles), np.full(around, height), centre[2] + wide * np.cos(angles)], axis=1)
        )
    points = np.array(rings)
    return points, _skirt_weights(points, levels), outfit.skirt_material, 2 if outfit.skirt_open else 0


def _skirt_weights(points: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """A skirt follows the pelvis above, both thighs below, each more on its own side, and the lower legs a little."""
    weights = np.zeros((*points.shape[:2], len(BONE_GROUPS)))
    thigh = np.clip((levels[0] + 0.03 - points[..., 1]) / 0.12, 0.0, 1.0)
    calf = np.clip((levels[1] - points[..., 1]) / (levels[1] - levels[2]), 0.0, 1.0) * 0.7
    on_left = np.clip(0.5 + points[..., 0] / 0.14, 0.0, 1.0)
    weights[..., BONE_GROUPS.index("pelvis")] = 1.0 - thigh
    for side, share in (("left", on_left), ("right", 1.0 - on_left)):
        weights[..., BONE_GROUPS.index(f"{side} upper leg")] = thigh * share * (1.0 - calf)
        weights[..., BONE_GROUPS.index(f"{side} lower leg")] = thigh * share * calf
    return weights


def _curtain(
    outfit: Outfit, body: RestBody, skin: np.ndarray, around: int = 32, count: int = 10
) -> tuple[np.ndarray, np.ndarray, Material, int] | None:
    """Long hair or a hood's sides: a skin round the back of the head, from above the ears down."""
    if outfit.curtain == 0.0:
        return None
    neck = body.joints["neck"][1]
    heights = np.linspace(neck + 0.7 * (skin[:, 1].max() - neck), neck - outfit.curtain, count)
    head = skin[anny_anatomy().surface == Surface.HEAD]
    trunk = skin[anny_anatomy().surface == Surface.TORSO]
    angles = np.arange(around) * 2.0 * np.pi / around + np.pi / around
    centre = np.array([0.0, 0.0, body.joints["head"][2]])
    behind = np.cos(angles) < 0.2
    rings = []
    reach = np.zeros(around)
    for height in heights:
        slab = (
            head[np.abs(head[:, 1] - height) < 0.015] if height > neck else trunk[np.abs(trunk[:, 1] - height) < 0.015]
        )
        limit = _outline(slab, centre, angles) if len(slab) else reach
        limit = np.minimum(limit, 0.09) if height <= neck else limit
        reach = np.maximum(reach * 0.97, limit + 0.004 * behind)
        rings.append(
            np.stack([reach * np.sin(angles), np.full(around, height), centre[2] + reach * np.cos(angles)], axis=1)
        )
    points = np.array(rings)
    weights = np.zeros((*points.shape[:2], len(BONE_GROUPS)))
    hangs = np.clip((neck + 0.01 - points[..., 1]) / 0.08, 0.0, 1.0)
    weights[..., BONE_GROUPS.index("head")] = 1.0 - hangs
    weights[..., BONE_GROUPS.index("chest")] = hangs
    return points, weights, Material.TOP if outfit.hood else Material.HAIR, 6 if outfit.hood else 7
