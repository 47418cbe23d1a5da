"""Who a synthetic person is: build, hair, clothes and bag, drawn from few realistic values that identities share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from densereid.data_catalog.parts import NUM_BODY_PARTS
from densereid.data_catalog.synthetic.body import Bag, Build, Hair
from densereid.data_catalog.synthetic.charts import TEXTURE_SIZE, Surface, texel_points

Colour = tuple[int, int, int]

SKIN_COLOURS: tuple[Colour, ...] = ((236, 200, 176), (222, 178, 148), (198, 150, 116), (156, 108, 78), (98, 66, 50))
HAIR_COLOURS: tuple[Colour, ...] = ((28, 24, 24), (52, 38, 30), (92, 64, 42), (150, 116, 70), (140, 136, 134))
TOP_COLOURS: tuple[Colour, ...] = (
    (232, 232, 230),
    (36, 36, 40),
    (128, 130, 134),
    (46, 62, 104),
    (96, 140, 190),
    (164, 42, 44),
    (62, 110, 72),
    (210, 178, 70),
    (198, 128, 150),
    (104, 62, 118),
)
_TOP_WEIGHTS = np.array([5, 5, 3, 3, 2, 2, 1.5, 1.5, 1.5, 1])
BOTTOM_COLOURS: tuple[Colour, ...] = (
    (32, 32, 36),
    (52, 66, 104),
    (92, 112, 148),
    (150, 138, 112),
    (98, 98, 100),
    (196, 190, 178),
)
_BOTTOM_WEIGHTS = np.array([5, 4, 3, 2, 2, 1])
SHOE_COLOURS: tuple[Colour, ...] = ((28, 28, 30), (226, 226, 224), (96, 66, 46), (150, 44, 44), (70, 84, 120))
BAG_COLOURS: tuple[Colour, ...] = ((34, 34, 38), (110, 74, 44), (150, 40, 44), (50, 72, 116), (92, 110, 72))


class Pattern(StrEnum):
    """How the top's two colours are laid out."""

    PLAIN = "plain"
    STRIPES = "stripes"
    CHECKS = "checks"
    LOGO = "logo"
    GRADIENT = "gradient"
    YOKE = "yoke"


class Bottom(StrEnum):
    """What covers the legs."""

    TROUSERS = "trousers"
    SHORTS = "shorts"
    SKIRT = "skirt"


@dataclass(frozen=True)
class Clothes:
    """What a person wears, and the colours (RGB) of skin and hair."""

    skin: Colour
    hair: Colour
    hair_style: Hair
    top: Colour
    top_second: Colour
    pattern: Pattern
    sleeve: float
    """How far sleeves reach: 0 none, 1 the elbow, 2 the wrist."""
    hem: float
    """Where the top ends on the trunk, 0 the neck, 1 the crotch."""
    bottom: Colour
    bottom_kind: Bottom
    bottom_length: float
    """How far it reaches: 0 the hip, 1 the knee, 2 the ankle."""
    shoes: Colour
    sole: Colour


@dataclass(frozen=True)
class Appearance:
    """One identity, the same in all of its images."""

    build: Build
    clothes: Clothes
    bag_colour: Colour
    texture: np.ndarray
    """(24, 32, 32, 3) uint8 RGB: the colour of every texel of every part, row u, column v."""


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """A random identity. The same generator state gives the same identity."""
    clothes = draw_clothes(rng)
    bag = rng.choice(list(Bag), p=[0.5, 0.22, 0.15, 0.13])
    build = Build(
        girth=float(np.clip(rng.normal(1.02, 0.09), 0.85, 1.25)),
        shoulder_width=rng.uniform(0.198, 0.226),
        hip_width=rng.uniform(0.092, 0.108),
        loose_top=rng.uniform(0.0, 1.0),
        trousers_width=rng.uniform(0.25, 0.9) if clothes.bottom_length > 1.3 else 0.0,
        skirt=clothes.bottom_kind is Bottom.SKIRT,
        hair=clothes.hair_style,
        bag=Bag(bag),
        bag_on_left=bool(rng.random() < 0.5),
    )
    bag_colour = BAG_COLOURS[rng.integers(len(BAG_COLOURS))]
    texture = paint_texture(clothes, rng)
    texture.flags.writeable = False
    return Appearance(build, clothes, bag_colour, texture)


def draw_clothes(rng: np.random.Generator) -> Clothes:
    """Random clothes, skin and hair in the colours of the palettes above."""
    top, second = rng.choice(len(TOP_COLOURS), 2, replace=False, p=_TOP_WEIGHTS / _TOP_WEIGHTS.sum())
    bottom = rng.choice(len(BOTTOM_COLOURS), p=_BOTTOM_WEIGHTS / _BOTTOM_WEIGHTS.sum())
    kind = Bottom(rng.choice(list(Bottom), p=[0.68, 0.18, 0.14]))
    length = {Bottom.TROUSERS: 1.95, Bottom.SHORTS: rng.uniform(0.7, 1.15), Bottom.SKIRT: 1.0}
    shoe, sole = rng.integers(len(SHOE_COLOURS), size=2)
    return Clothes(
        skin=SKIN_COLOURS[rng.choice(5, p=[0.25, 0.3, 0.25, 0.12, 0.08])],
        hair=HAIR_COLOURS[rng.choice(5, p=[0.4, 0.27, 0.15, 0.1, 0.08])],
        hair_style=Hair(rng.choice(list(Hair), p=[0.45, 0.25, 0.12, 0.06, 0.12])),
        top=TOP_COLOURS[top],
        top_second=TOP_COLOURS[second],
        pattern=Pattern(rng.choice(list(Pattern), p=[0.36, 0.16, 0.12, 0.18, 0.06, 0.12])),
        sleeve=float(rng.choice([0.05, 0.6, 0.75, 1.97], p=[0.08, 0.27, 0.25, 0.4])),
        hem=rng.uniform(0.72, 0.88),
        bottom=BOTTOM_COLOURS[bottom],
        bottom_kind=kind,
        bottom_length=length[kind],
        shoes=SHOE_COLOURS[shoe],
        sole=SHOE_COLOURS[sole],
    )


def paint_texture(clothes: Clothes, rng: np.random.Generator) -> np.ndarray:
    """The texture (24, 32, 32, 3) uint8 RGB of these clothes, with the cloth's own fine grain."""
    texture = np.zeros((NUM_BODY_PARTS, TEXTURE_SIZE, TEXTURE_SIZE, 3))
    for part in range(1, NUM_BODY_PARTS + 1):
        surface, theta, along = texel_points(part)
        texture[part - 1] = paint_surface(clothes, surface, theta, along)
    grain = rng.normal(0.0, 3.0, (*texture.shape[:3], 1))
    return np.clip(np.rint(texture * _folds(rng) + grain), 0, 255).astype(np.uint8)


def paint_surface(clothes: Clothes, surface: Surface, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The colours (..., 3) float RGB, 0..255, of points of one surface; ``theta`` (...) in degrees, ``along`` 0..1."""
    return _PAINTERS[surface](clothes, theta, along)


def hairline(style: Hair, angle: np.ndarray) -> np.ndarray:
    """Where hair begins: ``along`` of the head (...) at ``angle`` (...), degrees from the face's middle, 0..180."""
    if style is Hair.LONG:
        return np.interp(angle, [0, 40, 62, 75, 180], [0.86, 0.78, 0.35, -0.1, -0.1])
    return np.interp(angle, [0, 45, 70, 95, 180], [0.86, 0.82, 0.6, 0.42, 0.3])


def _folds(rng: np.random.Generator) -> np.ndarray:
    """Factors (24, 32, 32, 1) near 1 that vary over a few texels, as folds do."""
    coarse = rng.normal(1.0, 0.07, (NUM_BODY_PARTS, 8, 8))
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2)
    for axis in (1, 2):
        fine = np.mean([np.roll(fine, shift, axis=axis) for shift in (-2, -1, 0, 1, 2)], axis=0)
    return fine[..., None]


def _fill(theta: np.ndarray, colour: Colour) -> np.ndarray:
    return np.broadcast_to(np.array(colour, float), (*theta.shape, 3)).copy()


def _shade(colour: Colour, factor: float) -> np.ndarray:
    return np.array(colour, float) * factor


def _top_cloth(clothes: Clothes, theta: np.ndarray, along: np.ndarray, repeats: float) -> np.ndarray:
    """The top's cloth; ``repeats`` is the number of pattern periods along this bone."""
    cloth = _fill(theta, clothes.top)
    phase = along * repeats % 1.0
    if clothes.pattern is Pattern.STRIPES:
        cloth[phase < 0.45] = clothes.top_second
    elif clothes.pattern is Pattern.CHECKS:
        blend = 0.55 * np.array(clothes.top) + 0.45 * np.array(clothes.top_second)
        cloth[(phase < 0.5) ^ (theta % 60.0 < 30.0)] = blend
    elif clothes.pattern is Pattern.GRADIENT:
        share = np.clip(along * repeats / 7.0, 0.0, 1.0)[..., None]
        cloth = cloth * (1.0 - share) + share * np.array(clothes.top_second)
    return cloth


def _paint_torso(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    paint = _top_cloth(clothes, theta, along, 7.0)
    angle = np.abs(theta)
    if clothes.pattern is Pattern.LOGO:
        paint[(np.abs(along - 0.32) < 0.11) & (angle < 38.0)] = clothes.top_second
        paint[(np.abs(along - 0.25) < 0.05) & (angle > 140.0)] = clothes.top_second
    if clothes.pattern is Pattern.YOKE:
        paint[along < 0.36] = clothes.top_second
    paint[(along < 0.09) & (angle < 40.0 - 300.0 * along)] = clothes.skin
    paint[along > clothes.hem] = clothes.bottom
    paint[(along > clothes.hem) & (along < clothes.hem + 0.045)] = _shade(clothes.bottom, 0.6)
    return paint


def _paint_upper_arm(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    paint = _top_cloth(clothes, theta, along, 3.5)
    if clothes.pattern is Pattern.YOKE:
        paint[along < 0.45] = clothes.top_second
    paint[along > clothes.sleeve] = clothes.skin
    return paint


def _paint_lower_arm(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    paint = _top_cloth(clothes, theta, along + 1.0, 3.5)
    paint[along + 1.0 > clothes.sleeve] = clothes.skin
    return paint


def _paint_hand(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    paint = _fill(theta, clothes.skin)
    paint[along > 0.6] *= 0.92
    return paint


def _paint_upper_leg(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    paint = _fill(theta, clothes.bottom)
    paint[np.abs(theta - 90.0) < 8.0] *= 0.85
    paint[along > clothes.bottom_length] = clothes.skin
    return paint


def _paint_lower_leg(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    paint = _fill(theta, clothes.bottom)
    bare = along + 1.0 > clothes.bottom_length
    paint[bare] = clothes.skin
    paint[bare & (along > 0.86)] = _shade(clothes.sole, 0.95)
    return paint


def _paint_foot(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    paint = _fill(theta, clothes.shoes)
    paint[np.abs(theta) > 128.0] = clothes.sole
    paint[(np.abs(theta) < 30.0) & (np.abs(along - 0.5) < 0.12)] = _shade(clothes.sole, 0.9)
    return paint


def _paint_head(clothes: Clothes, theta: np.ndarray, along: np.ndarray) -> np.ndarray:
    angle = np.abs(theta)
    paint = _fill(theta, clothes.skin)
    paint[along < 0.2] *= 0.85
    style = clothes.hair_style
    line = hairline(style, angle)
    if style is Hair.BALD:
        line = np.where((angle > 75.0) & (along < 0.58), line, 2.0)
    paint[along > line] = clothes.hair
    if style is Hair.CAP:
        paint[along > 0.7] = clothes.top_second
    face = angle < 60.0
    paint[face & (np.abs(along - 0.61) < 0.03) & (np.abs(angle - 22.0) < 10.0)] = (48, 36, 34)
    paint[face & (np.abs(along - 0.36) < 0.025) & (angle < 18.0)] = _shade(clothes.skin, 0.62)
    return paint


_PAINTERS = {
    Surface.TORSO: _paint_torso,
    Surface.UPPER_ARM: _paint_upper_arm,
    Surface.LOWER_ARM: _paint_lower_arm,
    Surface.HAND: _paint_hand,
    Surface.UPPER_LEG: _paint_upper_leg,
    Surface.LOWER_LEG: _paint_lower_leg,
    Surface.FOOT: _paint_foot,
    Surface.HEAD: _paint_head,
}


def mirrored_build(build: Build) -> Build:
    """The build seen in a mirror: the bag changes sides."""
    return replace(build, bag_on_left=not build.bag_on_left)
