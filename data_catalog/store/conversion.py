"""Stores copied from one format into the other, and what goes with a store wherever it goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import write_bytes
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.writer_lock import only_writer
from densereid.data_catalog.store.schema import arrays_written
from densereid.data_catalog.store.store import (
    INPUTS,
    PROVENANCE,
    Store,
    checksum,
    create_store,
    damaged_shard,
    exists,
    open_store,
    remove_leftovers,
    write_shard,
)


def convert_store(source: Store, path: AnyPath, *, format: str, on_shard: Callable[[int], None] | None = None) -> None:
    """Copy a complete store into ``format`` at ``path``, shard by shard; continues an interrupted copy.

    Arrays, attributes and markers are equal afterwards. ``on_shard(shard)`` is called after each. Raises UserError
    where ``path`` holds something else, where another process writes it, and where the source is damaged.
    """
    with only_writer(path, "the store"):
        target = _begin_copy(source, path, format)
        markers = source.markers()
        for shard in target.missing_shards():
            covered = source.geometry.shard_slice(shard)
            rows = {spec.name: source.read(spec.name, covered) for spec in arrays_written("shard")}
            damaged = [name for name in rows if checksum(rows[name]) != markers[shard]["crc32"].get(name)]
            if damaged:
                raise damaged_shard(source, shard, damaged)
            notes = {key: value for key, value in markers[shard].items() if key not in ("shard", "rows", "crc32")}
            write_shard(path, shard=shard, rows=rows, notes=notes)
            if on_shard is not None:
                on_shard(shard)


def _begin_copy(source: Store, path: AnyPath, format: str) -> Store:
    own = {key: value for key, value in source.attributes.items() if key not in ("format", "format_version")}
    if not exists(path):
        rows = {spec.name: source.read(spec.name) for spec in arrays_written("create")}
        create_store(path, format=format, geometry=source.geometry, attributes=own, rows=rows)
    target = open_store(path, incomplete=True)
    if target.format != format or any(target.attributes.get(key) != value for key, value in own.items()):
        raise UserError(
            f"{path} exists and is not a copy of {source.path}", "choose another target, or move that one away"
        )
    if not _is_current(source, target):
        raise UserError(
            f"{path} is a copy of what {source.path} held before it changed", "delete it, or choose another target"
        )
    remove_leftovers(path)
    copy_notes(source.path, path)
    return target


def _is_current(source: Store, target: Store) -> bool:
    """Whether what a copy holds already is what its source holds today."""
    now = source.markers()
    same_shards = all(marker["crc32"] == now[shard]["crc32"] for shard, marker in target.markers().items())
    return same_shards and all(
        np.array_equal(source.read(spec.name), target.read(spec.name)) for spec in arrays_written("create")
    )


def copy_notes(source: AnyPath, path: AnyPath) -> None:
    """Copy what stands beside the arrays and tells where they came from, as far as it is there."""
    for name in (PROVENANCE, INPUTS):
        content = read_whole(source / name)
        if content is not None:
            write_bytes(path / name, content)
