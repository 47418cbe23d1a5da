"""What cameras, codecs and detectors make of a picture: tones, blur, low resolution, noise, JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

_RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST, Image.Resampling.BOX)

_LOWEST = 40


def photographed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB as a surveillance camera gives it; at times hardly changed, at times by night."""
    toned = _toned(picture, rng)
    image = Image.fromarray(toned)
    image = _blurred(image, rng)
    if rng.random() < 0.5 and image.height > _LOWEST:
        image = _low_resolution(image, rng)
    values = np.asarray(image, np.float32)
    if rng.random() < 0.7:
        noise = rng.standard_normal(values.shape, np.float32)
        values = values + noise * np.float32(rng.exponential(5.0))
    result = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return _jpeg(result, int(rng.integers(25, 96))) if rng.random() < 0.7 else result


def photographed_by_day(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB in good light and focus: a little brighter or darker, a little noise, JPEG."""
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.0, 3.0))
    values = picture * gain.astype(np.float32) + noise
    return _jpeg(np.clip(np.rint(values), 0, 255).astype(np.uint8), int(rng.integers(70, 96)))


def _toned(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, contrast, colour cast, gamma and saturation; one picture in twelve is taken by night, or grey."""
    values = picture.astype(np.float32) / 255.0
    gain = rng.uniform(0.7, 1.35) * rng.uniform(0.85, 1.15, 3)
    if rng.random() < 0.08:
        gain = gain * rng.uniform(0.15, 0.5)
    contrast = rng.uniform(0.55, 1.25)
    mean = values.mean()
    values = np.clip(((values - mean) * contrast + mean) * gain.astype(np.float32), 0.0, 1.0)
    values = values ** np.float32(rng.uniform(0.65, 1.5))
    saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.4, 1.3)
    grey = values.mean(axis=2, keepdims=True)
    if rng.random() < 0.15:  # haze and glare
        values = values * np.float32(0.7) + np.float32(rng.uniform(0.0, 0.3))
    values = grey + (values - grey) * np.float32(saturation)
    return np.clip(np.rint(values * 255.0), 0, 255).astype(np.uint8)


def _blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Out of focus, or moved: a line of pixels in a random direction."""
    kind = rng.random()
    unit = image.width / 96.0
    if kind < 0.6:
        return image.filter(ImageFilter.GaussianBlur(rng.exponential(0.7) * unit))
    if kind > 0.85:
        return image
    x, y = rng.normal(0.0, 2.0, 2) * unit
    steps = [np.asarray(image.transform(image.size, Image.Transform.AFFINE, (1, 0, x * t, 0, 1, y * t),
             Image.Resampling.BILINEAR), np.float32) for t in (-0.5, -0.25, 0.0, 0.25, 0.5)]  # fmt: skip
    return Image.fromarray(np.rint(np.mean(steps, axis=0)).astype(np.uint8))


def _low_resolution(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Down to as little as 40x20 and back, by any filter."""
    height = int(rng.integers(_LOWEST, image.height))
    width = max(20, round(height * image.width / image.height))
    there, back = (_RESAMPLING[int(rng.integers(len(_RESAMPLING)))] for _ in range(2))
    return image.resize((width, height), there).resize(image.size, back)


def _jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
