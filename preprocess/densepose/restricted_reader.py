"""Reading pickles and files of ``torch.save`` without running what is in them.

A checkpoint of arrays needs few names. Each is looked up in a table of our own functions: nothing of numpy, nor of
anything else, is called with what the file says.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from densereid.data_catalog.errors import UserError, asked_for, first_line, why_not_loaded
from densereid.data_catalog.files.pickle_limits import check_pickle, check_torch_file
from densereid.data_catalog.files.refusals import unreadable

Names = Mapping[tuple[str, str], Any]
"""What stands for a name (module, name) that a file asks for."""

_TYPES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8"))
"""Array types that a torch tensor can hold."""

_TORCH_BEFORE_ZIP = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""How torch.save began its files before they were zip archives."""

_BEGINNINGS = (
    (re.compile(rb"\s*<", re.DOTALL), "it is a web page (HTML), as a login or an error page is"),
    (re.compile(rb"version https://git-lfs"), "it is a pointer of Git LFS, not the file that it stands for"),
    (re.compile(rb".{7}\x00\{\"", re.DOTALL), "it is a safetensors file"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"), "it is compressed"),
)

_CUT_OFF = re.compile("truncated|exhausted|remain|not enough data|no newline")


class UnreadableFile(UserError):  # noqa: N818 - a UserError, as all that are meant for people
    """A file that is cut off, is something else, or asks for what it may not have."""


def read_restricted(file: BinaryIO, path: Path, *, what: str, names: Names | None = None, mapped: bool = False) -> Any:
    """The object in an open pickle or file of ``torch.save``: containers, text, numbers, tensors, and arrays.

    Arrays come as :class:`PickledArray`, which may share the memory of the file's own bytes: they are not to be
    written to. ``names`` are known besides those of arrays. ``mapped``: tensors stay on disk until they are used,
    where the file is one of torch.save. ``path`` and ``what`` ("a checkpoint") are for errors:
    raises UnreadableFile where the file is cut off or something else, asks for any other name, or holds arrays of
    anything but plain numbers.
    """
    head = file.read(64)
    file.seek(0)
    try:
        reason = _told_by_its_beginning(head)
        if reason is not None:
            raise ValueError(reason)
        if head.startswith((b"PK\x03\x04", _TORCH_BEFORE_ZIP)):
            return _load_torch(file, names or {}, path if mapped and head.startswith(b"PK") else None)
        check_pickle(file)
        file.seek(0)
        return _Unpickler(file, names or {}).load()
    except _Refused as refused:
        raise UnreadableFile(
            f"{path} asks for {refused}, which {what} does not need; it was not run",
            "a dump of apply_net.py is for IUV_ROOT, not for WEIGHTS"
            if str(refused).startswith("densepose.")
            else "use a file from a source you trust, or one written by torch.save(model.state_dict(), FILE)",
        ) from None
    except Exception as error:  # a broken file can raise anything
        size = file.seek(0, io.SEEK_END)
        raise unreadable(path, error) or UnreadableFile(
            f"{path} ({size} bytes) cannot be read as {what}: {_reason(error)}",
            "if it was cut off or is not what it should be, get it again",
        ) from error


class _Refused(Exception):  # noqa: N818
    """A name that a file asks for and may not have."""


def _told_by_its_beginning(head: bytes) -> str | None:
    if not head:
        return "it is empty"
    return next((words for beginning, words in _BEGINNINGS if beginning.match(head)), None)


def _load_torch(file: BinaryIO, names: Names, mapped: Path | None) -> Any:
    """By torch's own restricted reader, which knows our names too; none of its advice to switch it off is quoted."""
    if file.read(2) == b"PK" and not zipfile.is_zipfile(file):
        raise EOFError
    check_torch_file(file)
    known = [(ours, ".".join(name)) for name, ours in (_KNOWN | dict(names)).items() if name[0] != "__builtin__"]
    try:
        with torch.serialization.safe_globals(known), warnings.catch_warnings():  # type: ignore[arg-type]
            warnings.simplefilter("ignore")  # of a TorchScript archive, before it is refused
            return torch.load(mapped or file, map_location="cpu", weights_only=True, mmap=mapped is not None)
    except (pickle.UnpicklingError, RuntimeError) as error:
        name = asked_for(error)
        raise (ValueError(why_not_loaded(error)) if name is None else _Refused(name)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, (EOFError, IndexError, struct.error)) or _CUT_OFF.search(str(error)):
        return "its end is missing"
    if isinstance(error, ValueError):
        return first_line(error).partition(". ")[0]
    return f"it is no pickle, or a damaged one ({type(error).__name__}: {first_line(error)})"


class PickledArray:
    """Stands for a numpy array while a file is read."""

    def __init__(self, values: np.ndarray | None = None) -> None:
        self.values = np.empty(0, np.float32) if values is None else values

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes | str]) -> None:
        _, shape, kind, by_columns, raw = state
        self.values = _array(raw, kind, shape, bool(by_columns))

    def tensor(self) -> torch.Tensor:
        """The values as a tensor that shares their memory, and is not to be written to."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(self.values)


class _DType:
    """Stands for a numpy type while a file is read: a plain number, in either byte order."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in _TYPES:
            raise ValueError(f"it holds an array of numpy type {str(name)[:40]!r} instead of plain numbers")
        self.numpy = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.numpy = self.numpy.newbyteorder(">" if state[1] == ">" else "<")


def _array(raw: bytes | str, kind: _DType, shape: tuple[int, ...], by_columns: bool) -> np.ndarray:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote bytes as text
    if math.prod(shape) * kind.numpy.itemsize != len(raw):
        raise ValueError(f"it holds {len(raw)} bytes for an array of shape {shape}")
    values = np.frombuffer(raw, kind.numpy).reshape(shape, order="F" if by_columns else "C")
    return np.asarray(values, kind.numpy.newbyteorder("="), order="C")


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


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): PickledArray,
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


def _storage(content: bytes) -> Any:
    """A tensor's memory, which a plain pickle holds as a file of torch.save."""
    check_torch_file(io.BytesIO(content))
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> torch.Tensor:
    if not isinstance(storage, torch.storage.TypedStorage):
        raise ValueError("it holds a tensor without memory")
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride)


_KNOWN_TENSORS: dict[tuple[str, str], Any] = {
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}
"""Of a pickle that Python wrote; torch's own files need none of them."""


class _Unpickler(pickle.Unpickler):
    """Any name that is not in its tables ends the reading."""

    def __init__(self, file: BinaryIO, names: Names) -> None:
        super().__init__(file, encoding="latin1")
        self._known = _KNOWN | _KNOWN_TENSORS | dict(names)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None
