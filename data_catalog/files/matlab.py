"""MATLAB files: version 5 (person attributes, CUHK03's protocol) by scipy, 7.3 (CUHK03's release) by h5py."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.hdf5_storage import check_own, own_dataset
from densereid.data_catalog.files.refusals import unreadable


def read_matlab(path: Path) -> dict[str, Any]:
    """The file's variables by name: structs as dictionaries, cells and matrices as numpy arrays, scalars as numbers.

    Vectors come without their dimensions of length 1. Raises UserError where the file is missing, no MATLAB file,
    or of version 7.3, which is HDF5 (:func:`open_matlab` reads that).
    """
    if not path.is_file():
        raise UserError(f"{path} is not there")
    try:
        variables = scipy.io.loadmat(path, simplify_cells=True, appendmat=False)
    except Exception as error:  # scipy raises many types for a cut or foreign file
        problem = f"{path} cannot be read as a MATLAB 5 file: {first_line(error)}"
        raise unreadable(path, error) or UserError(problem, "get the file again") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


_HEADER = b"MATLAB 5.0 MAT-file, written by DenseReID".ljust(116)


def write_matlab(path: Path, variables: Mapping[str, Any]) -> None:
    """Write variables as a MATLAB 5 file, dictionaries as structs; the same variables give the same bytes.

    The format starts with 116 bytes of free text, where scipy puts the time.
    """
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, dict(variables))
    path.write_bytes(_HEADER + buffer.getvalue()[len(_HEADER) :])


@contextmanager
def open_matlab(path: Path) -> Iterator[Callable[..., np.ndarray]]:
    """A MATLAB 7.3 file while the block runs: a function of a variable's name and of (row, column) of cells in it.

    ``read("labeled", (0, 0), (5, 3))`` is MATLAB's ``labeled{1, 1}{6, 4}``; arrays come with MATLAB's dimensions, which
    HDF5 holds in reverse; an empty one has size 0. Raises UserError where the file cannot be read or does not hold it.
    """
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path} is not there, or no file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        problem = f"{path} cannot be read as a MATLAB 7.3 file: {error}"
        raise unreadable(path, error) or UserError(problem, "get the file again") from error
    with file:
        yield partial(_matlab_value, file)


def _matlab_value(file: h5py.File, name: str, *cells: tuple[int, int]) -> np.ndarray:
    try:
        value = own_dataset(file, name)
        for row, column in cells:
            value = file[value[column, row]]
            check_own(value)
        return np.empty(0) if value.attrs.get("MATLAB_empty", 0) else value[()].T
    except (KeyError, IndexError, ValueError, TypeError, OSError) as error:
        cell = "".join(f"{{{row + 1}, {column + 1}}}" for row, column in cells)
        problem = f"{file.filename}: {name}{cell} cannot be read: {error}"
        raise unreadable(file.filename, error) or UserError(problem) from error
