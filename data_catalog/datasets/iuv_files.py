"""Where the IUV map of an image lies, beside a dataset or inside a folder of crops."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_SUFFIXES = ("", "_IUV", "_iuv")


def iuv_path(iuv_root: Path, image: str) -> Path | None:
    """The IUV map of an image: the image's relative path, or its bare name, under ``iuv_root``; None if absent.

    Raises OSError where that cannot be told for the moment.
    """
    relative = Path(image)
    for folder in (iuv_root / relative.parent, iuv_root):
        for suffix in _SUFFIXES:
            candidate = folder / f"{relative.stem}{suffix}.png"
            if _is_file(candidate):
                return candidate
    return None


def _is_file(path: Path) -> bool:
    """As pathlib's, some of which answer "no" where a disk does not answer."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return False
        raise


def is_iuv_file(path: Path, iuv_root: Path | None) -> bool:
    """Whether a file among a folder's crops is an IUV map by its name or folder."""
    named = any(suffix and path.stem.endswith(suffix) for suffix in _SUFFIXES)
    return named or (iuv_root is not None and path.is_relative_to(iuv_root))
