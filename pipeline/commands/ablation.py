"""The papers' ablation tables: their rows trained one after the other, ours beside the published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from densereid.data_catalog.datasets.attributes import find_attributes, has_attributes
from densereid.data_catalog.datasets.lookup import find_spec, locate
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store, open_store
from densereid.pipeline.console import is_first_process, print_status
from densereid.pipeline.reports.ablation_report import report
from densereid.pipeline.reports.paper_tables import Row, Table, find_table
from densereid.pipeline.settings import choose_model, resolve_device
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import ensure_store
from densereid.train.config.experiment import small_form
from densereid.train.config.train_config import TrainConfig, load_config, with_settings
from densereid.train.engine.checkpoint import LAST, load_trained_network
from densereid.train.engine.loop import fit
from densereid.train.engine.processes import start_fabric
from densereid.train.engine.resume import check_folder
from densereid.train.evaluation.evaluate import check_scorable, evaluate
from densereid.train.evaluation.metrics import Scores


@dataclass(frozen=True)
class AblationRequest:
    """A table of a paper as it is asked for."""

    store: StoreRequest
    """Its size is not looked at: the models have their own."""
    table: str
    """The name of a table in ``reports/tables.yaml``."""
    model: str
    """What every row is a variant of: a model's name, ``auto``, or a YAML file."""
    seeds: tuple[int, ...]
    settings: Mapping[str, object]
    """Changes of every row's settings by dotted key; the row's own win."""
    run_root: Path
    store_path: AnyPath | None = None
    """This store instead of the requested one."""
    feed: str = "auto"


def run_ablation(request: AblationRequest) -> Path:
    """Train and evaluate the rows of a table on the requested store; prints and writes them; the Markdown's path.

    Rows that differ only in the ranked feature share a run; finished runs are not repeated. Rows that need attributes
    are left out, with a notice, where the dataset has none.
    """
    table = find_table(request.table)
    device, why_device = resolve_device(request.store.device)
    model, why_model = choose_model(request.model, device, table.base)
    given = open_store(request.store_path) if request.store_path else None
    dataset = request.store.dataset if given is None else str(given.attributes["dataset"])
    folders = _attribute_folders(dataset, request.store)
    rows = _possible_rows(table, dataset, folders)
    store = _ranked_store(row_config(table, rows[0], model, request.settings, dataset), given, request.store, device)
    configs = _configs(table, rows, model, request.settings, dataset, folders)
    folder = request.run_root / f"ablation-{store.attributes['dataset']}-{Path(model).stem}"
    runs = f"{plural(len(configs), 'network')} x {plural(len(request.seeds), 'seed')}"
    print_status(f"table {table.name}: {runs}, variants of {model} ({why_model})")
    print_status(f"device {device} ({why_device}); runs in {folder}")
    _train_rows(configs, store, folder, device, request)
    if not is_first_process():
        return folder / f"{table.name}.md"
    scores = {row.label: [_score(folder, row, seed, store, device) for seed in request.seeds] for row in rows}
    return report(table, scores, request.seeds, folder, str(store.attributes["dataset"]))


def _train_rows(
    configs: Mapping[str, TrainConfig], store: Store, folder: Path, device: str, request: AblationRequest
) -> None:
    """Train what is not trained yet; a run of other settings is refused before the first one trains."""
    workers, feed, lengthen = request.store.workers, request.feed, "epochs" in request.settings
    runs = [(folder / f"{name}-seed{seed}", config, seed) for name, config in configs.items() for seed in request.seeds]
    for run, config, seed in runs:
        check_folder(run, config, seed=seed, lengthen=lengthen)
    for run, config, seed in runs:
        print_status(f"{run}: {plural(config.epochs, 'epoch')}")
        fit(config, store, run, device=device, workers=workers, feed=feed, seed=seed, lengthen=lengthen)


def row_config(
    table: Table, row: Row, model: str, settings: Mapping[str, object], dataset: str | None = None
) -> TrainConfig:
    """The config of one row on ``dataset``: its experiment as a variant of ``model``, with the options' ``settings``.

    The row's own settings win, or the rows of a sweep would all be the same.
    """
    changes = {**(table.recipe if row.recipe else {}), **settings, **row.settings}
    if row.config == table.base:
        return load_config(model, changes, dataset=dataset)
    if model == table.base:
        return load_config(row.config, changes, dataset=dataset)
    if model == small_form(table.base):
        return load_config(small_form(row.config), changes)
    return load_config(row.config, changes, base=model, dataset=dataset)


def _configs(
    table: Table,
    rows: Sequence[Row],
    model: str,
    settings: Mapping[str, object],
    dataset: str,
    folders: Sequence[Path],
) -> dict[str, TrainConfig]:
    """The config of each run. Raises UserError where a file that a row reads is not there."""
    configs = {}
    for row in rows:
        files = {"magnifier.attributes": str(find_attributes(dataset, folders))} if row.attributes else {}
        configs[row.run] = row_config(table, row, model, {**settings, **files}, dataset)
    return configs


def _possible_rows(table: Table, dataset: str, folders: Sequence[Path]) -> tuple[Row, ...]:
    """The rows but those that the dataset cannot have, which are printed.

    Where the dataset is on disk without its attribute file, the UserError comes now, not after preprocessing.
    """
    left_out = [row.label for row in table.rows if row.attributes and not has_attributes(dataset)]
    for label in left_out:
        print_status(f"left out: {label}, which needs person attributes; {dataset} has none")
    rows = tuple(row for row in table.rows if row.label not in left_out)
    if any(row.attributes for row in rows) and len(folders) > 1:
        find_attributes(dataset, folders)
    return rows


def _attribute_folders(dataset: str, request: StoreRequest) -> list[Path]:
    """Where the dataset's attribute file may lie: its own folder, if it is on disk, and DATA_ROOT."""
    root = request.data_root
    own = locate(find_spec(dataset, request.catalog), root) if has_attributes(dataset) else None
    return [own, root] if own is not None else [root]


def _ranked_store(config: TrainConfig, given: Store | None, request: StoreRequest, device: str) -> Store:
    with start_fabric(device, precision=config.precision).rank_zero_first():
        store = given if given is not None else ensure_store(replace(request, size=(config.height, config.width)))
    check_scorable(store)  # a table is nothing but scores
    return store


def _score(folder: Path, row: Row, seed: int, store: Store, device: str) -> Scores:
    """Of the last checkpoint: the best one was chosen by looking at the test set."""
    network, checkpoint = load_trained_network(folder / f"{row.run}-seed{seed}" / LAST)
    config = with_settings(checkpoint.config, {"evaluate.feature": row.feature})
    return evaluate(network, store, config=config, device=device)
