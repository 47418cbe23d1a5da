"""Reading a pickle of numpy arrays without running what is in it.

A .pkl of DensePose's model zoo needs few names. Each is looked up in a table of our own functions: nothing of numpy,
nor of anything else, is called with what the file says.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.errors import UserError

_TYPES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8"))
"""Array types that a torch tensor can hold."""


def unpickle_arrays(content: bytes, path: Path) -> Any:
    """The object in a pickle: dictionaries, lists, text, numbers, and a :class:`PickledArray` for each array.

    ``path`` is named in errors. Raises UserError where the pickle asks for any other name, or holds arrays of anything
    but plain numbers, and whatever the unpickler raises where it is cut off or broken.
    """
    return _Unpickler(content, path).load()


class PickledArray:
    """Stands for a numpy array while a pickle is read."""

    def __init__(self, values: np.ndarray | None = None) -> None:
        self.values = np.empty(0, np.float32) if values is None else values

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes | str]) -> None:
        _, shape, kind, by_columns, raw = state
        self.values = _array(raw, kind, shape, bool(by_columns))


class _DType:
    """Stands for a numpy type while a pickle is read: a plain number, in either byte order."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in _TYPES:
            raise UserError(f"an array of numpy type {str(name)[:40]!r} in a checkpoint", "expected plain numbers")
        self.numpy = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.numpy = self.numpy.newbyteorder(">" if state[1] == ">" else "<")


def _array(raw: bytes | str, kind: _DType, shape: tuple[int, ...], by_columns: bool) -> np.ndarray:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote bytes as text
    if math.prod(shape) * kind.numpy.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes for an array of shape {shape}")
    values = np.frombuffer(raw, kind.numpy).reshape(shape, order="F" if by_columns else "C")
    return np.array(values, kind.numpy.newbyteorder("="), order="C")  # writable, as torch wants it


def _new_array(*_: Any) -> PickledArray:
    return PickledArray()


def _array_of_buffer(raw: bytes, kind: _DType, shape: tuple[int, ...], order: str) -> PickledArray:
    return PickledArray(_array(raw, kind, shape, order == "F"))


def _scalar(kind: _DType, raw: bytes | str) -> PickledArray:
    return PickledArray(_array(raw, kind, (), False))


def _encode(text: str, _: str = "latin1") -> bytes:
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


class _Unpickler(pickle.Unpickler):
    """Reads dictionaries, lists, text, numbers and arrays; any other name in the file is an error that says it."""

    KNOWN = {  # noqa: RUF012 - never changed
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "ndarray"): "numpy.ndarray",  # only ever handed to _new_array
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): _encode,  # how old protocols write bytes
        ("__builtin__", "bytes"): _no_bytes,  # and none at all
        **{
            (f"numpy.{core}.{module}", name): ours
            for core in ("core", "_core")  # numpy 1 and 2
            for module, name, ours in (
                ("multiarray", "_reconstruct", _new_array),
                ("multiarray", "scalar", _scalar),
                ("numeric", "_frombuffer", _array_of_buffer),
            )
        },
    }

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.KNOWN[module, name]
        except KeyError:
            raise UserError(
                f"{self._path} asks for {module}.{name}, which a checkpoint of arrays does not need; it was not run",
                "use a file from a source you trust, or a .pth saved with torch.save(model.state_dict())",
            ) from None
