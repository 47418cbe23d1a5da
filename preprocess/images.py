"""Reading one image file and bringing it to the canonical size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_catalog.errors import UserError


def read_image(path: Path) -> np.ndarray:
    """The file's pixels as uint8 (height, width, 3) RGB, turned upright by its EXIF orientation.

    Raises UserError naming the file when it is missing, empty, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"{path} is gone") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        size = path.stat().st_size
        raise UserError(f"{path} cannot be read as an image ({size} bytes): {error}") from error


def resize_image(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Colours resized to (height, width), bilinear and antialiased; uint8 (height, width, 3)."""
    return _resize(pixels, size, Image.Resampling.BILINEAR)


def resize_iuv(iuv: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An IUV map resized to (height, width) by the nearest pixel: part numbers must never be blended."""
    return _resize(iuv, size, Image.Resampling.NEAREST)


def _resize(pixels: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))
