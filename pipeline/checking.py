"""What is there and whether it is whole: the table of all stores, and the verification of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.table import Table

from data_catalog.errors import UserError
from data_catalog.store import Store, exists, open_store
from pipeline.progress import ProgressReport, say
from preprocess.verify import damaged_arrays, differing_rows


def stores_table(store_root: Path) -> Table:
    """One row a store under ``store_root``: what it holds, how much of it is written, how large it is."""
    table = Table(title=f"stores in {store_root}", title_justify="left")
    for column in ("store", "dataset", "estimator"):
        table.add_column(column)
    for column in ("images", "shards", "no person", "failed", "on disk"):
        table.add_column(column, justify="right")
    for path in sorted(path for path in store_root.glob("*") if exists(path)):
        table.add_row(path.name, *_facts(path))
    return table


def _facts(path: Path) -> list[str]:
    try:
        store = open_store(path, incomplete=True)
    except UserError as error:
        return [error.problem]
    markers = store.markers().values()
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return [
        str(store.attributes["dataset"]),
        str(store.attributes["estimator"]["name"]),
        f"{store.geometry.num_samples:,}",
        f"{len(markers)}/{store.geometry.num_shards}",
        str(sum(marker.get("no_person", 0) for marker in markers)),
        str(sum(len(marker.get("failures", [])) for marker in markers)),
        f"{size / 1e6:,.0f} MB",
    ]


def verify_store(store: Store, *, sample: int, seed: int) -> None:
    """Check every shard's checksums and recompute ``sample`` rows; UserError that names what is damaged."""
    problems = []
    with ProgressReport("verifying", store.geometry.num_samples) as report:
        for shard, names in damaged_arrays(store):
            rows = store.geometry.shard_slice(shard)
            problems += [f"shard {shard}: {name} is damaged" for name in names]
            report.advance(rows.stop - rows.start, failed=len(names))
    if not problems:
        generator = np.random.default_rng(seed)
        count = min(sample, store.geometry.num_samples)
        rows_checked = np.sort(generator.choice(store.geometry.num_samples, count, replace=False))
        for name, rows_differing in differing_rows(store, rows_checked).items():
            problems += [f"row {row}: {name} does not follow from image and iuv" for row in rows_differing]
    if problems:
        raise UserError(
            f"{store.path} is damaged:\n" + "\n".join(f"  {problem}" for problem in problems[:20]),
            "delete the marker of each damaged shard (shards/NNNNN.json in the store) and preprocess again",
        )
    say(f"{store.path} is whole: {len(store.markers())} shards by checksum, {len(rows_checked)} rows computed again")
