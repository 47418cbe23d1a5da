"""The colour of every visible point: the project's painters in any colours, prints, faces, open jackets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from densereid.data_catalog.synthetic.appearance import Clothes, Colour, Pattern, paint_surface
from densereid.data_catalog.synthetic.body import Hair
from densereid.data_catalog.synthetic.charts import Surface
from densereid.preprocess.embedded_training.anny.clothes import Material, Outfit
from densereid.preprocess.embedded_training.anny.mesh_fields import smooth_noise
from densereid.preprocess.embedded_training.seats import draw_colours


@dataclass(frozen=True)
class SkinPoints:
    """The N points of the person that are seen, in the resting body."""

    surface: np.ndarray
    """(N,) Surface."""
    left: np.ndarray
    """(N,) bool: the person's own left."""
    theta: np.ndarray
    """(N,) degrees."""
    along: np.ndarray
    """(N,) 0..1."""
    material: np.ndarray
    """(N,) Material."""
    rest: np.ndarray
    """(N, 3) body heights."""


def _gamut(rng: np.random.Generator) -> Colour:
    """Any colour: greys and muted ones as often as bright ones."""
    kind = rng.random()
    if kind < 0.3:
        level = rng.uniform(8, 250)
        colour = level + rng.normal(0.0, 6.0, 3)
    elif kind < 0.65:
        grey = rng.uniform(20, 200)
        colour = grey + rng.uniform(-45, 45, 3)
    else:
        colour = rng.uniform(0, 255, 3)
    red, green, blue = np.clip(np.rint(colour), 0, 255).astype(int).tolist()
    return red, green, blue


def recoloured(clothes: Clothes, rng: np.random.Generator) -> Clothes:
    """The same garments in new colours: the palettes a third of the time, else the whole gamut; skin and hair vary."""
    skin = _near(clothes.skin, 14.0, rng)
    hair = _gamut(rng) if rng.random() < 0.06 else _near(clothes.hair, 16.0, rng)
    clothes = replace(clothes, skin=skin, hair=hair, pattern=Pattern(rng.choice(list(Pattern))))
    if rng.random() < 0.33:
        return clothes
    colours: dict[str, Any] = {name: _gamut(rng) for name in ("top", "top_second", "bottom", "shoes", "sole")}
    if rng.random() < 0.15:
        colours["bottom"] = _near(colours["top"], 10.0, rng)
    return replace(clothes, **colours)


def _near(colour: Colour, spread: float, rng: np.random.Generator) -> Colour:
    shade, tint = rng.normal(0.0, spread), rng.normal(0.0, spread / 3.0, 3)
    red, green, blue = np.clip(np.rint(np.array(colour) + shade + tint), 0, 255).astype(int).tolist()
    return red, green, blue


def paint_points(points: SkinPoints, outfit: Outfit, rng: np.random.Generator) -> np.ndarray:
    """Unlit colours (N, 3) float, 0..255, of the points in freshly drawn colours."""
    clothes = recoloured(outfit.clothes, rng)
    # One-hot colours show, by the same painters, which points are the top, and which the trousers.
    marks = replace(clothes, **(dict.fromkeys(_COLOURS, (0, 0, 0)) | _MARKS))
    colours, garment = np.zeros((len(points.theta), 3)), np.zeros((len(points.theta), 3))
    for surface in range(1, len(Surface)):
        chosen = np.flatnonzero((points.surface == surface) & (points.material == Material.SKIN))
        place = points.theta[chosen], points.along[chosen]
        colours[chosen] = paint_surface(clothes, Surface(surface), *place)
        garment[chosen] = paint_surface(marks, Surface(surface), *place)
    bag = np.array(_gamut(rng))
    flat = {Material.TOP: clothes.top, Material.BOTTOM: clothes.bottom, Material.HAIR: clothes.hair}
    for material, colour in (flat | {Material.BAG: bag, Material.STRAP: bag * 0.7}).items():
        colours[points.material == material] = colour
    for finish, paint in draw_colours(rng).items():
        colours[points.material == Material.SEAT + finish] = paint
    top = (garment[:, 0] > 0.5) & (points.material == Material.SKIN) | (points.material == Material.TOP)
    bottom = (garment[:, 1] > 0.5) & (points.material == Material.SKIN) | (points.material == Material.BOTTOM)
    _details(colours, points, top, bottom, rng)
    for cloth in (top, bottom, points.material == Material.BAG):
        _print_on(colours, points, cloth, rng)
    if outfit.hood:
        hidden = (points.surface == Surface.HEAD) & (np.abs(points.theta) > 60.0) & (points.material == Material.SKIN)
        colours[hidden | ((points.surface == Surface.HEAD) & (points.along > 0.84))] = clothes.top
    _face(colours, points, clothes, rng)
    grain = smooth_noise(points.rest, 0.012, rng) + rng.uniform(0.0, 0.8) * smooth_noise(points.rest, 0.15, rng)
    strength = rng.uniform(0.005, 0.03) * np.where(top | bottom, 1.0, 0.4)
    return np.clip(colours * (1.0 + strength * grain)[:, None], 0, 255)


_COLOURS = ("skin", "hair", "top", "top_second", "bottom", "shoes", "sole")
_MARKS: dict[str, Any] = {"top": (1, 0, 0), "top_second": (1, 0, 0), "bottom": (0, 1, 0)}


def _chosen(points: SkinPoints, index: np.ndarray) -> SkinPoints:
    return SkinPoints(*(getattr(points, field.name)[index] for field in fields(points)))


def _print_on(colours: np.ndarray, points: SkinPoints, cloth: np.ndarray, rng: np.random.Generator) -> None:
    """Weave a pattern into the cloth, in place; none half of the time."""
    index = np.flatnonzero(cloth)
    if rng.random() < 0.5 or not len(index):
        return
    weave = _WEAVES[rng.integers(len(_WEAVES))]
    share = weave(_chosen(points, index), rng)[:, None] * rng.uniform(0.3, 1.0)
    colours[index] = colours[index] * (1.0 - share) + share * np.array(_gamut(rng))


def _horizontal(points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    return (points.rest[:, 1] / rng.uniform(0.012, 0.06) % 1.0 < rng.uniform(0.2, 0.6)).astype(float)


def _upright(points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    return (points.theta / rng.uniform(8.0, 45.0) % 1.0 < rng.uniform(0.15, 0.6)).astype(float)


def _plaid(points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    return 0.5 * _horizontal(points, rng) + 0.5 * _upright(points, rng)


def _blotches(points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    return (smooth_noise(points.rest, rng.uniform(0.02, 0.12), rng) > rng.uniform(-0.3, 1.0)).astype(float)


def _dots(points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    period = rng.uniform(0.015, 0.05)
    cell = (points.rest + rng.uniform(0.0, 1.0, 3)) / period % 1.0 - 0.5
    return ((cell**2).sum(axis=1) < rng.uniform(0.08, 0.2)).astype(float)


def _slanted(points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    slope = rng.uniform(-1.5, 1.5)
    return (
        (points.rest[:, 1] + slope * points.rest[:, 0]) / rng.uniform(0.015, 0.15) % 1.0 < rng.uniform(0.2, 0.6)
    ).astype(float)


def _denim(points: SkinPoints, rng: np.random.Generator) -> np.ndarray:
    return np.clip(
        0.3 + 0.2 * smooth_noise(points.rest, 0.008, rng, 9) + 0.2 * np.cos(np.radians(points.theta)), 0.0, 1.0
    )


_WEAVES: tuple[Callable[[SkinPoints, np.random.Generator], np.ndarray], ...] = (
    *(_horizontal, _upright, _plaid, _blotches, _dots, _slanted, _denim),
)


def _details(
    colours: np.ndarray, points: SkinPoints, top: np.ndarray, bottom: np.ndarray, rng: np.random.Generator
) -> None:
    """Open jackets and lapels, zips, prints on the chest and back, belts, side stripes and bands, in place."""
    torso = top & (points.surface == Surface.TORSO)
    across, along = np.abs(points.rest[:, 0]), points.along
    front = torso & (np.abs(points.theta) < 90.0)
    kind = rng.random()
    if kind < 0.2:  # an open jacket over a shirt
        colours[front & (across < rng.uniform(0.0, 0.04) + rng.uniform(0.0, 0.08) * along)] = _gamut(rng)
    elif kind < 0.32:  # lapels
        colours[front & (across < 0.07 * (1.0 - along / rng.uniform(0.3, 0.7)))] = _gamut(rng)
    elif kind < 0.42:  # a zip
        colours[front & (across < rng.uniform(0.003, 0.008))] = _gamut(rng)
    elif kind < 0.6:  # a print
        side = front if rng.random() < 0.6 else torso & ~front
        print_on = side & (across < rng.uniform(0.02, 0.08)) & (np.abs(along - 0.38) < rng.uniform(0.04, 0.2))
        print_on &= smooth_noise(points.rest, rng.uniform(0.01, 0.05), rng) > rng.uniform(-2.0, 0.6)
        colours[print_on] = _gamut(rng)
    if rng.random() < 0.15:
        colours[(np.abs(along - 0.9) < 0.025) & (points.surface == Surface.TORSO)] = _gamut(rng)
    if rng.random() < 0.12:
        colours[bottom & (np.abs(points.theta - 90.0) < rng.uniform(5.0, 22.0))] = _gamut(rng)
    if rng.random() < 0.08:
        colours[top & (np.abs((points.rest[:, 1] - 0.66) % 0.12 - 0.06) < 0.012)] = (225, 225, 205)


def _face(colours: np.ndarray, points: SkinPoints, clothes: Clothes, rng: np.random.Generator) -> None:
    """Eyes, and sometimes a beard, glasses, a mask or a scarf, in place."""
    bare = (points.surface == Surface.HEAD) & (points.material == Material.SKIN)
    angle, along = np.abs(points.theta), points.along
    face = bare & (angle < 65.0)
    eyes = face & (np.abs(along - 0.57) < 0.022) & (np.abs(angle - 17.0) < 8.0)
    colours[eyes] = (50, 40, 38)
    kind = rng.random()
    if kind < 0.2 and clothes.hair_style is not Hair.LONG:
        beard = face & (along > 0.16) & (along < 0.42) & ~((np.abs(along - 0.34) < 0.02) & (angle < 15.0))
        colours[beard] = colours[beard] * 0.35 + 0.65 * np.array(clothes.hair)
    elif kind < 0.4:
        frame = face & (np.abs(along - 0.57) < 0.04) & (angle < 45.0)
        share = rng.uniform(0.3, 1.0)
        colours[frame] = colours[frame] * (1.0 - share) + share * np.array((30, 28, 30))
    elif kind < 0.5:
        colours[face & (along > 0.22) & (along < 0.48) & (angle < 55.0)] = (
            _gamut(rng) if rng.random() < 0.4 else (215, 225, 230)
        )
    if rng.random() < 0.08:
        colours[bare & (along < 0.2)] = _gamut(rng)
