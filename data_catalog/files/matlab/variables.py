"""MATLAB files: version 5 (person attributes, CUHK03's protocol) by scipy, 7.3 (CUHK03's release) by h5py."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.hdf5_storage import check_own, own_dataset
from densereid.data_catalog.files.matlab import reading_process
from densereid.data_catalog.files.refusals import unreadable


def read_matlab(path: Path) -> dict[str, Any]:
    """The file's variables by name: structs as dictionaries, cells and matrices as numpy arrays, scalars as numbers.

    Vectors come without their dimensions of length 1. Raises UserError where the file is missing, no MATLAB file,
    or of version 7.3, which is HDF5 (:func:`open_matlab` reads that); also where it ends the process of its own that
    reads it, or takes its memory or a minute.
    """
    if not path.is_file():
        raise UserError(f"{path} is not there")
    answer = _answer_of_a_process(path)
    if "error" in answer:
        raise UserError(f"{path} cannot be read as a MATLAB 5 file: {answer['error']}", "get the file again")
    return {name: _decoded(value) for name, value in answer["variables"].items()}


def _answer_of_a_process(path: Path) -> dict[str, Any]:
    """What :mod:`.reading_process` says of a file, with ``variables`` or an ``error``."""
    command = [sys.executable, "-P", reading_process.__file__]
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread takes memory of the process's limit
    try:
        with path.open("rb") as file:
            done = subprocess.run(
                command, stdin=file, capture_output=True, env=alone, timeout=reading_process.SECONDS, check=False
            )
    except subprocess.TimeoutExpired:
        return {"error": f"reading it took more than {reading_process.SECONDS} seconds"}
    except OSError as error:
        raise unreadable(path, error) or UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if done.returncode < 0:
        return {"error": f"it ends the process that reads it ({signal.Signals(-done.returncode).name})"}
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        return {"error": f"the process that reads it failed: {said[-1]}"}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _decoded(value: Any) -> Any:
    """What :func:`.reading_process.encoded` encoded."""
    if isinstance(value, str):
        return value
    if "struct" in value:
        return {name: _decoded(each) for name, each in value["struct"].items()}
    if "cells" in value:
        cells = np.empty(value["shape"], object)
        for index, each in zip(np.ndindex(*value["shape"]), value["cells"], strict=True):
            cells[index] = _decoded(each)
        return cells
    array = np.array(value["values"], value["dtype"]).reshape(value["shape"])
    return array if array.ndim else array.item()


_HEADER = b"MATLAB 5.0 MAT-file, written by DenseReID".ljust(116)


def write_matlab(path: Path, variables: Mapping[str, Any]) -> None:
    """Write variables as a MATLAB 5 file, dictionaries as structs; the same variables give the same bytes.

    The format starts with 116 bytes of free text, where scipy puts the time.
    """
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, dict(variables))
    path.write_bytes(_HEADER + buffer.getvalue()[len(_HEADER) :])


_LARGEST = 2**28
"""Bytes of a picture: no crop of a person has as many."""


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
        if value.attrs.get("MATLAB_empty", 0):
            return np.empty(0)
        _check_picture(value)
        return value[()].T
    except UserError:
        raise
    except Exception as error:  # h5py raises many types for a damaged file
        cell = "".join(f"{{{row + 1}, {column + 1}}}" for row, column in cells)
        problem = f"{file.filename}: {name}{cell} cannot be read: {error}"
        raise unreadable(file.filename, error) or UserError(problem) from error


def _check_picture(value: h5py.Dataset) -> None:
    """Raise ValueError for what a damaged file would have us read: text of any length, or more than fits anywhere."""
    if value.dtype.kind not in "biuf" or value.nbytes > _LARGEST:
        raise ValueError(f"it holds shape {value.shape}, type {value.dtype}; expected a picture")
