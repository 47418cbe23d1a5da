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
        for file in temporary.rglob("*"):  # on disk before the folder appears: its name alone says that it is whole
            _flush(file)


def link_file(source: AnyPath, target: AnyPath) -> None:
    """Let ``target`` be ``source`` under another name, or a copy of it where there are no links."""
    if isinstance(source, UrlPath):
        assert isinstance(target, UrlPath), f"{source} and {target} are of two kinds"
        source.copy_to(target)
        return
    assert isinstance(target, Path), f"{source} and {target} are of two kinds"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.unlink(missing_ok=True)
        os.link(source, target)
    except OSError:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def replace_folder(new: AnyPath, path: AnyPath, *, last: str) -> None:
    """Put the folder ``new`` in the place of the folder ``path``, which need not exist; :func:`recover_folder` helps.

    At a URL ``last`` is the file whose presence makes the folder count: it goes first and comes last.
    """
    if isinstance(new, UrlPath):
        assert isinstance(path, UrlPath), f"{new} and {path} are of two kinds"
        new.move_to(path, last=last)
        return
    assert isinstance(path, Path), f"{new} and {path} are of two kinds"
    if path.exists():
        path.replace(_aside(path))
    new.replace(path)
    _flush(path.parent)
    _remove(_aside(path))


def recover_folder(path: AnyPath) -> None:
    """Bring back what :func:`replace_folder` had put aside when it was killed; call it when no writer is at work."""
    if isinstance(path, UrlPath) or not _aside(path).exists():
        return
    if path.exists():
        _remove(_aside(path))
    else:
        _aside(path).replace(path)


def remove_folder(path: AnyPath) -> None:
    """Delete a folder and all it holds, if it is there."""
    if isinstance(path, UrlPath):
        path.remove()
    else:
        _remove(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


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
