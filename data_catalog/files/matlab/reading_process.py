"""A process that reads one MATLAB 5 file, its standard input: scipy's reader lets a damaged file end the process.

:func:`densereid.data_catalog.files.matlab.variables.read_matlab` starts it and reads its answer: JSON with
``variables``, or with an ``error`` in words. It imports nothing of ours, because that would take longer than reading.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import scipy.io

SECONDS = 60
"""Of computing; the largest file, CUHK03's protocol, takes a tenth of one."""

_MEMORY = 2 * 2**30
_LONGEST_ANSWER = 2**26
"""60 times the answer for CUHK03's protocol."""


def encoded(value: Any) -> Any:
    """A value of scipy.io.loadmat as JSON; raises ValueError where it holds other things than numbers and text."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {"struct": {name: encoded(each) for name, each in value.items()}}
    array = np.array(value, object if isinstance(value, list) else None)
    if array.dtype == object:
        return {"shape": array.shape, "cells": [encoded(each) for each in array.ravel()]}
    if array.dtype.kind not in "biufU":
        raise ValueError(f"it holds a value of type {array.dtype}; expected numbers, text, cells and structs")
    return {"shape": array.shape, "dtype": array.dtype.str, "values": array.ravel().tolist()}


def _answer(content: bytes) -> str:
    try:
        variables = scipy.io.loadmat(io.BytesIO(content), simplify_cells=True)
        plain = {name: encoded(value) for name, value in variables.items() if not name.startswith("__")}
        answer = json.dumps({"variables": plain})
        if len(answer) > _LONGEST_ANSWER:
            raise ValueError("it holds more than a dataset has")
    except MemoryError:
        return json.dumps({"error": f"reading it takes more than {_MEMORY // 2**30} GiB of memory"})
    except Exception as error:  # scipy raises many types for a cut or foreign file
        return json.dumps({"error": (str(error).strip().splitlines() or [type(error).__name__])[0]})
    return answer


def _limit() -> None:
    for limit, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # it is lower already, or the system has none
            resource.setrlimit(limit, (most, most))


if __name__ == "__main__":
    _limit()
    print(_answer(sys.stdin.buffer.read()))
