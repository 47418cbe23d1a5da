"""Training pictures: a person in a detector's box, with a background, other people and obstacles, photographed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from densereid.preprocess.embedded_training.layers import PersonLayer
from densereid.preprocess.embedded_training.pictures.cloth import draw_alike, draw_plain
from densereid.preprocess.embedded_training.pictures.photograph import photographed, photographed_by_day

_LADEN, _SEATED = 0.05, 0.15
"""Shares of the upper half of an outline that bags hide, and of the lower half that is no body, from which a person
carries much, or sits on something."""

_TRIES = 8


@dataclass(frozen=True)
class Library:
    """What pictures are put together from."""

    people: Sequence[PersonLayer]
    backgrounds: np.ndarray
    """(N, height, width, 3) uint8 RGB."""


@dataclass(frozen=True)
class Conditions:
    """What share of the pictures has what makes them hard."""

    behind: float = 0.35
    """Another person behind; a third one in some more."""
    in_front: float = 0.14
    obstacle: float = 0.22
    loose_box: float = 0.15
    cut_box: float = 0.17
    harsh_camera: float = 1.0
    """Night, haze, blur, motion, noise, low resolution; the others are taken by day, in focus."""
    plain_cloth: float = 0.0
    """A garment of nearly one colour."""
    alike: float = 0.0
    """A background of nearly a garment's colour."""
    laden: float = 1.0
    """Of those who carry much at the upper half of the body, the share kept; somebody else takes the others' place."""
    seated: float = 1.0
    """Of those of whom a seat or a vehicle hides much, the share kept."""


HARSH = Conditions()
"""Crops that surveillance cameras and detectors get wrong."""

KIND = Conditions(in_front=0.0, obstacle=0.05, loose_box=0.1, cut_box=0.05, harsh_camera=0.0, seated=0.25)
"""Crops as a dataset is mostly made of: a whole person in a snug box, by day."""


@dataclass(frozen=True)
class Window:
    """The box of a detector: where it lies in a layer's pixels, and the size that it is resized to."""

    x: float
    y: float
    width: float
    height: float
    turn: float
    """Radians that the camera is rolled by."""
    size: tuple[int, int]

    def affine(self) -> tuple[float, float, float, float, float, float]:
        """The coefficients by which Pillow finds the layer's pixel of one of the crop."""
        rows, columns = self.size
        step_x, step_y = self.width / columns, self.height / rows
        c, s = np.cos(self.turn), np.sin(self.turn)
        a, b, d, e = c * step_x, -s * step_y, s * step_x, c * step_y
        middle_x, middle_y = self.x + self.width / 2, self.y + self.height / 2
        return a, b, middle_x - a * columns / 2 - b * rows / 2, d, e, middle_y - d * columns / 2 - e * rows / 2


def compose(
    library: Library, rng: np.random.Generator, size: tuple[int, int], conditions: Conditions = HARSH
) -> tuple[np.ndarray, np.ndarray]:
    """A crop and its exact IUV, both (height, width, 3) uint8; IUV is 0 wherever something hides the person."""
    cloth, others = rng.spawn(2)  # of their own, so that a share changes nothing else in a picture
    person = _person(library, rng, others, conditions)
    window = detector_box(person, rng, size, conditions)
    image = _background(library, rng, size)
    if cloth.random() < conditions.plain_cloth:
        person = draw_plain(person, cloth)
    if cloth.random() < conditions.alike:
        image = draw_alike(image, person, cloth)
    iuv = np.zeros((*size, 3), np.uint8)
    for _ in range(int(rng.random() < conditions.behind) + int(rng.random() < conditions.behind * 2 / 7)):
        _put(image, iuv, _other(library, rng), _beside(window, rng, behind=True), hides=True)
    _put(image, iuv, person, window, hides=False)
    if rng.random() < conditions.in_front:
        _put(image, iuv, _other(library, rng), _beside(window, rng, behind=False), hides=True)
    if rng.random() < conditions.obstacle:
        _obstruct(image, iuv, library, rng)
    harsh = cloth.random() < conditions.harsh_camera
    return (photographed if harsh else photographed_by_day)(image, rng), iuv


def detector_box(
    person: PersonLayer, rng: np.random.Generator, size: tuple[int, int], conditions: Conditions = HARSH
) -> Window:
    """A box about the person: mostly snug, at times too loose, too tight, off the middle or of a part of the body."""
    x0, y0, x1, y1 = person.body_box()
    height = (y1 - y0) / rng.uniform(0.82, 1.02)
    width = min(max((x1 - x0) / rng.uniform(0.75, 1.05), 0.3 * height), 0.75 * height)
    x, y = (x0 + x1) / 2 + rng.normal(0.0, 0.04) * width, (y0 + y1) / 2 + rng.normal(0.0, 0.02) * height
    kind = rng.random()
    if kind < conditions.loose_box:
        height, width = height * rng.uniform(1.0, 1.4), width * rng.uniform(1.0, 1.8)
        x, y = x + rng.normal(0.0, 0.1) * width, y + rng.normal(0.0, 0.06) * height
    elif kind < conditions.loose_box + conditions.cut_box:  # the upper or lower end is cut, as at the border of a frame
        share = rng.uniform(0.45, 0.9)
        shift = (1.0 - share) * height / 2
        y += shift if rng.random() < 0.35 else -shift
        height, width = height * share, width * rng.uniform(share, 1.0)
    return Window(x - width / 2, y - height / 2, width, height, float(rng.normal(0.0, 0.06)), size)


def _person(
    library: Library, rng: np.random.Generator, others: np.random.Generator, conditions: Conditions
) -> PersonLayer:
    person = _other(library, rng)
    unladen = others.random() >= conditions.laden
    # Nothing is drawn where all are kept: the pictures stay those that the released weights were trained on.
    standing = conditions.seated < 1.0 and others.random() >= conditions.seated
    if not unladen and not standing:
        return person
    drawn = (_other(library, others) for _ in range(_TRIES))
    fitting = (
        each for each in (person, *drawn) if not (unladen and _is_laden(each)) and not (standing and _is_seated(each))
    )
    return next(fitting, person)


def _is_laden(person: PersonLayer) -> bool:
    """Whether what is no body hides much of the upper half of the body's box: bags, mostly; a seat is below."""
    x0, y0, x1, y1 = person.body_box()
    return _share_of_objects(person, slice(y0, (y0 + y1 + 1) // 2), slice(x0, x1)) >= _LADEN


def _is_seated(person: PersonLayer) -> bool:
    """Whether much of what is seen below the middle of the body's box, beside it as well, is no body."""
    _, y0, _, y1 = person.body_box()
    return _share_of_objects(person, slice((y0 + y1) // 2, None), slice(None)) >= _SEATED


def _share_of_objects(person: PersonLayer, rows: slice, columns: slice) -> float:
    outline = person.alpha[rows, columns]
    return float((outline & (person.iuv[rows, columns, 0] == 0)).sum() / max(1, outline.sum()))


def _other(library: Library, rng: np.random.Generator) -> PersonLayer:
    return library.people[int(rng.integers(len(library.people)))]


def _beside(window: Window, rng: np.random.Generator, *, behind: bool) -> Window:
    """Where another person stands in the same picture: behind and smaller, or in front, larger and cut."""
    share = rng.uniform(0.45, 1.0) if behind else rng.uniform(0.9, 1.6)
    away = rng.choice([-1.0, 1.0]) * (rng.uniform(0.15, 0.65) if behind else rng.uniform(0.4, 0.7))
    width, height = window.width / share, window.height / share
    return Window(
        window.x + window.width / 2 - width / 2 - away * width,
        window.y + window.height / 2 - height / 2 + rng.normal(0.0, 0.08) * height,
        width, height, window.turn, window.size,
    )  # fmt: skip


def _put(image: np.ndarray, iuv: np.ndarray, layer: PersonLayer, window: Window, *, hides: bool) -> None:
    """Draw a layer into the crop, in place; one that hides has no IUV of its own."""
    rows, columns = window.size
    coefficients = window.affine()
    rgba = np.dstack([layer.image, layer.alpha.astype(np.uint8) * 255])
    # Larger than the crop, so that borders and thin limbs are averaged, not picked.
    smooth = _transformed(
        rgba, (2 * columns, 2 * rows), tuple(c / 2 if k % 3 < 2 else c for k, c in enumerate(coefficients))
    )
    doubled = smooth.astype(np.uint16)
    smooth = (doubled[::2, ::2] + doubled[1::2, ::2] + doubled[::2, 1::2] + doubled[1::2, 1::2]) / np.float32(4)
    share = smooth[..., 3:] / 255.0
    # The colours are 0 where alpha is, so that their mean is premultiplied.
    image[:] = np.clip(np.rint(image * (1.0 - share) + smooth[..., :3]), 0, 255).astype(np.uint8)
    solid = share[..., 0] >= 0.5
    if hides:
        iuv[solid] = 0
        return
    own = Image.fromarray(layer.iuv).transform((columns, rows), Image.Transform.AFFINE, coefficients)
    iuv[solid] = np.asarray(own)[solid]


def _transformed(pixels: np.ndarray, size: tuple[int, int], coefficients: tuple[float, ...]) -> np.ndarray:
    # As four bands of ink: of RGBA, Pillow would divide the colours by alpha and multiply again.
    bands = Image.frombuffer("CMYK", pixels.shape[1::-1], pixels.tobytes())
    return np.asarray(bands.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))


def _background(library: Library, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A piece of a background at any scale, mirrored half of the time."""
    picture = library.backgrounds[int(rng.integers(len(library.backgrounds)))]
    rows, columns = picture.shape[:2]
    height, width = rows * rng.uniform(0.4, 1.0), columns * rng.uniform(0.4, 1.0)
    x, y = rng.uniform(0.0, columns - width), rng.uniform(0.0, rows - height)
    box = (x, y, x + width, y + height)
    piece = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR, box)
    pixels = np.array(piece)
    return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels


def _obstruct(image: np.ndarray, iuv: np.ndarray, library: Library, rng: np.random.Generator) -> None:
    """A post, a counter, a bicycle's box or a bar in front, of the pixels of another background."""
    rows, columns = iuv.shape[:2]
    hidden = np.zeros((rows, columns), bool)
    kind = rng.random()
    if kind < 0.35:
        left = int(rng.uniform(-0.05, 0.95) * columns)
        hidden[:, max(0, left) : left + max(2, int(rng.uniform(0.04, 0.25) * columns))] = True
    elif kind < 0.7:
        top, left = int(rng.uniform(0.45, 0.9) * rows), int(rng.uniform(-0.6, 0.7) * columns)
        hidden[top:, max(0, left) : max(1, left + int(rng.uniform(0.4, 1.4) * columns))] = True
    else:
        y, x = np.mgrid[:rows, :columns]
        centre, radius = (rng.uniform(0, rows), rng.uniform(0, columns)), rng.uniform(0.08, 0.35) * columns
        hidden = (y - centre[0]) ** 2 / rng.uniform(0.5, 3.0) + (x - centre[1]) ** 2 < radius**2
    image[hidden] = _background(library, rng, (rows, columns))[hidden]
    iuv[hidden] = 0
