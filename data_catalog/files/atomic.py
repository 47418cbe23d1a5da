"""Files and folders that are either whole or absent: written beside their path, flushed to disk and renamed.

Objects at a URL are put whole.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from densereid.data_catalog.files.paths import AnyPath, UrlPath, upload


@contextmanager
def replacing(path: Path, *, flushed: bool = True) -> Iterator[Path]:
    """A temporary path where the block makes a file or folder, which then takes the place of ``path``.

    ``path`` holds its old content or all of the new one, whatever happens; where the block or the renaming fails,
    nothing else is left behind. Folders above ``path`` are made. ``flushed``: the content is on disk before the
    renaming, so that not even a power cut leaves an empty file; for many small files that takes most of the time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        if flushed:
            _flush(temporary)
        temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise
    if flushed:
        _flush(path.parent)


def remove_partial(folder: Path, name: str = "") -> None:
    """Delete what killed writers left directly in ``folder``, of files called ``name`` or of all.

    To be called when no writer is at work there.
    """
    for leftover in folder.glob(f".{glob.escape(name)}.[0-9]*.partial" if name else "*.partial"):
        _remove(leftover)


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
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def make_folder(path: AnyPath, build: Callable[[Path], None], *, last: str) -> None:
    """Make the folder ``path`` by ``build(temporary)``; it appears whole or not at all.

    Local folders are renamed. At a URL there is no renaming: ``last`` is the file whose presence makes the folder
    count, and it is put after all others.
    """
    if isinstance(path, UrlPath):
        upload(path, build, last=last)
        return
    remove_partial(path.parent, path.name)
    with replacing(path) as temporary:
        build(temporary)


def _flush(path: Path) -> None:
    """Ask the operating system to put a file's content, or a folder's entries, on disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):  # where it cannot be deleted, something else has failed that says more
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
