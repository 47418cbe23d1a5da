"""Files that the system does not let us read for the moment, told apart from those that are damaged.

Of the first nobody knows anything bad: no message about them may advise to remove what is there.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath, UrlPath

_QUOTED = re.compile(r"(?:errno = |OS error |Errno )(\d+)")
"""How HDF5, tensorstore and Python quote the system's answer inside an error that is no OSError, or has no number."""

_OF_WHAT_IS_THERE = {
    0, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST,
    errno.ENOTEMPTY, errno.EOVERFLOW,
}  # fmt: skip
"""Answers that say what a path is; all others say that it cannot be told."""

_LOCKS = {errno.EAGAIN, errno.EDEADLK, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "`ls -ld` shows who may read it and the folders above: change that"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "close what has so many files open, or allow more with `ulimit -n`"),
    **dict.fromkeys(
        _LOCKS,
        "another process has it open: wait until that has ended; on a disk without locks set "
        "HDF5_USE_FILE_LOCKING=FALSE in the environment",
    ),
}


def refusal(error: BaseException | None) -> int | None:
    """The number of the system's answer where an error, or what caused it, is that something cannot be read now."""
    while error is not None:
        quoted = _QUOTED.search(str(error))
        number = (error.errno if isinstance(error, OSError) else None) or (int(quoted[1]) if quoted else 0)
        if number not in _OF_WHAT_IS_THERE:
            return number
        error = error.__cause__ or error.__context__
    return None


def unreadable(file: AnyPath | str, error: BaseException) -> UserError | None:
    """The error for a file that the system does not let us read for the moment; None where it is another fault."""
    number = refusal(error)
    if number is None:
        return None
    remedy = _REMEDIES.get(number, "look at the disk that it lies on, and at the network on the way to it")
    return UserError(
        f"{file} cannot be read for the moment: {os.strerror(number)}",
        f"{remedy}; then run the same command again. Nothing says that it is damaged: leave it as it is",
    )


def read_whole(file: AnyPath) -> bytes | None:
    """The bytes of a file; None where there is none, or a link to nothing.

    Raises UserError where something else than a file is in its place, a pipe for example, which would be waited for,
    and where the system does not let us read it.
    """
    if isinstance(file, UrlPath):
        return file.read_bytes() if file.is_file() else None
    try:
        mode = file.stat().st_mode
        if stat.S_ISREG(mode):
            return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(file, error) or UserError(
            f"{file} cannot be read: {error.strerror}", "correct the path, or move away what is in the way"
        ) from error
    found = "folder" if stat.S_ISDIR(mode) else "pipe or device"
    raise UserError(f"{file} is a {found}; expected a file", "move it away, or correct the path")


def read_text(file: Path, what: str) -> str:
    """The text of a file that a user wrote. Raises UserError where it is not there, no file, not readable, or no UTF-8.

    ``what`` the file is, in words.
    """
    content = read_whole(file)
    if content is None:
        raise UserError(f"{what} {file} is not there", "correct its path")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {file} is no UTF-8 text: {error}", "save it as UTF-8") from error
