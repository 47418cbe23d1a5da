"""Files that are either whole or absent: written aside, flushed to disk and renamed; objects at a URL are put whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from densereid.data_catalog.files.paths import AnyPath, UrlPath, upload


def write_json(path: AnyPath, content: Any) -> None:
    """Write JSON so that ``path`` holds either its old content or all of the new one, whatever happens."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Write a file, and its folders, so that ``path`` holds either its old content or all of the new one.

    Where it cannot be written (OSError), nothing is left behind.
    """
    if isinstance(path, UrlPath):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content)
        rename_into_place(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def make_folder(path: AnyPath, build: Callable[[Path], None], *, last: str) -> None:
    """Make the folder ``path`` by ``build(aside)``; it appears whole or not at all.

    Local folders are renamed. At a URL there is no renaming: ``last`` is the file whose presence makes the folder
    count, and it is put after all others.
    """
    if isinstance(path, UrlPath):
        upload(path, build, last=last)
        return
    temporary = path.with_name(f".{path.name}.creating")
    path.parent.mkdir(parents=True, exist_ok=True)
    if temporary.exists():
        shutil.rmtree(temporary)
    build(temporary)
    rename_into_place(temporary, path)


def rename_into_place(temporary: Path, path: Path) -> None:
    """Flush the finished file or folder ``temporary`` to disk and rename it to ``path``."""
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Ask the operating system to put a file's content, or a folder's entries, on disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
