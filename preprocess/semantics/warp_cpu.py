"""Mask, DSAP images and packed validity of a batch on the CPU, compiled by numba.

Importing it takes a quarter of a second, and the first call compiles (0.6 s) or loads what an earlier process compiled:
import it where it is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from densereid.data_catalog.parts import NUM_BODY_PARTS, PART_TO_LABEL
from densereid.data_catalog.store.schema import DSAP_FILL

_FILL = np.array(DSAP_FILL, np.uint8)
_LABELS = np.zeros(256, np.uint8)
"""Mask label of every byte, so that no look-up leaves the table; the kernels report parts that do not exist."""
_LABELS[: len(PART_TO_LABEL)] = PART_TO_LABEL
_MOST_PIXELS = 2**24
"""Pixels of an image whose colours are sure to add up within 32 bits."""
_RUN = 8
"""Images that a thread takes at once: few enough that no thread waits long for the last."""


def derive_on_cpu(
    image: np.ndarray, iuv: np.ndarray, *, size: int, collision: str, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, DSAP images and packed validity of a batch, on ``threads`` threads.

    ``image`` and ``iuv`` are uint8 (batch, height, width, 3), RGB and I, U, V. Returns uint8 (batch, height, width),
    (batch, 24, size, size, 3) and (batch, 24, size, ceil(size / 8)). The rules, and their source, are those of
    :func:`densereid.preprocess.semantics.derive_on_cpu.dsap_from_iuv`. Raises ValueError for a part above 24, which no
    IUV map has.
    """
    batch, height, width, _ = iuv.shape
    if height * width > _MOST_PIXELS:
        raise ValueError(f"an image of {height}x{width} pixels is too large to be warped")
    mask = np.empty((batch, height, width), np.uint8)
    dsap = np.empty((batch, NUM_BODY_PARTS, size, size, 3), np.uint8)
    packed = np.empty((batch, NUM_BODY_PARTS, size, -(-size // 8)), np.uint8)
    texel = np.minimum(size - 1, size * np.arange(256) // 255)
    arrays = [np.ascontiguousarray(array).reshape(batch, -1) for array in (image, iuv, mask, dsap, packed)]
    kernel = _KERNELS[collision]

    def work(rows: slice) -> int:
        ours = (array[rows] for array in arrays)
        return int(kernel(*ours, size, texel, _LABELS, _FILL))

    highest = _on_threads(work, batch, threads)
    if highest > NUM_BODY_PARTS:
        raise ValueError(f"an IUV map holds part {highest}; parts are 0..{NUM_BODY_PARTS}")
    return mask, dsap, packed


def _on_threads(work: Callable[[slice], int], batch: int, threads: int) -> int:
    """The highest result of ``work`` on runs of images that the threads take one after another.

    Not numba's own ``prange``: its threads spin while they wait for each other, which on a processor that others use
    too made it three times slower than one thread (bench/RESULTS.md).
    """
    if threads < 2 or batch <= _RUN:
        return work(slice(0, batch))
    return max(_pool(threads).map(work, (slice(start, start + _RUN) for start in range(0, batch, _RUN))))


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept: starting threads takes as long as deriving ten images."""
    return ThreadPoolExecutor(threads, thread_name_prefix="derive")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has the pool but not its threads


def compiled(function: Callable[..., Any]) -> Any:
    """The function, compiled by numba at its first call, without Python's lock, and kept on disk where possible."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither our folder nor the user's cache can be written: each process compiles for itself
        return numba.njit(nogil=True)(function)


# The kernels take flat rows of bytes: numba computes an index into three dimensions much more slowly than into one.
# Each returns the highest part it met.


@compiled
def _last(image, iuv, mask, dsap, packed, size, texel, labels, fill):  # type: ignore[no-untyped-def]
    highest = 0
    for index in range(len(iuv)):
        colours, charts, label, warped, valid = image[index], iuv[index], mask[index], dsap[index], packed[index]
        valid[:] = 0
        _blank(warped, fill)
        for pixel in range(len(label)):
            part = np.int64(charts[3 * pixel])
            label[pixel] = labels[part]
            if part > NUM_BODY_PARTS:
                highest = int(part)
            elif part > 0:
                target = _mark(charts, pixel, valid, size, texel)
                for channel in range(3):
                    warped[3 * target + channel] = colours[3 * pixel + channel]
    return highest


@compiled
def _mean(image, iuv, mask, dsap, packed, size, texel, labels, fill):  # type: ignore[no-untyped-def]
    highest = 0
    total = np.zeros(4 * NUM_BODY_PARTS * size * size, np.uint32)  # of each texel: red, green, blue, number of pixels
    hit = np.empty(NUM_BODY_PARTS * size * size + 1, np.int32)  # texels with a pixel; one more, never read
    for index in range(len(iuv)):
        colours, charts, label, warped, valid = image[index], iuv[index], mask[index], dsap[index], packed[index]
        valid[:] = 0
        _blank(warped, fill)
        hits = 0
        for pixel in range(len(label)):
            part = np.int64(charts[3 * pixel])
            label[pixel] = labels[part]
            if part > NUM_BODY_PARTS:
                highest = int(part)
            elif part > 0:
                target = _mark(charts, pixel, valid, size, texel)
                for channel in range(3):
                    total[4 * target + channel] += colours[3 * pixel + channel]
                hit[hits] = target
                hits += total[4 * target + 3] == 0  # a sum, not a branch that the processor would guess wrong
                total[4 * target + 3] += 1
        _divide(total, hit[:hits], warped)
    return highest


@compiled
def _mark(charts, pixel, valid, size, texel):  # type: ignore[no-untyped-def]
    """The texel that a pixel of a body part falls on, which is valid now."""
    row = (np.int64(charts[3 * pixel]) - 1) * size + texel[charts[3 * pixel + 1]]
    column = texel[charts[3 * pixel + 2]]
    valid[row * ((size + 7) // 8) + (column >> 3)] |= 128 >> (column & 7)
    return row * size + column


@compiled
def _blank(warped, fill):  # type: ignore[no-untyped-def]
    for target in range(len(warped) // 3):  # written out: a loop over the channels takes twenty times longer
        warped[3 * target] = fill[0]
        warped[3 * target + 1] = fill[1]
        warped[3 * target + 2] = fill[2]


@compiled
def _divide(total, hit, warped):  # type: ignore[no-untyped-def]
    """The means of one image's texels; ``total`` is zero again afterwards."""
    for index in range(len(hit)):
        target = np.int64(hit[index])
        count = total[4 * target + 3]
        # (2 t + n) // 2 n, the mean with halves rounded up. The half in the numerator keeps the product with the
        # rounded reciprocal away from whole numbers, so cutting off its fraction is exact.
        half, reciprocal = count + 0.5, 0.5 / count
        for channel in range(3):
            warped[3 * target + channel] = np.uint8((2 * total[4 * target + channel] + half) * reciprocal)
            total[4 * target + channel] = 0
        total[4 * target + 3] = 0


_KERNELS = {"last": _last, "mean": _mean}
