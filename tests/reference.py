"""Slow, obvious versions of the vectorised routines of data_catalog and preprocess, for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V
from densereid.data_catalog.store.schema import Status, pack_validity
from densereid.preprocess.images import Crop, read_image, resize_image

FILL = (124, 116, 104)

LABEL_OF_PART = {
    0: 0,
    **dict.fromkeys((23, 24), 1),
    **dict.fromkeys((1, 2), 2),
    **dict.fromkeys((15, 16, 17, 18), 3),
    **dict.fromkeys((3, 4, 19, 20, 21, 22), 4),
    **dict.fromkeys((7, 8, 9, 10), 5),
    **dict.fromkeys((11, 12, 13, 14), 6),
    **dict.fromkeys((5, 6), 7),
}


def mask_from_iuv(iuv: np.ndarray) -> np.ndarray:
    """7-part mask of one IUV map (height, width, 3), pixel by pixel."""
    mask = np.zeros(iuv.shape[:2], np.uint8)
    for y, x in np.ndindex(*mask.shape):
        mask[y, x] = LABEL_OF_PART[int(iuv[y, x, 0])]
    return mask


def dsap_from_iuv(image: np.ndarray, iuv: np.ndarray, size: int, collision: str) -> tuple[np.ndarray, np.ndarray]:
    """DSAP images and validity of one image, pixel by pixel in raster order."""
    texels: dict[tuple[int, int, int], list[np.ndarray]] = {}
    for y, x in np.ndindex(*iuv.shape[:2]):
        part, u, v = (int(value) for value in iuv[y, x])
        if part > 0:
            row, column = min(size - 1, size * u // 255), min(size - 1, size * v // 255)
            texels.setdefault((part - 1, row, column), []).append(image[y, x].astype(int))
    dsap = np.empty((24, size, size, 3), np.uint8)
    dsap[:] = FILL
    valid = np.zeros((24, size, size), bool)
    for place, colours in texels.items():
        mean = np.floor(np.mean(colours, axis=0) + 0.5)
        dsap[place] = colours[-1] if collision == "last" else mean
        valid[place] = True
    return dsap, valid


def row(estimator: Any, root: Path, record: ImageRecord, size: tuple[int, int]) -> dict[str, Any]:
    """The ``shard`` arrays of one image, computed by itself."""
    image, iuv = (np.zeros((*size, 3), np.uint8) for _ in range(2))
    score, box, status = np.float32(np.nan), np.full(4, np.nan, np.float32), Status.FAILED
    try:
        crop = Crop(record, read_image(root / record.path))
    except UserError:
        pass
    else:
        image = resize_image(crop.pixels, size)
        charts = estimator.estimate([crop], size)
        iuv, score, box = charts.iuv[0].numpy(), charts.score[0], charts.box[0]
        if not charts.failures:
            status = Status.OK if iuv[..., 0].any() else Status.NO_PERSON
    dsap, valid = dsap_from_iuv(image, iuv, 32, "last")
    derived = {"mask": mask_from_iuv(iuv), "dsap": dsap, "dsap_valid": pack_validity(valid)}
    return {"image": image, "iuv": iuv, **derived, "score": score, "box": box, "status": status}


def mirror_iuv(iuv: np.ndarray) -> np.ndarray:
    """IUV map of the mirrored image: pixels mirrored, parts swapped, coordinates turned."""
    mirrored = np.zeros_like(iuv)
    height, width = iuv.shape[:2]
    for y, x in np.ndindex(height, width):
        part, u, v = (int(value) for value in iuv[y, x])
        if part > 0:
            u = 255 - u if part in MIRROR_TURNS_U else u
            v = 255 - v if part in MIRROR_TURNS_V else v
            mirrored[y, width - 1 - x] = MIRROR_PART[part], u, v
    return mirrored


def mirror_dsap(dsap: np.ndarray) -> np.ndarray:
    """DSAP images (24, size, size, ...) of the mirrored image, texel by texel."""
    mirrored = np.empty_like(dsap)
    size = dsap.shape[1]
    for part in range(1, 25):
        for row, column in np.ndindex(size, size):
            there_row = size - 1 - row if part in MIRROR_TURNS_U else row
            there_column = size - 1 - column if part in MIRROR_TURNS_V else column
            mirrored[MIRROR_PART[part] - 1, there_row, there_column] = dsap[part - 1, row, column]
    return mirrored


def random_iuv(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A map of random parts, coordinates and background, with U and V including 0 and 255."""
    iuv = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
    iuv[..., 0] = generator.integers(0, 25, (height, width))
    iuv[..., 1:][generator.random((height, width, 2)) < 0.05] = 255
    iuv[iuv[..., 0] == 0] = 0
    return iuv
