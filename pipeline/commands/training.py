"""Training and evaluating runs: which model, which store, which folder, and the table of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import filesize
from rich.table import Table

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import Store, open_store
from densereid.pipeline.console import print_status, print_table
from densereid.pipeline.settings import choose_model, parse_size, resolve_device
from densereid.pipeline.stores import StoreRequest, ensure_store
from densereid.train.config.train_config import TrainConfig, load_config, with_settings
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.engine.describe import parameter_table, settings_by_dataset, settings_table
from densereid.train.engine.export import export_network
from densereid.train.engine.loop import FitResult, fit
from densereid.train.evaluation.evaluate import evaluate, protocol_embeddings
from densereid.train.evaluation.metrics import Scores, score_embeddings
from densereid.train.evaluation.reranking import Reranking, reranked_scores
from densereid.train.families import build_network

MARKET_IDENTITIES = 751
"""Training identities of Market-1501, for which an experiment that is not a run is described."""


def train_model(
    *,
    model: str,
    seed: int,
    epochs: int | None,
    run_root: Path,
    overrides: Sequence[str],
    store_path: AnyPath | None,
    size: str | None,
    fresh: bool,
    feed: str,
    initial: Path | None,
    **store_request: Any,
) -> FitResult:
    """Train ``model`` on the requested store, making the store first where it is missing; prints the scores."""
    device, why_device = resolve_device(store_request["device"])
    model, why_model = choose_model(model, device)
    given = open_store(store_path) if store_path is not None else None
    dataset = store_request["dataset"] if given is None else str(given.attributes["dataset"])
    config = load_config(model, chosen_settings(overrides, size, epochs, initial), dataset=dataset)
    print_status(f"model {config.name} ({why_model}); device {device} ({why_device}); seed {seed}")
    if config.tuned_for:
        print_status(
            f"settings for {config.tuned_for}: `python -m pipeline describe {model}` shows them; --set changes them"
        )
    request = StoreRequest(size=f"{config.height}x{config.width}", **store_request)
    store = ensure_store(request) if given is None else given
    folder = run_root / f"{store.attributes['dataset']}-{config.name}-seed{seed}"
    print_status(f"run {folder}: {config.epochs} epochs of {config.height}x{config.width} images")
    workers = store_request["workers"]
    result = fit(config, store, folder, device=device, workers=workers, feed=feed, seed=seed, resume=not fresh)
    if result.scores is not None:
        print_table(scores_table(f"{folder}, {result.epochs} epochs", {config.name: result.scores}))
    print_status(f"checkpoints: {result.last_path}; curves: tensorboard --logdir {run_root}")
    print_status(f"next: make evaluate RUN_FOLDER={folder}, or make inspect {request.variables()}")
    return result


def chosen_settings(
    overrides: Sequence[str], size: str | None, epochs: int | None, initial: Path | None = None
) -> dict[str, object]:
    """Changes of a config from a command's options; ``overrides`` are KEY=VALUE."""
    settings: dict[str, object] = {}
    if initial is not None:
        settings["model.initial"] = str(initial)
    if size is not None:
        settings["height"], settings["width"] = parse_size(size)
    if epochs is not None:
        settings["epochs"] = epochs
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text} has no value", "expected KEY=VALUE, for example schedule.peak=4e-4")
        settings[key] = value
    return settings


def evaluate_run(
    run: Path,
    *,
    store_path: AnyPath | None,
    device: str,
    feature: str | None = None,
    reranking: Reranking | None = None,
) -> Scores:
    """Scores of a run folder's best checkpoint (the last one where none is best) on its own store, or another.

    ``feature`` is ranked instead of the config's own; see ``evaluate.feature``. With ``reranking`` a second line has
    the re-ranked scores, and those are returned.
    """
    network, checkpoint = load_trained_network(run)
    config = checkpoint.config if feature is None else with_settings(checkpoint.config, {"evaluate.feature": feature})
    chosen, why = resolve_device(device)
    store = open_store(store_path or checkpoint.store["path"])
    print_status(f"{run}, epoch {checkpoint.epoch}; store {store.path}; device {chosen} ({why})")
    found = protocol_embeddings(network, store, config=config, device=chosen)
    name = config.name if feature is None else f"{config.name}, {feature}"
    scores = {name: score_embeddings(*found[Split.QUERY], *found[Split.GALLERY])}
    if reranking is not None:
        (query, query_labels), (gallery, gallery_labels) = found[Split.QUERY], found[Split.GALLERY]
        name = f"{name}, re-ranked"
        scores[name] = reranked_scores(query.to(chosen), query_labels, gallery.to(chosen), gallery_labels, reranking)
    print_table(scores_table(str(store.path), scores))
    return scores[name]


def choose_reranking(rerank: bool, *, keep_junk: bool) -> Reranking | None:
    """How a command's options say that scores are re-ranked; None for not at all."""
    if keep_junk and not rerank:
        raise UserError("KEEP_JUNK says how scores are re-ranked, and RERANK is not set", "Add RERANK=1 (--rerank).")
    return Reranking(keep_junk=keep_junk) if rerank else None


def describe_model(run_or_model: str) -> None:
    """Print the resolved config of a run or of an experiment, and the parameters of its network."""
    if Path(run_or_model).is_dir():
        _, checkpoint = load_trained_network(Path(run_or_model))
        config, identities = checkpoint.config, checkpoint.num_identities
        print_status(
            f"{run_or_model}: epoch {checkpoint.epoch}, trained on {checkpoint.store['path']}, seed {checkpoint.seed}"
        )
    else:
        config, identities = load_config(run_or_model), MARKET_IDENTITIES
        _show_datasets(run_or_model)
    table = Table(title=f"{config.name} (* = not the default)", title_justify="left")
    for column in ("setting", "value", "meaning"):
        table.add_column(column)
    for row in settings_table(config):
        table.add_row(row.key, f"{row.value}{' *' if row.is_changed else ''}", row.help)
    print_table(table)
    weights = Table(title=f"parameters, {identities} identities", title_justify="left")
    weights.add_column("module")
    weights.add_column("parameters", justify="right")
    for name, number in parameter_table(config, identities):
        weights.add_row(name, f"{number:,}")
    print_table(weights)


def _show_datasets(model: str) -> None:
    """Print what the experiment changes on single datasets, where it does."""
    for dataset, settings in settings_by_dataset(model).items():
        changes = ", ".join(f"{key}={value}" for key, value in settings.items())
        print_status(f"on {dataset}: {changes or 'the same'}")


def export_run(run: Path, target: Path | None) -> Path:
    """Write the inference network of a run's best checkpoint (the last one where none is best) to a file."""
    network, checkpoint = load_trained_network(run)
    folder = run if run.is_dir() else run.parent
    path = target or folder / f"{checkpoint.config.name}.export.pt"
    export_network(network, checkpoint, path)
    size = filesize.decimal(path.stat().st_size)
    print_status(f"{checkpoint.config.name}, epoch {checkpoint.epoch}: {size}, what inference needs")
    return path


def untrained_scores(config: TrainConfig, store: Store, *, num_identities: int, seed: int, device: str) -> Scores:
    """What the same network scores before its first step: the floor that training has to leave behind."""
    return evaluate(build_network(config, num_identities, seed=seed), store, config=config, device=device)


def scores_table(title: str, scores: dict[str, Scores]) -> Table:
    """Rank-1, 5, 10, mAP, the original Market-1501 code's mAP (trapezoids) and mINP in percent, one row a network."""
    table = Table(title=title, title_justify="left")
    table.add_column("network")
    columns = {
        "Rank-1": "rank_1", "Rank-5": "rank_5", "Rank-10": "rank_10", "mAP": "mean_average_precision",
        "mAP (trapezoid)": "trapezoid_average_precision", "mINP": "mean_inverse_negative_penalty",
    }  # fmt: skip
    for column in (*columns, "queries"):
        table.add_column(column, justify="right")
    for name, row in scores.items():
        values = (f"{100 * getattr(row, score):.1f}" for score in columns.values())
        table.add_row(name, *values, str(row.num_valid_queries))
    return table
