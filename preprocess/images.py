"""Reading one image file, whatever it is, and bringing it to the canonical size; the crop that an estimator sees."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.files.image_files import open_image

BEHIND = (255, 255, 255)
"""What lies behind transparent pixels: white, as viewers of images show them."""

KEPT_PIXELS = 2**21
"""A larger image is reduced while it is read: no network takes more, and a batch of photographs fills no memory."""


def read_image(path: Path) -> np.ndarray:
    """The file's pixels as uint8 (height, width, 3) RGB, turned upright by its EXIF orientation.

    16-bit values are cut to their upper 8 bits, CMYK and palettes are converted by Pillow, transparent pixels lie
    over white, and of several frames or pages the first is taken. Raises UserError naming the file when it is
    a link to nothing, empty, truncated, no image, of more than 67 million pixels, or of 32-bit numbers; and OSError
    where it is gone, or cannot be read for the moment.
    """
    return _read(path, None)[0]


def read_reduced(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """As :func:`read_image`, of at most :data:`KEPT_PIXELS`, and the file's own (height, width), upright.

    A larger image is reduced by a whole factor, each pixel the mean of those that it stands for.
    """
    return _read(path, KEPT_PIXELS)


def _read(path: Path, most: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    with open_image(path) as image:
        return _decode(image, most or image.width * image.height)


def pixels_of(image: Image.Image, most: int) -> np.ndarray:
    """As :func:`read_image`, of an image of Pillow's, which stays as it is; of at most ``most`` pixels.

    Raises ValueError or OSError where it cannot be decoded.
    """
    return _decode(image.copy(), most)[0]


def _decode(image: Image.Image, most: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Upright RGB pixels, at most ``most`` of them, and the upright (height, width) of the file."""
    width, height = image.size
    factor = _factor(image, most)
    image.draft(None, (width // factor, height // factor))  # a JPEG is decoded at a half, a quarter or an eighth
    lying = image.size
    ImageOps.exif_transpose(image, in_place=True)
    size = (height, width) if image.size == lying else (width, height)
    upright = _as_rgb(image)
    factor = _factor(upright, most)
    return np.asarray(upright.reduce(factor) if factor > 1 else upright), size


def _factor(image: Image.Image, most: int) -> int:
    """The smallest whole factor that leaves at most ``most`` pixels when both edges are divided by it, rounded up."""
    factor = ceil(sqrt(image.width * image.height / most))
    return factor if ceil(image.width / factor) * ceil(image.height / factor) <= most else factor + 1


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # the latter in older Pillows
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow's own conversion would clip
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers without a known range; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    behind = Image.new("RGBA", image.size, BEHIND)
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def resize_image(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Colours resized to (height, width), bilinear and antialiased; uint8 (height, width, 3)."""
    return _resize(pixels, size, Image.Resampling.BILINEAR)


def resize_iuv(iuv: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An IUV map resized to (height, width) by the nearest pixel: part numbers must never be blended."""
    return _resize(iuv, size, Image.Resampling.NEAREST)


def paste_iuv(iuv: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """A box's IUV map at its ``corner`` (x0, y0) in an image of (height, width); what hangs over is cut off."""
    (x0, y0), (height, width) = corner, size
    full = np.zeros((height, width, 3), np.uint8)
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x0 + iuv.shape[1], width), min(y0 + iuv.shape[0], height)
    if left < right and top < bottom:
        full[top:bottom, left:right] = iuv[top - y0 : bottom - y0, left - x0 : right - x0]
    return full


def _resize(pixels: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


@dataclass(frozen=True)
class Crop:
    """One image: the record and its pixels, uint8 (height, width, 3) RGB, as the file holds them.

    Of a huge file the pixels are reduced, and ``file_size`` is the file's own (height, width).
    """

    record: ImageRecord
    pixels: np.ndarray
    file_size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the file, in whose pixels boxes are given."""
        height, width = self.file_size or self.pixels.shape[:2]
        return height, width
