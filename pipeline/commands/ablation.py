"""The papers' ablation tables: their rows trained one after the other, ours beside the published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densereid.data_catalog.datasets.attributes import find_attributes, has_attributes
from densereid.data_catalog.datasets.lookup import find_spec, locate
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.store import Store, open_store
from densereid.pipeline.commands.training import chosen_settings
from densereid.pipeline.console import print_status
from densereid.pipeline.options import whole_numbers
from densereid.pipeline.reports.ablation_report import report
from densereid.pipeline.reports.paper_tables import TABLES, Row, Table
from densereid.pipeline.settings import choose_model, resolve_device
from densereid.pipeline.stores import StoreRequest, ensure_store
from densereid.train.config.train_config import TrainConfig, load_config, with_settings
from densereid.train.engine.checkpoint import LAST, load_trained_network
from densereid.train.engine.loop import fit
from densereid.train.evaluation.evaluate import evaluate, has_protocol
from densereid.train.evaluation.metrics import Scores


def run_ablation(
    *,
    table: str,
    model: str,
    seeds: str,
    epochs: int | None,
    run_root: Path,
    overrides: Sequence[str],
    store_path: AnyPath | None,
    size: str | None,
    feed: str,
    **store_request: Any,
) -> Path:
    """Train and evaluate the rows of ``table`` on the requested store; prints and writes them; the Markdown's path.

    ``model`` is what every row is a variant of. Rows that differ only in the ranked feature share a run; finished
    runs are not repeated. Rows that need attributes are left out, with a notice, where the dataset has none.
    """
    chosen, numbers = TABLES[table], whole_numbers("SEEDS", seeds)
    settings = chosen_settings(overrides, size, epochs)
    device, why_device = resolve_device(store_request["device"])
    model, why_model = choose_model(model, device, chosen.base)
    dataset = str(open_store(store_path).attributes["dataset"]) if store_path else store_request["dataset"]
    rows = _possible_rows(chosen, dataset, store_request)
    store = _ranked_store(row_config(chosen, rows[0], model, settings, dataset), store_path, store_request)
    configs = _configs(chosen, rows, model, settings, dataset, store_request)
    folder = run_root / f"ablation-{store.attributes['dataset']}-{Path(model).stem}"
    print_status(f"table {table}: {len(configs)} networks x {len(numbers)} seeds, variants of {model} ({why_model})")
    print_status(f"device {device} ({why_device}); runs in {folder}")
    for name, config in configs.items():
        for seed in numbers:
            run = folder / f"{name}-seed{seed}"
            print_status(f"{run}: {config.epochs} epochs")
            fit(config, store, run, device=device, workers=store_request["workers"], feed=feed, seed=seed)
    scores = {row.label: [_score(folder, row, seed, store, device) for seed in numbers] for row in rows}
    return report(chosen, scores, numbers, folder, str(store.attributes["dataset"]))


def row_config(
    table: Table, row: Row, model: str, settings: dict[str, object], dataset: str | None = None
) -> TrainConfig:
    """The config of one row on ``dataset``: its experiment as a variant of ``model``, with the options' ``settings``.

    The row's own settings win, or the rows of a sweep would all be the same.
    """
    changes = {**(table.recipe if row.recipe else {}), **settings, **row.settings}
    if row.config == table.base:
        return load_config(model, changes, dataset=dataset)
    if model == table.base:
        return load_config(row.config, changes, dataset=dataset)
    if model == f"{table.base}-small":
        return load_config(f"{row.config}-small", changes)
    return load_config(row.config, changes, base=model, dataset=dataset)


def _configs(
    table: Table,
    rows: Sequence[Row],
    model: str,
    settings: dict[str, object],
    dataset: str,
    store_request: dict[str, Any],
) -> dict[str, TrainConfig]:
    """The config of each run. Raises UserError where a file that a row reads is not there."""
    configs = {}
    for row in rows:
        files = {}
        if row.attributes:
            files["magnifier.attributes"] = str(find_attributes(dataset, _folders(dataset, store_request)))
        configs[row.run] = row_config(table, row, model, {**settings, **files}, dataset)
    return configs


def _possible_rows(table: Table, dataset: str, store_request: dict[str, Any]) -> tuple[Row, ...]:
    """The rows but those that the dataset cannot have, which are told.

    Where the dataset is on disk without its attribute file, the UserError comes now, not after preprocessing.
    """
    left_out = [row.label for row in table.rows if row.attributes and not has_attributes(dataset)]
    for label in left_out:
        print_status(f"left out: {label}, which needs person attributes; {dataset} has none")
    rows = tuple(row for row in table.rows if row.label not in left_out)
    folders = _folders(dataset, store_request)
    if any(row.attributes for row in rows) and len(folders) > 1:
        find_attributes(dataset, folders)
    return rows


def _folders(dataset: str, store_request: dict[str, Any]) -> list[Path]:
    """Where a file that belongs to the dataset may lie: its own folder, if it is on disk, and DATA_ROOT."""
    root = Path(store_request["data_root"])
    own = locate(find_spec(dataset, store_request.get("catalog")), root) if has_attributes(dataset) else None
    return [own, root] if own is not None else [root]


def _ranked_store(config: TrainConfig, store_path: AnyPath | None, store_request: dict[str, Any]) -> Store:
    if store_path is not None:
        store = open_store(store_path)
    else:
        store = ensure_store(StoreRequest(size=f"{config.height}x{config.width}", **store_request))
    if not has_protocol(store):
        raise UserError(f"{store.path} has no query and gallery to rank", "Choose a dataset with both (market, ...).")
    return store


def _score(folder: Path, row: Row, seed: int, store: Store, device: str) -> Scores:
    """Of the last checkpoint: the best one was chosen by looking at the test set."""
    network, checkpoint = load_trained_network(folder / f"{row.run}-seed{seed}" / LAST)
    config = with_settings(checkpoint.config, {"evaluate.feature": row.feature})
    return evaluate(network, store, config=config, device=device)
