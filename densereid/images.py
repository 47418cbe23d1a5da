"""The images that a program hands over: paths, Pillow's images, arrays and tensors, all as the same pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from densereid.data_catalog.errors import UserError, first_line
from densereid.preprocess.images import KEPT_PIXELS, pixels_of, read_reduced

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray | Tensor"
"""A file; an image of Pillow's, of any mode; uint8 (height, width, 3), RGB; a uint8 tensor (3, height, width)."""

Images: TypeAlias = "ImageLike | Iterable[ImageLike]"
"""One image or several; an array or a tensor of four dimensions is several."""


def each_image(images: Images) -> Iterator[tuple[str, np.ndarray]]:
    """A name for messages, and the pixels, uint8 (height, width, 3) RGB, of each image.

    They are as preprocessing reads a file: upright, transparent pixels over white, huge images reduced. Raises
    UserError that names the image where it cannot be read, or is something else.
    """
    for index, image in enumerate(_several(images)):
        if isinstance(image, str | os.PathLike):
            path = Path(image).expanduser()
            yield str(path), _read(path)
        else:
            name = f"image {index}"
            yield name, _pixels(name, image)


def in_batches(images: Images, size: int) -> Iterator[list[tuple[str, np.ndarray]]]:
    """:func:`each_image`, ``size`` at a time."""
    remaining = each_image(images)
    while batch := list(islice(remaining, size)):
        yield batch


def _several(images: Images) -> Iterable[ImageLike]:
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        return images if images.ndim == 4 else [images]
    if not isinstance(images, Iterable):
        raise _not_an_image("what was given", images)
    return images


def _read(path: Path) -> np.ndarray:
    try:
        return read_reduced(path)[0]
    except FileNotFoundError:
        raise UserError(
            f"{path} is not there", "Correct the path; a relative one begins at the working folder."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {first_line(error)}", "Look at its permissions and its disk."
        ) from error


def _pixels(name: str, image: ImageLike) -> np.ndarray:
    if isinstance(image, Image.Image):
        try:
            return pixels_of(image, KEPT_PIXELS)
        except (ValueError, OSError) as error:
            raise UserError(f"{name} cannot be read: {first_line(error)}") from error
    if not isinstance(image, np.ndarray | Tensor):
        raise _not_an_image(name, image)
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    channels = 0 if isinstance(image, Tensor) else -1
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[channels] != 3 or not array.size:
        kind, shape = ("a tensor", "(3, height, width)") if channels == 0 else ("an array", "(height, width, 3)")
        raise UserError(
            f"{name} is {kind} of {array.dtype} {array.shape}; expected uint8 {shape}: RGB, 0..255",
            "Of values 0..1, (255 * image).round() as uint8 is such; of a grey image, PIL.Image.fromarray(it).",
        )
    return np.ascontiguousarray(array.transpose(1, 2, 0) if channels == 0 else array)


def _not_an_image(name: str, value: object) -> UserError:
    return UserError(
        f"{name} is of type {type(value).__name__}",
        "Expected a path, an image of Pillow's, an array, a tensor, or a list of these.",
    )
