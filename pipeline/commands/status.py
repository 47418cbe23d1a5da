"""What is there and whether it is whole: the table of all stores, and the verification of one."""

from __future__ import annotations

from typing import TypedDict, final

import numpy as np
from rich import filesize
from rich.table import Table

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath, folder_bytes
from densereid.data_catalog.files.refusals import unreadable
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store, exists, open_store
from densereid.pipeline.console import print_status
from densereid.pipeline.invocation import next_command
from densereid.pipeline.progress import ProgressReport
from densereid.preprocess.writing.verify import damaged_notes, damaged_records, damaged_shards, differing_rows

_MARKERS = (
    "delete the marker of each damaged shard (shards/NNNNN.json in the store) and preprocess again: those shards alone "
    "are made again"
)
_NOTES = "move the damaged notes away: the arrays do not need them, and preprocessing writes failures.csv again"
_MOVE_AWAY = (
    "what is written when a store is made cannot be made again alone: restore those files from a copy, if you have "
    "one; otherwise move the store away and preprocess again"
)


@final
class StoreFacts(TypedDict):
    """What a store holds and how much of it is written, in plain JSON types.

    ``no_person``, ``failed`` and ``fallbacks`` count images of the finished shards; ``fallbacks`` are those in
    which the detector found no person, so that DensePose was given the whole image.
    """

    store: str
    format: str
    dataset: str
    estimator: str
    images: int
    shards: int
    shards_done: int
    no_person: int
    fallbacks: int
    failed: int
    bytes: int


@final
class UnreadableStore(TypedDict):
    """A store that cannot be read, and why."""

    store: str
    problem: str


def find_stores(store_root: AnyPath) -> list[StoreFacts | UnreadableStore]:
    """The facts of every store directly under ``store_root``, sorted by name."""
    folders: list[AnyPath] = list(store_root.glob("[!.]*"))  # hidden: an update that was interrupted
    found = (_entry(path) for path in sorted(folders, key=lambda path: path.name))
    return [entry for entry in found if entry is not None]


def _entry(path: AnyPath) -> StoreFacts | UnreadableStore | None:
    """As :func:`store_facts`; None for what is no store."""
    try:
        return store_facts(path) if exists(path) else None
    except OSError as error:  # of a folder into which we may not look
        refused = unreadable(path, error)
        return {"store": path.name, "problem": refused.problem if refused else f"{error.strerror or error}"}


def store_facts(path: AnyPath) -> StoreFacts | UnreadableStore:
    """What the store at ``path`` holds, or its problem if it cannot be read."""
    try:
        return _facts(open_store(path, incomplete=True))
    except UserError as error:
        return {"store": path.name, "problem": error.problem}
    except (KeyError, TypeError, AttributeError) as error:
        return {"store": path.name, "problem": f"its attributes do not say {error}"}


def _facts(store: Store) -> StoreFacts:
    markers, path = store.markers().values(), store.path
    return {
        "store": path.name,
        "format": store.format,
        "dataset": store.attributes["dataset"],
        "estimator": store.attributes["estimator"]["name"],
        "images": store.geometry.num_samples,
        "shards": store.geometry.num_shards,
        "shards_done": len(markers),
        "no_person": sum(marker.get("no_person", 0) for marker in markers),
        "fallbacks": sum(marker.get("taken_whole", 0) for marker in markers),
        "failed": sum(len(marker.get("failures", [])) for marker in markers),
        "bytes": folder_bytes(path),
    }


def stores_table(store_root: AnyPath) -> Table:
    """One row a store under ``store_root``: what it holds, how much of it is written, how large it is."""
    table = Table(title=f"stores in {store_root}", title_justify="left")
    for column in ("store", "format", "dataset", "estimator"):
        table.add_column(column)
    for column in ("images", "shards", "no person", "fallbacks", "failed", "on disk"):
        table.add_column(column, justify="right")
    for facts in find_stores(store_root):
        table.add_row(*_cells(facts))
    return table


def _cells(facts: StoreFacts | UnreadableStore) -> list[str]:
    if "problem" in facts:
        return [facts["store"], "", facts["problem"]]
    return [
        facts["store"],
        facts["format"],
        facts["dataset"],
        facts["estimator"],
        f"{facts['images']:,}",
        f"{facts['shards_done']}/{facts['shards']}",
        *(str(count) for count in (facts["no_person"], facts["fallbacks"], facts["failed"])),
        filesize.decimal(facts["bytes"]),
    ]


def verify_store(store: Store, *, sample: int, seed: int) -> None:
    """Check every shard's checksums and recompute ``sample`` rows; UserError that names what is damaged."""
    found = _damage(store)
    count = min(sample, store.geometry.num_samples)
    if not found:
        generator = np.random.default_rng(seed)
        rows_checked = np.sort(generator.choice(store.geometry.num_samples, count, replace=False))
        for name, rows in differing_rows(store, rows_checked).items() if count else ():
            found += [(f"row {row}: {name} does not follow from image and iuv", _MARKERS) for row in rows]
    if found:
        raise UserError(
            f"{store.path} is damaged:\n" + "\n".join(f"  {problem}" for problem, _ in found[:20]),
            "\n".join(dict.fromkeys(remedy for _, remedy in found)),
        )
    if store.version == 1:
        print_status(
            f"{store.path} has store format 1, whose labels, attributes and provenance have no checksums: "
            f"`{next_command('convert', source=store.path, target='NEW_STORE')}` makes a copy that has"
        )
    checked = f"{plural(len(store.markers()), 'shard')} by checksum, {plural(count, 'row')} computed again"
    print_status(f"{store.path} is whole: {checked}")


def _damage(store: Store) -> list[tuple[str, str]]:
    """What in a store is not as it was written, in a sentence, and what makes it whole again."""
    found = [(problem, _MOVE_AWAY) for problem in damaged_records(store)]
    found += [(problem, _NOTES) for problem in damaged_notes(store)]
    with ProgressReport("verifying", store.geometry.num_samples) as report:
        for shard, names in damaged_shards(store):
            rows = store.geometry.shard_slice(shard)
            found += [(f"shard {shard}: {name} is damaged", _MARKERS) for name in names]
            report.advance(rows.stop - rows.start, failed=len(names))
    return found
