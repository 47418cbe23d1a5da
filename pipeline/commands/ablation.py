"""The papers' ablation tables: their rows trained one after the other, ours beside the published numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from densereid.data_catalog.datasets.attributes import find_attributes, has_attributes
from densereid.data_catalog.datasets.lookup import FOLDER, find_spec, locate, split_name
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split
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
from densereid.train.evaluation.directions import score_both_directions
from densereid.train.evaluation.evaluate import check_scorable, protocol_embeddings
from densereid.train.evaluation.metrics import Scores, score_embeddings
from densereid.train.evaluation.reranking import Reranking, reranked_scores

_ATTRIBUTES, _INITIAL = "magnifier.attributes", "model.initial"
"""Files and runs that only some rows of a table read."""


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
    splits: int = 0
    """So many random splits of a dataset that has no official one, each scored in both directions; 0 for the store."""


def run_ablation(request: AblationRequest) -> Path:
    """Train and evaluate the rows of a table on the requested store; prints and writes them; the Markdown's path.

    Rows that differ only in what is ranked share a run; finished runs are not repeated. Rows that need attributes, or a
    run to start from, are left out with a notice where there is none.
    """
    table = find_table(request.table)
    if not request.splits:
        folder, dataset, scores = _scored(table, request)
        return report(table, scores, request.seeds, folder, dataset) if scores else folder / f"{table.name}.md"
    base, found = request.store.dataset, defaultdict[str, list[Scores]](list)
    for one in _of_each_split(request):
        for label, values in _scored(table, one, both_directions=True)[2].items():
            found[label] += values
    folder = _folder(request, base, choose_model(request.model, resolve_device(request.store.device)[0], table.base)[0])
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{seed} of split {number}" for number in range(request.splits) for seed in request.seeds]
    return report(table, found, names, folder, base) if found else folder / f"{table.name}.md"


def _folder(request: AblationRequest, dataset: str, model: str) -> Path:
    """Where the runs and the table of a dataset lie."""
    return request.run_root / f"ablation-{dataset}-{Path(model).stem}"


def _of_each_split(request: AblationRequest) -> list[AblationRequest]:
    """The request for each of its splits. Raises UserError where the dataset has no random ones."""
    name = request.store.dataset
    if request.store_path is not None:
        raise UserError("SPLITS makes a store for each split, and STORE_PATH names one", "Leave one of them out.")
    if name == FOLDER or find_spec(name, request.store.catalog).halves is None:
        raise UserError(
            f"{name} has no random splits, and SPLITS is {request.splits}",
            "Leave it out: its protocol is fixed. cuhk01 has random halves.",
        )
    stores = (replace(request.store, dataset=split_name(name, number)) for number in range(request.splits))
    return [replace(request, store=store, splits=0) for store in stores]


def _scored(
    table: Table, request: AblationRequest, *, both_directions: bool = False
) -> tuple[Path, str, dict[str, list[Scores]]]:
    """The folder of the runs, the dataset, and the scores of each row by its label, one a seed; trained where they are
    missing. No scores in any process but the first."""
    device, why_device = resolve_device(request.store.device)
    model, why_model = choose_model(request.model, device, table.base)
    given = open_store(request.store_path) if request.store_path else None
    dataset = request.store.dataset if given is None else str(given.attributes["dataset"])
    folders = _attribute_folders(dataset, request.store)
    rows = _possible_rows(table, dataset, folders, request.settings)
    store = _ranked_store(row_config(table, rows[0], model, request.settings, dataset), given, request.store, device)
    configs = _configs(table, rows, model, request.settings, dataset, folders)
    folder = _folder(request, str(store.attributes["dataset"]), model)
    runs = f"{plural(len(configs), 'network')} x {plural(len(request.seeds), 'seed')}"
    print_status(f"table {table.name}: {runs}, variants of {model} ({why_model})")
    print_status(f"device {device} ({why_device}); runs in {folder}")
    _train_rows(configs, store, folder, device, request)
    scores = {
        row.label: [_score(folder, row, seed, store, device, both_directions) for seed in request.seeds]
        for row in (rows if is_first_process() else ())
    }
    return folder, str(store.attributes["dataset"]), scores


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
    only = {_ATTRIBUTES} | ({_INITIAL} if any(row.initial for row in table.rows) else set())
    shared = {key: value for key, value in settings.items() if key not in only}
    configs = {}
    for row in rows:
        own = {_INITIAL: settings[_INITIAL]} if row.initial else {}
        if row.attributes:
            own[_ATTRIBUTES] = settings.get(_ATTRIBUTES) or str(find_attributes(dataset, folders))
        configs[row.run] = row_config(table, row, model, {**shared, **own}, dataset)
    return configs


def _possible_rows(
    table: Table, dataset: str, folders: Sequence[Path], settings: Mapping[str, object]
) -> tuple[Row, ...]:
    """The rows as the paper has them on the dataset, but those that cannot be, which are printed.

    Where the dataset is on disk without its attribute file, the UserError comes now, not after preprocessing; and so
    does that for a file that the command names and that is not there, or that no row would read.
    """
    rows, given = [row.of_dataset(dataset) for row in table.rows], settings.get(_ATTRIBUTES)
    _check_given_attributes(table, rows, given)
    lacking = {
        f"person attributes; {dataset} has none": not given and not has_attributes(dataset),
        f"a run to start from: --set {_INITIAL}=RUN": not settings.get(_INITIAL),
    }
    possible = []
    for row in rows:
        needs = zip(lacking.items(), (row.attributes, row.initial), strict=True)
        missing = [what for (what, is_lacking), is_needed in needs if is_lacking and is_needed]
        for what in missing:
            print_status(f"left out: {row.label}, which needs {what}")
        possible += [] if missing else [row]
    if any(row.attributes for row in possible) and not given and len(folders) > 1:
        find_attributes(dataset, folders)
    return tuple(possible)


def _check_given_attributes(table: Table, rows: Sequence[Row], given: object) -> None:
    if not given:
        return
    if not any(row.attributes for row in rows):
        raise UserError(
            f"no row of table {table.name} has attributes, and {_ATTRIBUTES} is {given}",
            "Leave it out, or choose TABLE=magnifiernet-v1-4.",
        )
    if not Path(str(given)).is_file():
        raise UserError(f"{_ATTRIBUTES}: {given} does not exist", "Correct its path.")


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


def _score(folder: Path, row: Row, seed: int, store: Store, device: str, both_directions: bool) -> Scores:
    """Of the last checkpoint: the best one was chosen by looking at the test set."""
    network, checkpoint = load_trained_network(folder / f"{row.run}-seed{seed}" / LAST)
    config = with_settings(checkpoint.config, {"evaluate.feature": row.feature})
    found = protocol_embeddings(network, store, config=config, device=device)
    if not row.rerank:
        score = score_both_directions if both_directions else score_embeddings
        return score(*found[Split.QUERY], *found[Split.GALLERY])
    (query, query_labels), (gallery, gallery_labels) = found[Split.QUERY], found[Split.GALLERY]
    return reranked_scores(query.to(device), query_labels, gallery.to(device), gallery_labels, Reranking())
