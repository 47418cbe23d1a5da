"""Bringing a finished or half-written store up to date with its images, without doing anything twice.

A store is never changed in place: the new one is made beside it, under a hidden name, and takes its place when it is
whole, so that a store can be read, and a run interrupted, at any time. Shards whose rows are the same are linked. The
result equals, array by array, the store that would be made at once.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from densereid.data_catalog.files.atomic import remove_folder
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.conversion import copy_notes
from densereid.data_catalog.store.store import (
    Store,
    adopt_shard,
    create_store,
    exists,
    open_store,
    replace_store,
)
from densereid.preprocess.writing.plan import StorePlan, same_rows


@dataclass(frozen=True)
class Update:
    """A store to be made beside the one at ``path``, whose place it takes when it is whole.

    ``plan`` makes it, at a path of its own. ``kept``: the store from which each shard is taken that stays as it is.
    """

    path: AnyPath
    plan: StorePlan
    kept: Mapping[int, Store]
    reason: str
    """What differs, for people."""

    def __str__(self) -> str:
        shards = self.plan.geometry.num_shards
        return (
            f"{self.path}: {self.reason}; {len(self.kept)} of {plural(shards, 'shard')} stay as they are, "
            f"{shards - len(self.kept)} are written again"
        )


def begin_update(update: Update, *, format: str) -> None:
    """Create the new store, or go on with it, and give it the shards that stay as they are."""
    plan = update.plan
    if not exists(plan.path):
        create_store(plan.path, format=format, geometry=plan.geometry, attributes=plan.attributes(), rows=plan.rows())
        copy_notes(update.path, plan.path)
    missing = set(open_store(plan.path, incomplete=True).missing_shards())
    for shard in sorted(missing & set(update.kept)):
        adopt_shard(update.kept[shard], plan.path, shard)


def finish_update(update: Update) -> None:
    """Put the finished store in its place."""
    replace_store(update.plan.path, update.path)


def interrupted_updates(path: AnyPath) -> list[AnyPath]:
    """The folders of updates of the store at ``path`` that were interrupted, oldest first."""
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.update[0-9]*"), key=str)


def remove_interrupted_updates(path: AnyPath) -> None:
    """Delete what updates that were interrupted left beside the store at ``path``, which is whole."""
    for folder in interrupted_updates(path):
        remove_folder(folder)


def update_path(plan: StorePlan, fits: Callable[[Store], bool]) -> AnyPath:
    """Where the new store is made: begun already by an update that was interrupted and ``fits``, or a new folder."""
    begun = interrupted_updates(plan.path)
    stores = (open_store(folder, incomplete=True) for folder in begun if exists(folder))
    names = (f".{plan.path.name}.update{number:03d}" for number in range(len(begun) + 1))
    fresh = (plan.path.parent / name for name in names)
    fitting = (store.path for store in stores if same_rows(plan, store) and fits(store))
    return next(fitting, None) or next(path for path in fresh if path not in begun)
