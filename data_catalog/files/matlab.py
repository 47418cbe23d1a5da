"""MATLAB files of version 5 (person attributes, CUHK03's protocol); the only file that imports scipy."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import scipy.io

from densereid.data_catalog.errors import UserError


def read_matlab(path: Path) -> dict[str, Any]:
    """The file's variables by name: structs as dictionaries, cells and matrices as numpy arrays, scalars as numbers.

    Vectors come without their dimensions of length 1. Raises UserError where the file is missing, no MATLAB file,
    or of version 7.3, which is HDF5 (:mod:`densereid.data_catalog.store.hdf5_format` reads that).
    """
    if not path.is_file():
        raise UserError(f"{path} is not there")
    try:
        variables = scipy.io.loadmat(path, simplify_cells=True, appendmat=False)
    except Exception as error:  # scipy raises many types for a cut or foreign file
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"{path} cannot be read as a MATLAB 5 file: {reason}", "get the file again") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


_HEADER = b"MATLAB 5.0 MAT-file, written by DenseReID".ljust(116)


def write_matlab(path: Path, variables: Mapping[str, Any]) -> None:
    """Write variables as a MATLAB 5 file, dictionaries as structs; the same variables give the same bytes.

    The format starts with 116 bytes of free text, where scipy puts the time.
    """
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, dict(variables))
    path.write_bytes(_HEADER + buffer.getvalue()[len(_HEADER) :])
