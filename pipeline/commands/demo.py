"""`make demo`: the whole chain on synthetic pedestrians, from nothing to scores and a page about them."""

from __future__ import annotations

import time
from pathlib import Path

import click

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store
from densereid.pipeline.commands.dense_pose.exact_maps import compare_with_maps, in_words
from densereid.pipeline.commands.inspect import inspect_store
from densereid.pipeline.commands.networks.run_report import report_runs
from densereid.pipeline.commands.training import untrained_scores
from densereid.pipeline.console import print_next_commands, print_status, print_table
from densereid.pipeline.invocation import next_command
from densereid.pipeline.reports.network_tables import scores_table
from densereid.pipeline.settings import defaults
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import ensure_store, wanted_dataset
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.engine.checkpoint import load_checkpoint
from densereid.train.engine.loop import FitResult, fit

_MODEL = "dsa-reid-small"
_SHARD_ROWS = 512
_PICTURES = 12
_COMPARED = 200
"""Images whose dense pose is compared with the exact maps."""


def run_demo(folder: Path, *, seed: int, store_format: str, workers: int) -> None:
    """Render, preprocess, train, evaluate and inspect inside ``folder``, on the CPU; finished stages are kept."""
    started = time.monotonic()
    config = load_config(_MODEL)
    print_status(f"the demo works in {folder}; delete it to start anew. It needs no GPU and no download.")
    request = _store_request(folder, config, store_format, workers)
    store = ensure_store(request)
    found = compare_with_maps(store, wanted_dataset(request), images=_COMPARED, seed=seed)
    print_status(f"the embedded network's dense pose against the renderer's exact maps: {in_words(found)}")
    sheet = inspect_store(store, folder / "inspect", images=_PICTURES, seed=seed)
    run = folder / f"{store.attributes['dataset']}-{_MODEL}-seed{seed}"
    print_status(f"training {_MODEL} in {run}")
    result = fit(config, store, run, device="cpu", workers=0, seed=seed)
    _conclude(config, store, result, sheet=sheet, seed=seed, started=started)


def _store_request(folder: Path, config: TrainConfig, store_format: str, workers: int) -> StoreRequest:
    return StoreRequest(
        dataset="synthetic",
        data_root=folder / "data",
        store_root=folder / "stores",
        store=store_format,
        size=(config.height, config.width),
        dsap_size=defaults().dsap_size,
        collision=defaults().collision,
        estimator="embedded",
        shard_rows=_SHARD_ROWS,
        device="cpu",
        workers=workers,
    )


def _conclude(config: TrainConfig, store: Store, result: FitResult, *, sheet: Path, seed: int, started: float) -> None:
    identities = load_checkpoint(result.last_path).num_identities
    untrained = untrained_scores(config, store, num_identities=identities, seed=seed, device="cpu")
    if result.scores is None:
        raise UserError(f"the demo has no scores: {result.problem}", "Delete its folder and start it anew.")
    rows = {"untrained": untrained, plural(result.epochs, "epoch"): result.scores}
    print_table(scores_table(f"{_MODEL} on identities never seen in training (%)", rows))
    page = report_runs([result.run_folder], store_path=store.path, device="cpu")
    print_status(f"the demo took {time.monotonic() - started:.0f} s")
    click.echo(f"contact sheet: {sheet}")
    click.echo(f"store:         {store.path}")
    click.echo(f"report:        {page}")
    ranked, own = next_lines(result.run_folder)
    print_next_commands(ranked)
    print_status(f"and with Market-1501 under {defaults().data_root}/:")
    print_next_commands(own)


def next_lines(run: Path) -> tuple[str, str]:
    """What can be done after the demo, which its own training is not: with its run, and with Market-1501."""
    ranked = next_command("evaluate", run_folder=run, rerank=1)
    return ranked, next_command("preprocess", without=("store", "workers"), dataset="market", estimator="densepose")
