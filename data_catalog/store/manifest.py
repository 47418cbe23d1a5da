"""Checksums of what is written once, when a store is made: sizes, settings, labels and coordinates.

``manifest.json`` lists every file that is there before the first shard, with its CRC-32. Shards have theirs in their
markers. Stores of version 1 have no manifest.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import write_json
from densereid.data_catalog.files.paths import AnyPath, UrlPath
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.sealed_json import is_sealed, parsed_json, sealed

MANIFEST = "manifest.json"

_METADATA = ("zarr.json", "index.h5")
"""Names of the files that say how all others are read: they are checked whenever a local store is opened."""


def write_manifest(folder: Path) -> None:
    """List the files of a store that was just made in ``folder``."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    checksums = {file.relative_to(folder).as_posix(): zlib.crc32(file.read_bytes()) for file in files}
    write_json(folder / MANIFEST, sealed({"files": checksums}))


def damaged_files(store: AnyPath, *, metadata_only: bool = False) -> list[str]:
    """The files of a store's manifest that are not there or not as they were written, relative to ``store``.

    None where there is no manifest. ``metadata_only``: only those that say how the others are read; of a store at a
    URL, where each is a request, the first. Raises UserError where one cannot be read.
    """
    manifest = _read(store / MANIFEST)
    if manifest is None:
        return []
    if not is_sealed(manifest) or not isinstance(manifest.get("files"), dict):
        return [MANIFEST]
    names = [name for name in manifest["files"] if not metadata_only or name.rpartition("/")[2] in _METADATA]
    if metadata_only and isinstance(store, UrlPath):
        names = [name for name in names if name in _METADATA]
    return [name for name in names if _checksum(store / name) != manifest["files"][name]]


def check_metadata(store: AnyPath, version: Any) -> None:
    """Raise UserError where what says how a store is read is damaged, or a store of version 2 has no manifest."""
    damaged = damaged_files(store, metadata_only=True)
    if version != 1 and not (store / MANIFEST).is_file():
        damaged = [MANIFEST]
    if damaged:
        raise UserError(
            f"{store} is damaged: {', '.join(damaged)} is missing or not as it was written",
            "restore it from a copy, if you have one; the images of its shards cannot be trusted without it. "
            "Otherwise move it away and preprocess again",
        )


def _read(file: AnyPath) -> Any:
    content = read_whole(file)
    try:
        return None if content is None else parsed_json(content)
    except ValueError:
        return {}


def _checksum(file: AnyPath) -> int | None:
    content = read_whole(file)
    return None if content is None else zlib.crc32(content)
