"""The marker of a finished shard, read with suspicion: a crash, a disk or a person may have changed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.sealed_json import SEAL, is_sealed, parsed_json
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Geometry, arrays_written


def read_marker(file: AnyPath, geometry: Geometry, version: int) -> dict[str, Any]:
    """A marker's content: ``shard``, ``rows``, ``crc32`` and the notes of its run.

    ``version`` is the store's: markers of version 1 have no checksum of their own. Raises UserError that names the
    file and what is wrong with it where it is damaged, gone, or cannot be read.
    """
    try:
        marker = parsed_json(read_whole(file) or b"")
        problem = _problem(marker, int(file.stem), geometry)
        if not problem and version > 1 and not is_sealed(marker):
            problem = "it is not as it was written"
    except ValueError as error:  # no JSON, or no UTF-8
        problem = f"it is no JSON: {error}"
    if problem:
        raise UserError(
            f"the marker of a shard is damaged: {file}: {problem}",
            "delete that file and run the same `make preprocess` again: this shard alone is computed again",
        )
    return {key: value for key, value in marker.items() if key != SEAL}


def _problem(marker: Any, shard: int, geometry: Geometry) -> str:
    """What is wrong with a marker; empty for a whole one."""
    if not isinstance(marker, dict):
        return f"it holds {type(marker).__name__}; expected keys with values"
    if shard >= geometry.num_shards:
        return f"the store has {plural(geometry.num_shards, 'shard')}"
    rows = geometry.shard_slice(shard)
    if [marker.get("shard"), marker.get("rows")] != [shard, [rows.start, rows.stop]]:
        return f"it is of shard {marker.get('shard')}, rows {marker.get('rows')}; expected {rows.start} to {rows.stop}"
    sums = marker.get("crc32")
    known = {name for name, value in sums.items() if isinstance(value, int)} if isinstance(sums, dict) else set()
    absent = {spec.name for spec in arrays_written("shard")} - known
    if absent:
        return f"it lacks the checksums of {', '.join(sorted(absent))}"
    return "" if _notes_are_whole(marker) else "its failures and counts cannot be understood"


def _notes_are_whole(marker: Mapping[str, Any]) -> bool:
    failures = marker.get("failures", [])
    counts = all(isinstance(marker.get(note, 0), int) for note in ("no_person", "taken_whole"))
    return counts and isinstance(failures, list) and all(_is_failure(each) for each in failures)


def _is_failure(each: Any) -> bool:
    return isinstance(each, dict) and all(isinstance(each.get(key), str) for key in ("path", "reason"))
