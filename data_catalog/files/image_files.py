"""Image files: what is wrong with a file, told apart from what is wrong with the disk or the machine for the moment."""

from __future__ import annotations

import errno
import io
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from densereid.data_catalog.errors import UserError, first_line

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Formats, as Pillow calls them, that are read whatever a file's name; others run programs, such as Ghostscript."""

_MOST_PIXELS = 2**26
"""More than 67 million pixels is no crop of a person: a mistake, or a file made to fill the memory."""


@contextmanager
def open_image(path: Path, formats: Sequence[str] = IMAGE_FORMATS) -> Iterator[Image.Image]:
    """Pillow's image of a file while the block runs. Whatever its readers raise, or the block, is a UserError.

    Raises UserError that names the file where it is a link to nothing, no file, damaged, or as :func:`decoding` says;
    and OSError, which stops a run, where it is gone or cannot be read for the moment.
    """
    content = read_content(path)
    try:
        with decoding(content, formats) as image:
            yield image
    except ValueError as error:
        raise UserError(f"{path} cannot be read as an image ({len(content)} bytes): {error}") from error


@contextmanager
def decoding(content: bytes, formats: Sequence[str]) -> Iterator[Image.Image]:
    """Pillow's image of the bytes of a file while the block runs, of at most 67 million pixels.

    Raises ValueError in words where it is none of ``formats``, or for whatever Pillow's readers raise, or the block.
    """
    try:
        with Image.open(io.BytesIO(content), formats=tuple(formats)) as image:
            if image.width * image.height > _MOST_PIXELS:
                size = f"{image.width}x{image.height}"
                raise ValueError(f"{size} pixels are no crop of a person; at most {_MOST_PIXELS} are read")
            yield image
    except MemoryError:
        raise  # the machine's fault, not the file's: the shard is computed again
    except UnidentifiedImageError:  # whose own words have an address in memory
        raise ValueError(f"it is no {' or '.join(formats)}, or its beginning is damaged") from None
    except Exception as error:  # Pillow's readers raise many types for a broken file
        raise ValueError(first_line(error)) from error


def read_content(path: Path) -> bytes:
    """The bytes of a file, which is a regular one.

    Raises UserError for what is wrong with the file itself: a link to nothing, a folder, a pipe. Every other failure
    passes as the OSError it is: a disk that is not there for a moment would make every image a failed one.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # a pipe would be waited for
            raise UserError(f"{path} cannot be read: Is a {'directory' if stat.S_ISDIR(mode) else 'pipe or device'}")
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise UserError(f"{path} is a link to nothing") from None
        if is_of_the_file(error):
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        raise


def is_of_the_file(error: OSError) -> bool:
    """Whether the system's answer is about the file itself, and stays the same however often it is asked."""
    return error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)
