"""Arrays that are kept because they took long to compute: a small zarr group, used only for what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from densereid.data_catalog.files.atomic import make_folder, remove_folder

_MADE_OF = "made_of"


def keep_arrays(path: Path, arrays: Mapping[str, np.ndarray], made_of: Mapping[str, Any]) -> None:
    """Write the arrays in the place of what was kept there before; whole or not at all. Raises OSError."""

    def build(folder: Path) -> None:
        group = zarr.create_group(folder, attributes={_MADE_OF: dict(made_of)})
        for name, values in arrays.items():
            checked = [ZstdCodec(level=1), Crc32cCodec()]
            group.create_array(name, data=values, chunks=(4096, *values.shape[1:]), compressors=checked)

    remove_folder(path)
    make_folder(path, build, last="zarr.json")


def kept_arrays(path: Path, made_of: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """What was kept there, if it was made of the same; None for anything else, damage included: it is made again."""
    try:
        group = zarr.open_group(path, mode="r")
        if group.attrs.asdict().get(_MADE_OF) != json.loads(json.dumps(dict(made_of))):
            return None
        return {name: np.asarray(array[...]) for name, array in group.arrays()}
    except Exception:  # zarr and its codecs raise many types for what is not theirs
        return None
