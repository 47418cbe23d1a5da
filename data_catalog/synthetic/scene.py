"""Where and how a person is seen: each camera's scene and optics, and what stands between it and the person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from densereid.data_catalog.synthetic.raycast import Skin

_SCENE_WIDTH = 12
"""A scene is this many crops wide, so that crops of one camera differ."""


@dataclass(frozen=True)
class Optics:
    """What one camera does to colours; the same for all of its images but for the noise."""

    light: np.ndarray
    """(3,) unit vector towards the light: to the image's right, up, towards the camera."""
    ambient: float
    """The share of light that comes from everywhere, 0..1."""
    gain: np.ndarray
    """(3,) RGB factors: exposure and colour cast."""
    gamma: float
    blur: float
    """Standard deviation in pixels of a 64 pixels wide image."""
    noise: float
    """Standard deviation in grey levels."""
    pitch: float
    """How far it looks down, radians."""
    heading: float
    """The yaw of people who walk along its path one way, radians; others come the other way."""


def camera_rng(seed: int, camera: int) -> np.random.Generator:
    """The generator of everything that belongs to one camera (1, 2, ...)."""
    return np.random.default_rng((seed, 1, camera))


@lru_cache(maxsize=64)
def camera_optics(seed: int, camera: int) -> Optics:
    """The optics of camera 1, 2, ... of a dataset."""
    rng = camera_rng(seed, camera)
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0.35, 0.9), rng.uniform(0.1, 0.8)])
    return Optics(
        light=light / np.linalg.norm(light),
        ambient=rng.uniform(0.5, 0.75),
        gain=rng.uniform(0.85, 1.2) * rng.uniform(0.9, 1.1, 3),
        gamma=rng.uniform(0.8, 1.2),
        blur=rng.uniform(0.35, 0.8),
        noise=rng.uniform(1.5, 5.0),
        pitch=np.radians(rng.uniform(3.0, 20.0)),
        heading=rng.uniform(0.0, 2.0 * np.pi),
    )


@lru_cache(maxsize=64)
def camera_scene(seed: int, camera: int, height: int, width: int) -> np.ndarray:
    """The wide picture (2 x height, 12 x width, 3) uint8 RGB of which a camera's backgrounds are crops."""
    rng = camera_rng(seed, 100 + camera)
    scene = Image.new("RGB", (width * _SCENE_WIDTH, height * 2))
    draw = ImageDraw.Draw(scene)
    horizon = int(height * rng.uniform(0.75, 1.2))
    _draw_walls(draw, rng, scene.size, horizon, width)
    _draw_ground(draw, rng, scene.size, horizon)
    _draw_street(draw, rng, scene.size, horizon, width)
    blurred = scene.filter(ImageFilter.GaussianBlur(width / 64 * 0.7))
    pixels = np.asarray(blurred, float) + rng.normal(0.0, 5.0, (height * 2, width * _SCENE_WIDTH, 1))
    result = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    result.flags.writeable = False
    return result


def _dull_colour(rng: np.random.Generator, low: int = 50, high: int = 200) -> tuple[int, int, int]:
    grey = rng.uniform(low, high)
    return tuple(int(value) for value in np.clip(grey + rng.normal(0.0, 10.0, 3), 0, 255))  # type: ignore[return-value]


def _draw_walls(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int, unit: int
) -> None:
    left = 0
    while left < size[0]:
        right = left + int(unit * rng.uniform(0.8, 3.0))
        draw.rectangle((left, 0, right, horizon), fill=_dull_colour(rng, 60, 210))
        frame, pane = _dull_colour(rng), _dull_colour(rng, 30, 150)
        step_x, step_y = int(unit * rng.uniform(0.3, 0.7)), int(unit * rng.uniform(0.3, 0.9))
        kind = rng.random()
        for x in range(left, right, step_x):
            for y in range(0, horizon, step_y):
                if kind < 0.5:
                    draw.rectangle((x + 2, y + 2, x + int(step_x * 0.7), y + int(step_y * 0.75)), pane, frame)
                elif kind < 0.8:
                    draw.line((left, y, right, y), fill=frame, width=max(1, unit // 32))
        left = right


def _draw_ground(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int) -> None:
    ground, joint = _dull_colour(rng, 80, 190), _dull_colour(rng, 70, 170)
    draw.rectangle((0, horizon, *size), fill=ground)
    tilt = rng.uniform(-0.8, 0.8)
    rows = np.cumsum(np.linspace(6, 26, 14)) * size[1] / 256
    for row in rows:
        draw.line((0, horizon + row, size[0], horizon + row), fill=joint, width=max(1, size[1] // 200))
    for x in range(-size[0] // 4, size[0] * 5 // 4, int(size[1] * rng.uniform(0.08, 0.25)) + 1):
        end = x + tilt * (size[1] - horizon)
        draw.line((x, horizon, end, size[1]), fill=joint, width=max(1, size[1] // 256))


def _draw_street(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int, unit: int
) -> None:
    """Poles, parked things and bushes along the street."""
    for _ in range(int(rng.integers(14, 26))):
        x, base = rng.uniform(0, size[0]), horizon + rng.uniform(0.0, 0.6) * unit
        kind, colour = rng.random(), _dull_colour(rng, 30, 190)
        if kind < 0.35:
            draw.rectangle((x, 0, x + unit * rng.uniform(0.04, 0.12), base), fill=colour)
        elif kind < 0.7:
            wide, high = unit * rng.uniform(0.3, 1.4), unit * rng.uniform(0.3, 0.9)
            bright = tuple(int(v) for v in rng.uniform(50, 200) + rng.normal(0.0, 28.0, 3))
            draw.rectangle((x, base - high, x + wide, base), fill=bright if kind < 0.5 else colour)
            draw.rectangle((x, base - high * 0.95, x + wide, base - high * 0.6), fill=_dull_colour(rng, 40, 120))
        else:
            for _ in range(6):
                bx, by, r = x + rng.normal(0, 0.25) * unit, base - rng.uniform(0, 0.6) * unit, unit * 0.22
                green = (int(rng.integers(40, 90)), int(rng.integers(80, 130)), int(rng.integers(40, 80)))
                draw.ellipse((bx - r, by - r, bx + r, by + r), fill=green)


def background(scene: np.ndarray, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random crop (H, W, 3) uint8 of a camera's scene, a copy."""
    top = int(rng.integers(height * 3 // 8, height * 5 // 8 + 1))
    left = int(rng.integers(0, scene.shape[1] - width + 1))
    return scene[top : top + height, left : left + width].copy()


def draw_obstacle(image: np.ndarray, iuv: np.ndarray, rng: np.random.Generator) -> None:
    """Put a pole, a box or a railing in front of the person, in place; IUV is 0 where it stands."""
    height, width = iuv.shape[:2]
    covered = np.zeros((height, width), bool)
    kind = rng.random()
    if kind < 0.3:
        left = int(rng.uniform(0.1, 0.8) * width)
        covered[:, left : left + max(1, int(rng.uniform(0.06, 0.16) * width))] = True
    elif kind < 0.75:
        top, left = int(rng.uniform(0.5, 0.8) * height), int(rng.uniform(-0.5, 0.6) * width)
        covered[top:, max(0, left) : max(1, left + int(rng.uniform(0.5, 1.2) * width))] = True
    else:
        rail = max(1, height // 40)
        for top in (np.array([0.55, 0.66, 0.77]) + rng.uniform(0.0, 0.15)) * height:
            covered[int(top) : int(top) + rail] = True
        for left in range(int(rng.integers(0, width // 3)), width, max(2, width // 3)):
            covered[int(0.55 * height) :, left : left + rail] = True
    colour = np.array(_dull_colour(rng, 30, 180), float)
    light = np.linspace(1.1, 0.85, height)[:, None, None] * np.linspace(0.92, 1.08, width)[None, :, None]
    image[covered] = np.clip(colour * light, 0, 255).astype(np.uint8)[covered]
    iuv[covered] = 0


def shaded(colours: np.ndarray, skin: Skin, optics: Optics) -> np.ndarray:
    """Lit colours (N, 3) float in grey levels: the ambient share plus Lambert's cosine."""
    lambert = np.maximum(skin.normals @ optics.light, 0.0)
    return colours * (optics.ambient + (1.25 - optics.ambient) * lambert)[:, None]


def photograph(image: np.ndarray, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """What the camera makes of a picture (H, W, 3) uint8: gain and cast, gamma, blur and noise; uint8."""
    exposure = rng.normal(1.0, 0.06)
    levels = np.arange(256) / 255.0
    tables = np.clip((levels[:, None] * optics.gain * exposure), 0.0, 1.0) ** optics.gamma
    toned = np.empty_like(image)
    for channel in range(3):
        toned[..., channel] = np.rint(255.0 * tables[:, channel]).astype(np.uint8)[image[..., channel]]
    radius = optics.blur * rng.uniform(0.7, 1.3) * image.shape[1] / 64
    blurred = np.asarray(Image.fromarray(toned).filter(ImageFilter.GaussianBlur(radius)))
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(optics.noise)
    return np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)
