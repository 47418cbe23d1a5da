"""What a pickle would have its reader allocate, looked at before it is read: nine bytes can ask for 32 GB.

Nothing is built here. Python's reader makes room for a memo of any index that a file names, and a tuple of a million
tuples as a key ends the process.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from typing import Any, BinaryIO

_DEEPEST = 200
"""Containers in containers; a checkpoint has about ten, Python's own recursion ends at a thousand."""

_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_LEGACY_PICKLES = 5
"""Of a file of torch.save before it wrote zip archives: magic number, protocol, system, content, keys of tensors."""


def check_pickle(file: BinaryIO) -> None:
    """Go through a pickle up to its end, in time and memory linear in the file.

    Raises ValueError in words where it names a memo index that no writer gives, or nests containers too deeply, and
    UnpicklingError where it is no pickle, or a damaged one.
    """
    start = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(start)
    stack: list[int] = []  # how deep each object is; -1 for a mark
    memo: dict[Any, int] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            _check_claim(opcode.name, argument, count, size)
            if opcode.name in _PUTS or opcode.name == "MEMOIZE":
                memo[len(memo) if argument is None else argument] = stack[-1]
            elif opcode.name in _GETS:
                stack.append(memo[argument])
            else:
                _step(stack, opcode)
    except _Refused:
        raise
    except MemoryError:
        raise _Refused("it claims more bytes than fit into the memory") from None
    except (ValueError, LookupError) as error:
        raise pickle.UnpicklingError(str(error)) from error


def check_torch_file(file: BinaryIO) -> None:
    """As :func:`check_pickle`, of every pickle of a file of torch.save. The file is then at its beginning again.

    Raises ValueError in words also where an archive would grow when it is read, and BadZipFile where the part is
    damaged that says which tensors there are. What else is wrong with a file is left for torch to say.
    """
    try:
        if zipfile.is_zipfile(file):
            _check_archive(file)
            return
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            check_pickle(file)
    except pickle.UnpicklingError:
        return
    finally:
        file.seek(0)


def _check_archive(file: BinaryIO) -> None:
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if parts and f"{parts[0].filename.partition('/')[0]}/constants.pkl" in archive.namelist():
            return  # TorchScript, which torch refuses at once
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise _Refused("its parts are compressed, which torch.save never does")
        held = sum(part.file_size for part in parts)
        if held > size:
            raise _Refused(f"its parts claim to have {held} bytes, in a file of {size}")
        for part in parts:
            if part.filename.endswith(".pkl"):
                check_pickle(io.BytesIO(archive.read(part)))


class _Refused(ValueError):  # noqa: N818
    """What a file claims, and no writer would have written."""


def _check_claim(name: str, argument: Any, count: int, size: int) -> None:
    if name in _PUTS and argument > 100 + 2 * count:
        raise _Refused(f"its memo has the index {argument} after {count} steps, which no writer gives")
    if name == "FRAME" and argument > size:
        raise _Refused(f"it claims a frame of {argument} bytes, in a file of {size}")


def _step(stack: list[int], opcode: pickletools.OpcodeInfo) -> None:
    """Take from the stack what an operation takes, and put what it gives."""
    if not opcode.stack_before:
        stack += [-1 if kind is pickletools.markobject else 0 for kind in opcode.stack_after]
        return
    taken: list[int] = []
    for kind in reversed(opcode.stack_before):
        if kind is pickletools.stackslice:
            while (depth := stack.pop()) >= 0:
                taken.append(depth)
        elif kind is not pickletools.markobject:
            taken.append(stack.pop())
    grows = len(opcode.stack_before) > 1 and opcode.stack_before[0] is not pickletools.markobject
    own = taken.pop() if grows else 0  # a list that is appended to is as deep as before, or deeper than what it gets
    depth = max([own, *(each + 1 for each in taken)])
    if depth > _DEEPEST:
        raise _Refused(f"it nests more than {_DEEPEST} containers")
    stack += [depth] * len(opcode.stack_after)
