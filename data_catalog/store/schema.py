"""The store's one schema: every array of a store, read by writers, readers, checks and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from math import ceil, prod
from typing import Any, Literal

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.parts import BODY_PARTS, MASK_LABELS, NUM_BODY_PARTS

FORMAT_NAME = "densereid-store"
FORMAT_VERSION = 2
"""Raised by one whenever a store written by the older code could be misread; see the changelog."""

DSAP_FILL = (124, 116, 104)
"""Colour of a DSAP texel that no pixel reached: ImageNet's mean in RGB bytes."""


MASK_CHUNK_ROWS = 32
"""Masks per chunk: users open them with plain dask, which makes one task per chunk (bench/RESULTS.md)."""


class Split(IntEnum):
    """Which role an image has in its dataset's protocol."""

    TRAIN = 0
    QUERY = 1
    GALLERY = 2


class Status(IntEnum):
    """What happened to an image during preprocessing."""

    OK = 0
    """A person was found: mask and DSAP hold data."""
    NO_PERSON = 1
    """The image was read, the estimator found no person: mask all background, DSAP all fill."""
    FAILED = 2
    """The image or its IUV map could not be read: what is missing is black, background and fill; failures.csv
    has the reason, and training and evaluation leave the image out."""


_MOST = {"num_samples": 2**27, "height": 2**13, "width": 2**13, "dsap_size": 2**12, "shard_rows": 2**20}
"""The largest of each size: a file may say anything, and arrays are made as large as it says."""


@dataclass(frozen=True)
class Geometry:
    """The sizes that fix every array's shape: rows, canonical image size, DSAP size, rows per shard."""

    num_samples: int
    height: int
    width: int
    dsap_size: int
    shard_rows: int = 1024
    """Rows of a shard; 1024 wherever nothing else is asked for."""

    def __post_init__(self) -> None:
        for name, number in asdict(self).items():
            if type(number) is not int or number > _MOST[name]:
                raise UserError(f"{name} is {number!r}; a store has a whole number of at most {_MOST[name]} there")
        if min(self.num_samples, self.height, self.width) < 1:
            raise UserError(f"a store needs at least one image of at least 1x1 pixels, got {self}")
        if self.dsap_size < 8 or self.dsap_size % 8:
            raise UserError(
                f"DSAP_SIZE is {self.dsap_size}; it must be a positive multiple of 8 (validity is stored as bits)"
            )
        if self.shard_rows < 1 or self.shard_rows % MASK_CHUNK_ROWS:
            below = max(1, self.shard_rows // MASK_CHUNK_ROWS) * MASK_CHUNK_ROWS
            raise UserError(
                f"SHARD_ROWS is {self.shard_rows}; expected a multiple of {MASK_CHUNK_ROWS}",
                f"use SHARD_ROWS={below}, or {below + MASK_CHUNK_ROWS}",
            )

    @property
    def num_shards(self) -> int:
        """Number of shards; the last one may be shorter."""
        return ceil(self.num_samples / self.shard_rows)

    def shard_slice(self, shard: int) -> slice:
        """The rows of one shard."""
        start = shard * self.shard_rows
        return slice(start, min(start + self.shard_rows, self.num_samples))

    def to_dict(self) -> dict[str, int]:
        """Plain numbers for a store's attributes."""
        return asdict(self)


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store: its dimensions and type, how it is chunked and compressed, and what it means."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    description: str
    chunk_rows: int | None = 1
    """Rows per compressed chunk; None makes the chunk one whole shard."""
    level: int = 3
    """Zstandard level."""
    fill: int | float = 0
    written: Literal["shard", "create", "constant"] = "shard"
    """``shard``: written with its shard. ``create``: known from the dataset, written when the store is made.
    ``constant``: a coordinate, the same in every store (:data:`COORDINATES`)."""
    flags: type[IntEnum] | None = None

    def shape(self, geometry: Geometry) -> tuple[int, ...]:
        """The array's full shape, first dimension ``sample``."""
        return tuple(_dimension_sizes(geometry)[dim] for dim in self.dims)

    def row_bytes(self, geometry: Geometry) -> int:
        """Uncompressed bytes of one row."""
        return prod(self.shape(geometry)[1:]) * (64 if self.dtype == "str" else np.dtype(self.dtype).itemsize)

    def attributes(self) -> dict[str, Any]:
        """Attributes stored with the array: its meaning and, for codes, their names (the CF convention)."""
        attributes: dict[str, Any] = {"description": self.description}
        if self.flags is not None:
            attributes["flag_values"] = [int(flag) for flag in self.flags]
            attributes["flag_meanings"] = " ".join(flag.name.lower() for flag in self.flags)
        return attributes


def _dimension_sizes(geometry: Geometry) -> dict[str, int]:
    return {
        "sample": geometry.num_samples,
        "height": geometry.height,
        "width": geometry.width,
        "channel": 3,
        "iuv_channel": 3,
        "part": NUM_BODY_PARTS,
        "u": geometry.dsap_size,
        "v": geometry.dsap_size,
        "v_byte": geometry.dsap_size // 8,
        "box_edge": 4,
    }


ARRAYS: tuple[ArraySpec, ...] = (
    ArraySpec(
        "image",
        ("sample", "height", "width", "channel"),
        "uint8",
        "the crop resized to the canonical size (bilinear, antialiased); RGB",
    ),
    ArraySpec(
        "iuv",
        ("sample", "height", "width", "iuv_channel"),
        "uint8",
        "I = part 0..24 (0 is background), U and V = round(255 x value); the channels are I, U, V in this order",
    ),
    ArraySpec(
        "mask",
        ("sample", "height", "width"),
        "uint8",
        "7-part mask: " + ", ".join(f"{index} {name}" for index, name in enumerate(MASK_LABELS)),
        chunk_rows=MASK_CHUNK_ROWS,
        level=9,
        fill=255,
    ),
    ArraySpec(
        "dsap",
        ("sample", "part", "u", "v", "channel"),
        "uint8",
        "24 warped part images; row is U, column is V; RGB; texels without a pixel hold ImageNet's mean colour",
    ),
    ArraySpec(
        "dsap_valid",
        ("sample", "part", "u", "v_byte"),
        "uint8",
        "which DSAP texels a pixel reached: one bit a texel, packed along v, the first texel in the highest bit",
    ),
    ArraySpec(
        "status",
        ("sample",),
        "uint8",
        "what preprocessing found",
        chunk_rows=None,
        fill=255,
        flags=Status,
    ),
    ArraySpec(
        "score",
        ("sample",),
        "float32",
        "the estimator's confidence in the person, 0..1; NaN where the estimator gives none",
        chunk_rows=None,
        fill=float("nan"),
    ),
    ArraySpec(
        "box",
        ("sample", "box_edge"),
        "float32",
        "the person's box in the image file's pixels: x0, y0, x1, y1; the whole image unless detected",
        chunk_rows=None,
        fill=float("nan"),
    ),
    ArraySpec(
        "person_id",
        ("sample",),
        "int32",
        "identity as the dataset numbers it; 0 is a distractor, -1 junk or unknown",
        written="create",
    ),
    ArraySpec("camera_id", ("sample",), "int32", "camera as the dataset numbers it; -1 is unknown", written="create"),
    ArraySpec(
        "split",
        ("sample",),
        "uint8",
        "role in the dataset's protocol",
        written="create",
        flags=Split,
    ),
    ArraySpec("path", ("sample",), "str", "image file, relative to the dataset's folder, with '/'", written="create"),
    ArraySpec("part", ("part",), "str", "name of each DensePose part; index 0 is part 1", written="constant"),
    ArraySpec("channel", ("channel",), "str", "name of each colour channel", written="constant"),
    ArraySpec("iuv_channel", ("iuv_channel",), "str", "name of each IUV channel", written="constant"),
)

COORDINATES: dict[str, tuple[str, ...]] = {
    "part": BODY_PARTS,
    "channel": ("red", "green", "blue"),
    "iuv_channel": ("i", "u", "v"),
}
"""Values of the ``constant`` arrays."""

SAMPLE_COORDINATES = ("person_id", "camera_id", "split", "path", "status", "score")
"""Arrays that xarray shows as coordinates of ``sample``."""

ARRAY_BY_NAME: dict[str, ArraySpec] = {spec.name: spec for spec in ARRAYS}


def arrays_written(written: str) -> tuple[ArraySpec, ...]:
    """The schema's arrays of one kind: ``shard``, ``create`` or ``constant``."""
    return tuple(spec for spec in ARRAYS if spec.written == written)


def check_rows(arrays: Mapping[str, np.ndarray], geometry: Geometry, *, written: str, num_rows: int) -> None:
    """Raise ValueError unless ``arrays`` holds exactly the schema's arrays of that kind, in shape and dtype."""
    expected = {spec.name: spec for spec in arrays_written(written)}
    if set(arrays) != set(expected):
        raise ValueError(f"arrays written at {written}: got {sorted(arrays)}, the schema has {sorted(expected)}")
    for name, spec in expected.items():
        shape = (num_rows, *spec.shape(geometry)[1:])
        if arrays[name].shape != shape:
            raise ValueError(f"{name}: shape {arrays[name].shape}, the schema has {shape}")
        if spec.dtype != "str" and arrays[name].dtype != np.dtype(spec.dtype):
            raise ValueError(f"{name}: dtype {arrays[name].dtype}, the schema has {spec.dtype}")


def pack_validity(valid: np.ndarray) -> np.ndarray:
    """Booleans (..., u, v) as the bits that ``dsap_valid`` stores, uint8 (..., u, v / 8)."""
    return np.packbits(valid, axis=-1)


def unpack_validity(packed: np.ndarray) -> np.ndarray:
    """Booleans (..., u, v) from ``dsap_valid``'s bytes, uint8 (..., u, v / 8)."""
    return np.unpackbits(packed, axis=-1).astype(bool)


def schema_table() -> str:
    """The schema as a Markdown table, as docs/store.md shows it."""
    rows = [f"| `{s.name}` | ({', '.join(s.dims)}) | {s.dtype} | {s.description} |" for s in ARRAYS]
    return "\n".join(["| array | dimensions | dtype | meaning |", "|---|---|---|---|", *rows])
