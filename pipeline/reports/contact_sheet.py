"""Contact sheets: images with their masks and DSAP images, as one picture to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densereid.data_catalog.parts import MASK_LABELS, NUM_BODY_PARTS
from densereid.data_catalog.store.schema import Split, Status
from densereid.data_catalog.store.store import Store

LABEL_COLOURS = np.array(
    [(0, 0, 0), (230, 60, 60), (60, 140, 230), (250, 190, 40), (250, 240, 120), (70, 180, 80), (150, 220, 150),
     (190, 90, 220)],
    np.uint8,
)  # fmt: skip
"""RGB of each mask label in the pictures; the background keeps the image's own colours."""

_HEIGHT = 256
_GAP = 8
_TEXT = 14
_BACKGROUND = (250, 250, 250)
_INK = (30, 30, 30)
DSAP_COLUMNS = 6


def choose_rows(store: Store, count: int, *, seed: int) -> np.ndarray:
    """Up to ``count`` rows spread over the store, the same for the same seed, in store order."""
    usable = np.flatnonzero(store.read("status") != Status.FAILED)
    generator = np.random.default_rng(seed)
    chosen = generator.choice(usable, min(count, len(usable)), replace=False) if len(usable) else usable
    return np.sort(chosen)


def contact_sheet(store: Store, rows: np.ndarray, *, columns: int = 2) -> Image.Image:
    """Image, mask overlay, part map and 4x6 DSAP sheet of each row, ``columns`` samples side by side."""
    arrays = {name: store.read(name, rows) for name in ("image", "iuv", "mask", "dsap")}
    names = ("path", "person_id", "camera_id", "split", "status")
    facts = {name: store.read(name, rows) for name in names}
    cells = []
    for index in range(len(rows)):
        panels = [
            arrays["image"][index],
            overlay(arrays["image"][index], arrays["mask"][index]),
            iuv_colours(arrays["iuv"][index]),
            dsap_sheet(arrays["dsap"][index]),
        ]
        caption = (
            f"{facts['path'][index]}   identity {facts['person_id'][index]}, camera {facts['camera_id'][index]}, "
            f"{Split(facts['split'][index]).name.lower()}, {Status(facts['status'][index]).name.lower()}"
        )
        cells.append(captioned(_side_by_side(panels), caption))
    return stack(_legend(), grid(cells, columns))


def overlay(image: np.ndarray, mask: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """The image, uint8 (height, width, 3) RGB, with each mask label in its colour over it."""
    colour = LABEL_COLOURS[np.minimum(mask, len(LABEL_COLOURS) - 1)]
    mixed = (1 - opacity) * image + opacity * colour
    return np.where((mask > 0)[..., None], mixed, image).astype(np.uint8)


def dsap_sheet(dsap: np.ndarray) -> np.ndarray:
    """The 24 DSAP images (24, u, v, 3) as 4 rows of 6, part 1 at the top left, a pixel apart; row is U."""
    size = dsap.shape[1]
    padded = np.full((NUM_BODY_PARTS, size + 1, size + 1, 3), 255, np.uint8)
    padded[:, :size, :size] = dsap
    sheet = padded.reshape(-1, DSAP_COLUMNS, size + 1, size + 1, 3).swapaxes(1, 2)
    return sheet.reshape(-1, DSAP_COLUMNS * (size + 1), 3)


def iuv_colours(iuv: np.ndarray) -> np.ndarray:
    """Part as lightness of blue, U as green, V as red: DensePose's own picture of an IUV map."""
    part = iuv[..., 0].astype(int) * 255 // NUM_BODY_PARTS
    return np.stack([iuv[..., 2], iuv[..., 1], part], axis=-1).astype(np.uint8)


def _side_by_side(panels: Sequence[np.ndarray]) -> Image.Image:
    pictures = []
    for panel in panels:
        height, width = panel.shape[:2]
        picture = Image.fromarray(np.ascontiguousarray(panel))
        pictures.append(picture.resize((round(width * _HEIGHT / height), _HEIGHT), Image.Resampling.NEAREST))
    return grid(pictures, len(pictures))


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures in rows of ``columns``, a gap apart."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    cell_width = max((picture.width for picture in pictures), default=1)
    widths = [picture.width for picture in rows[0]] if len(rows) == 1 else [cell_width] * columns
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new(
        "RGB", (sum(widths) + _GAP * (len(widths) + 1), sum(heights) + _GAP * (len(rows) + 1)), _BACKGROUND
    )
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for picture, width in zip(row, widths, strict=False):
            sheet.paste(picture, (left, top))
            left += width + _GAP
        top += height + _GAP
    return sheet


def captioned(picture: Image.Image, caption: str) -> Image.Image:
    """The picture with a line of text above it; what is longer than the picture is wide is cut off."""
    sheet = Image.new("RGB", (picture.width, picture.height + _TEXT + 4), _BACKGROUND)
    sheet.paste(picture, (0, _TEXT + 4))
    ImageDraw.Draw(sheet).text((_GAP, 2), caption, fill=_INK, font=ImageFont.load_default(_TEXT - 1))
    return sheet


def _legend() -> Image.Image:
    font = ImageFont.load_default(_TEXT)
    sheet = Image.new("RGB", (900, _TEXT + 2 * _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    left = float(_GAP)
    for name, colour in zip(MASK_LABELS[1:], LABEL_COLOURS[1:], strict=True):
        draw.rectangle((left, _GAP, left + _TEXT, _GAP + _TEXT), fill=tuple(colour.tolist()))
        draw.text((left + _TEXT + 5, _GAP - 2), name, fill=_INK, font=font)
        left += _TEXT + 24 + draw.textlength(name, font=font)
    return sheet


def stack(top: Image.Image, bottom: Image.Image) -> Image.Image:
    """One picture under the other."""
    sheet = Image.new("RGB", (max(top.width, bottom.width), top.height + bottom.height), _BACKGROUND)
    sheet.paste(top, (0, 0))
    sheet.paste(bottom, (0, top.height))
    return sheet
