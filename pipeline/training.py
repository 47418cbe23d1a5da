"""Training and evaluating runs: which model, which store, which folder, and the table of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from data_catalog.errors import UserError
from data_catalog.places import Place
from data_catalog.store import Store, open_store
from pipeline.progress import say, show
from pipeline.settings import choose_model, parse_size, resolve_device
from pipeline.stages import StoreRequest, find_or_make_store
from train.config import TrainConfig, changed, load_config
from train.describe import parameter_table, settings_table
from train.evaluate import evaluate
from train.export import export_network
from train.loop import FitResult, fit
from train.metrics import Scores
from train.models import build_network
from train.resume import load_network

MARKET_IDENTITIES = 751
"""Training identities of Market-1501, for which an experiment that is not a run is described."""


def train_model(
    *,
    model: str,
    seed: int,
    epochs: int | None,
    run_root: Path,
    overrides: Sequence[str],
    store_path: Place | None,
    size: str | None,
    fresh: bool,
    feed: str,
    initial: Path | None,
    **store_request: Any,
) -> FitResult:
    """Train ``model`` on the requested store, making the store first where it is missing; prints the scores."""
    device, why_device = resolve_device(store_request["device"])
    model, why_model = choose_model(model, device)
    config = load_config(model, chosen_settings(overrides, size, epochs, initial))
    say(f"model {config.name} ({why_model}); device {device} ({why_device}); seed {seed}")
    request = StoreRequest(size=f"{config.height}x{config.width}", **store_request)
    store = open_store(store_path) if store_path is not None else find_or_make_store(request)
    folder = run_root / f"{store.attributes['dataset']}-{config.name}-seed{seed}"
    say(f"run {folder}: {config.epochs} epochs of {config.height}x{config.width} images")
    workers = store_request["workers"]
    result = fit(config, store, folder, device=device, workers=workers, feed=feed, seed=seed, resume=not fresh)
    if result.scores is not None:
        show(scores_table(f"{folder}, {result.epochs} epochs", {config.name: result.scores}))
    say(f"checkpoints: {result.last_path}; curves: tensorboard --logdir {run_root}")
    say(f"next: make evaluate RUN_FOLDER={folder}, or make inspect {request.variables()}")
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


def evaluate_run(run: Path, *, store_path: Place | None, device: str, feature: str | None = None) -> Scores:
    """Scores of a run folder's best checkpoint (the last one where none is best) on its own store, or another.

    ``feature`` is ranked instead of the config's own; see ``evaluate.feature``.
    """
    network, checkpoint = load_network(run)
    config = checkpoint.config if feature is None else changed(checkpoint.config, {"evaluate.feature": feature})
    chosen, why = resolve_device(device)
    store = open_store(store_path or checkpoint.store["path"])
    say(f"{run}, epoch {checkpoint.epoch}; store {store.path}; device {chosen} ({why})")
    scores = evaluate(network, store, config=config, device=chosen)
    name = config.name if feature is None else f"{config.name}, {feature}"
    show(scores_table(str(store.path), {name: scores}))
    return scores


def describe_model(run_or_model: str) -> None:
    """Print the resolved config of a run or of an experiment, and the parameters of its network."""
    if Path(run_or_model).is_dir():
        _, checkpoint = load_network(Path(run_or_model))
        config, identities = checkpoint.config, checkpoint.num_identities
        say(f"{run_or_model}: epoch {checkpoint.epoch}, trained on {checkpoint.store['path']}, seed {checkpoint.seed}")
    else:
        config, identities = load_config(run_or_model), MARKET_IDENTITIES
    table = Table(title=f"{config.name} (* = not the default)", title_justify="left")
    for column in ("setting", "value", "meaning"):
        table.add_column(column)
    for row in settings_table(config):
        table.add_row(row.key, f"{row.value}{' *' if row.changed else ''}", row.help)
    show(table)
    weights = Table(title=f"parameters, {identities} identities", title_justify="left")
    weights.add_column("module")
    weights.add_column("parameters", justify="right")
    for name, number in parameter_table(config, identities):
        weights.add_row(name, f"{number:,}")
    show(weights)


def export_run(run: Path, target: Path | None) -> Path:
    """Write the inference network of a run's best checkpoint (the last one where none is best) to a file."""
    network, checkpoint = load_network(run)
    folder = run if run.is_dir() else run.parent
    path = target or folder / f"{checkpoint.config.name}.export.pt"
    export_network(network, checkpoint, path)
    say(f"{checkpoint.config.name}, epoch {checkpoint.epoch}: {path.stat().st_size / 1e6:.1f} MB, no guiding stream")
    return path


def untrained_scores(config: TrainConfig, store: Store, *, num_identities: int, seed: int, device: str) -> Scores:
    """What the same network scores before its first step: the floor that training has to leave behind."""
    return evaluate(build_network(config, num_identities, seed=seed), store, config=config, device=device)


def scores_table(title: str, scores: dict[str, Scores]) -> Table:
    """Rank-1, 5, 10 and mAP in percent, one row a network."""
    table = Table(title=title, title_justify="left")
    table.add_column("network")
    for column in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "queries"):
        table.add_column(column, justify="right")
    for name, row in scores.items():
        values = (row.rank_1, row.rank_5, row.rank_10, row.mean_average_precision, row.mean_inverse_negative_penalty)
        table.add_row(name, *(f"{100 * value:.1f}" for value in values), str(row.num_valid_queries))
    return table
