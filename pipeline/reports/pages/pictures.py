"""Pictures inside a page: pixels as data URLs, and the words below them."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from densereid.data_catalog.datasets.records import UNKNOWN
from densereid.data_catalog.parts import MASK_LABELS
from densereid.pipeline.reports.contact_sheet import LABEL_COLOURS

HEIGHT = 128
"""Rows of a picture in a page, at most: with the usual width a few kilobytes as JPEG."""

_QUALITY = 80
_OPACITY = 165


def image_url(image: np.ndarray, *, height: int = HEIGHT) -> str:
    """An image, uint8 (h, w, 3) RGB, as the URL of a JPEG of at most ``height`` rows."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    if picture.height > height:
        picture = picture.resize((max(1, round(picture.width * height / picture.height)), height), Image.Resampling.BOX)
    return _url(picture, "jpeg", quality=_QUALITY)


def mask_url(mask: np.ndarray, *, height: int = HEIGHT) -> str:
    """A mask, uint8 (h, w) of labels, as the URL of a PNG to lie over its image: background is clear."""
    step = max(1, -(-len(mask) // height))
    labels = np.minimum(mask[::step, ::step], len(LABEL_COLOURS) - 1)
    picture = Image.fromarray(np.ascontiguousarray(labels), mode="P")
    picture.putpalette(LABEL_COLOURS.tobytes())
    return _url(picture, "png", transparency=bytes([0] + [_OPACITY] * (len(LABEL_COLOURS) - 1)), optimize=True)


def mask_legend() -> list[tuple[str, str]]:
    """The seven labels of a mask, and their colours as CSS has them."""
    colours = ("#" + bytes(colour.tolist()).hex() for colour in LABEL_COLOURS[1:])
    return list(zip(MASK_LABELS[1:], colours, strict=True))


def person_text(person: int) -> str:
    """A person's number; what an image is that shows none of the dataset's."""
    return {0: "distractor", UNKNOWN: "junk"}.get(person, str(person))


def camera_text(camera: int) -> str:
    """A camera's number; a question mark for an unknown one."""
    return "?" if camera == UNKNOWN else str(camera)


def _url(picture: Image.Image, kind: str, **settings: object) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
