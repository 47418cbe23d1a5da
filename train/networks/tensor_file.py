"""Files of tensors and plain values that carry checksums: whatever is not as it was written is noticed when it is read.

``torch.load`` alone takes what the file says: one flipped bit is another weight.
"""

from __future__ import annotations

import errno
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densereid.data_catalog.errors import UserError, first_line, why_not_loaded
from densereid.data_catalog.files.atomic import replacing
from densereid.data_catalog.files.pickle_limits import check_torch_file

CHECKSUMS = "checksums"
"""The key of the checksums, beside what they are of."""


def save_tensor_file(path: Path, values: Mapping[str, Any], *, what: str, remedy: str) -> None:
    """Write nested tensors and plain values, with their checksums, so that ``path`` holds the old file or the new one.

    Read it with :func:`load_tensor_file`, or with torch.load(path, weights_only=True). Raises UserError, with ``what``
    the file is and the ``remedy``, where the disk is full or the folder cannot be written.
    """
    content = {**values, CHECKSUMS: {"values": _values_checksum(values), "tensors": _tensors_checksum(values)}}
    refused: list[OSError] = []
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(content, _Recorder(file, refused))  # type: ignore[arg-type]
    except (OSError, RuntimeError) as error:  # of a refusal of the system torch says "enforce fail", and where in torch
        reason = first_line(refused[0] if refused else error)
        raise UserError(f"{what} {path} could not be written: {reason}", remedy) from error


class _Recorder:
    """A file that keeps what the system said when it refused bytes."""

    def __init__(self, file: Any, refused: list[OSError]) -> None:
        self._file, self._refused = file, refused

    def write(self, data: Any) -> int:
        try:
            written: int = self._file.write(data)
        except OSError as error:
            self._refused.append(error)
            raise
        return written

    def flush(self) -> None:
        with suppress(OSError):  # closing the file says it
            self._file.flush()


def load_tensor_file(path: Path, *, what: str, remedy: str, mapped: bool = False) -> Any:
    """What torch.save wrote, on the CPU; without running code. ``mapped``: tensors stay on disk until they are used.

    Raises UserError, with ``what`` the file is, where it may not be read, and where it is damaged or something else,
    for which there is a ``remedy``. Whether its values are those that were written is left to :func:`check_tensors`.
    """
    try:
        with path.open("rb") as file:
            check_torch_file(file)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises many types for a truncated or foreign file
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is torch, which seeks before the start
            looked = "The system does not let us: look at its permissions and its disk. Nothing was changed."
            raise UserError(f"{what} {path} cannot be read: {first_line(error)}", looked) from error
        raise UserError(f"{what} {path} cannot be read: {why_not_loaded(error)}", remedy) from error


def check_tensors(path: Path, values: Mapping[str, Any], *, what: str, remedy: str, mapped: bool = False) -> None:
    """Compare what :func:`load_tensor_file` gave with its checksums; of a file without any, which an older release
    wrote, compare its bytes with those of its archive.

    ``mapped``: leave the tensors' numbers on disk, unchecked. Raises UserError as load_tensor_file.
    """
    try:
        problem = _difference(values, mapped) if CHECKSUMS in values else _damaged_member(path, mapped)
    except Exception as error:  # values that no release wrote: of other types, or that hold themselves
        problem = f"it holds what is not written in such a file ({type(error).__name__})"
    if problem:
        raise UserError(f"{what} {path} is damaged: {problem}", remedy)


def _difference(values: Mapping[str, Any], mapped: bool) -> str:
    content = {key: value for key, value in values.items() if key != CHECKSUMS}
    expected = values[CHECKSUMS]
    if expected["values"] != _values_checksum(content):
        return "its names and values are not those that were written"
    if not mapped and expected["tensors"] != _tensors_checksum(content):
        return "the numbers in its tensors are not those that were written"
    return ""


def _damaged_member(path: Path, mapped: bool) -> str:
    if mapped:
        return ""
    with zipfile.ZipFile(path) as archive:
        name = archive.testzip()
    return f"its part {name} is not what was written" if name else ""


def _values_checksum(values: Any) -> int:
    """CRC-32 of the names, the values, and the types, shapes and strides of the tensors, as JSON."""
    return zlib.crc32(json.dumps(_plain(values), separators=(",", ":")).encode())


def _tensors_checksum(values: Any) -> int:
    """CRC-32 of the tensors' bytes one after the other, each as it lies in memory."""
    checksum = 0
    for tensor in _tensors_in(values):
        order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
        lying = tensor.detach().cpu().permute(order).contiguous().reshape(-1)
        checksum = zlib.crc32(lying.view(torch.uint8).numpy().data, checksum)
    return checksum


def _plain(value: Any) -> Any:
    """The value as JSON that tells apart what is not the same, a key 1 from a key "1"."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return [kind, str(value.dtype), list(value.shape), list(value.stride()), value.requires_grad]
    if isinstance(value, Mapping):
        return [kind, [[_plain(key), _plain(each)] for key, each in value.items()]]
    if isinstance(value, list | tuple):
        return [kind, [_plain(each) for each in value]]
    return [kind, repr(value)]


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(each)
