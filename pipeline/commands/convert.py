"""A store in the other format."""

from __future__ import annotations

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.names import EXPECTED, is_name
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.store import FORMATS, Store, exists, open_store
from densereid.pipeline.console import print_status
from densereid.pipeline.progress import ProgressReport


def convert_by_suffix(store: Store, target: AnyPath) -> None:
    """Copy ``store`` to ``target``, whose suffix says the format, with progress.

    Raises UserError for another suffix, and as :func:`densereid.data_catalog.store.store.convert_store`.
    """
    suffixes = {module.SUFFIX: name for name, module in FORMATS.items()}
    if target.suffix not in suffixes:
        raise UserError(f"the target {target} ends in '{target.suffix}'", f"expected one of {', '.join(suffixes)}")
    if not is_name(target.name):
        raise UserError(f"the target's name {target.name!r} cannot name a store", f"expected {EXPECTED}")
    begun = open_store(target, incomplete=True) if exists(target) else None
    missing = range(store.geometry.num_shards) if begun is None else begun.missing_shards()
    images = {shard: (rows := store.geometry.shard_slice(shard)).stop - rows.start for shard in missing}
    with ProgressReport("converting", sum(images.values())) as report:
        convert_store(
            store, target, format=suffixes[target.suffix], on_shard=lambda shard: report.advance(images[shard])
        )
    if not images:
        print_status(f"{target} is complete; nothing to do")
