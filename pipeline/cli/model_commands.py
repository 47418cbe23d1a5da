"""Commands about networks: trained, evaluated, described, exported, compared.

A command imports what it does in its body: the heavy libraries take seconds that ``--help`` does not need.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from densereid.pipeline.cli import options
from densereid.pipeline.cli.command import command
from densereid.pipeline.cli.parameter_types import LOCATION, NAME_OR_PATH, FiniteRange, LocalPath
from densereid.pipeline.cli.variables import say_unused
from densereid.pipeline.console import print_dry_run, print_next_commands
from densereid.pipeline.exit import EXIT_SOME_FAILED
from densereid.pipeline.invocation import next_command

if TYPE_CHECKING:
    from densereid.data_catalog.files.paths import AnyPath
    from densereid.pipeline.store_request import StoreRequest

_Size = tuple[int, int]
_Settings = tuple[tuple[str, str], ...]


@command("train")
@options.model_store_options
@options.model
@options.seed
@options.epochs
@options.feed
@options.initial
@options.run_root
@options.overrides
@options.store_path
@click.option("--fresh", is_flag=True, help="Start again; discards the run's checkpoints.")
@options.dry_run
def train_command(
    request: StoreRequest, model_size: _Size | None, model: str, seed: int, epochs: int | None, feed: str,
    initial: Path | None, run_root: Path, overrides: _Settings, store_path: AnyPath | None, fresh: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Train a network on a store, making the store first where it is missing; continues by itself."""
    from densereid.pipeline.commands.training import (
        TrainRequest,
        chosen_settings,
        train_model,
        training_dry_run_report,
    )

    settings = chosen_settings(overrides, model_size, epochs, initial)
    wanted = TrainRequest(request, model, settings, seed, run_root, store_path, feed, fresh)
    if dry_run:
        print_dry_run(training_dry_run_report(wanted))
        return
    result = train_model(wanted)
    click.echo(result.run_folder)
    if result.problem:
        sys.exit(EXIT_SOME_FAILED)


@command("evaluate")
@options.run_folder
@click.option("--store-path", type=LOCATION, help="Another store than the one of the training.")
@click.option("--feature", help="Feature that is ranked: f, z, z_global, ...; the config's own unless given.")
@click.option("--rerank", is_flag=True, help="Also re-ranked: k-reciprocal, k1=20, k2=6, lambda=0.3.")
@click.option(
    "--against", type=LocalPath(), multiple=True, help="Another run, for its scores and how much more it has."
)
@click.option(
    "--split-run",
    type=LocalPath(),
    multiple=True,
    help="The run of another random split (cuhk01-split1): mean and deviation of all, query and gallery in turn.",
)
@click.option("--keep-junk", is_flag=True, help="Junk (-1) takes part in re-ranking, unranked.")
@options.checkpoint
@options.device
def evaluate_command(
    run_folder: Path, store_path: AnyPath | None, feature: str | None, rerank: bool, against: tuple[Path, ...],
    split_run: tuple[Path, ...], keep_junk: bool, checkpoint: str, device: str,
) -> None:  # fmt: skip
    """CMC and mAP of a trained run on its store's query and gallery."""
    from densereid.pipeline.commands.networks.evaluation import choose_reranking, compare_runs, evaluate_run
    from densereid.pipeline.commands.networks.splits import evaluate_splits

    reranking = choose_reranking(rerank, keep_junk=keep_junk)
    evaluate_run(
        run_folder, store_path=store_path, device=device, feature=feature, reranking=reranking,
        checkpoint_name=f"{checkpoint}.pt",
    )  # fmt: skip
    if against:
        compare_runs(
            run_folder, against, store_path=store_path, device=device, feature=feature,
            checkpoint_name=f"{checkpoint}.pt",
        )  # fmt: skip
    if split_run:
        evaluate_splits((run_folder, *split_run), device=device, feature=feature, checkpoint_name=f"{checkpoint}.pt")
    print_next_commands(next_command("report", run_folder=run_folder), next_command("export", run_folder=run_folder))


@command("report")
@click.argument("run_folder", nargs=-1, type=LocalPath())
@options.naming_options
@options.store_path
@click.option("--feature", help="Feature that is ranked: f, z, z_global, ...; the config's own unless given.")
@options.checkpoint
@options.device
@click.option(
    "--to",
    "target",
    type=LocalPath(dir_okay=False),
    help="The file; beside the evaluation unless given, of a store in RUN_ROOT.",
)
@options.run_root
@options.images
@options.seed
def report_command(
    run_folder: tuple[Path, ...], request: StoreRequest, store_path: AnyPath | None, feature: str | None,
    checkpoint: str, target: Path | None, run_root: Path, images: int, seed: int,
) -> None:  # fmt: skip
    """Write one page about a run, about several side by side, or about a store: a file that opens in any browser.

    Of a run: scores with intervals, learning curves, what it gets wrong and right, where it looks. Without RUN_FOLDER,
    of the store that the other options name: images, masks, how often each part is seen, what went wrong.
    """
    from densereid.data_catalog.store.store import exists

    if not run_folder or (len(run_folder) == 1 and exists(run_folder[0])):
        from densereid.pipeline.commands.inspect import report_store
        from densereid.pipeline.store_choice import find_store

        say_unused(("feature", "checkpoint", "device"), "the report of a store")
        store = find_store(request, run_folder[0] if run_folder else store_path)
        click.echo(report_store(store, target or run_root / "reports" / f"{store.path.name}.html", images, seed=seed))
        return
    from densereid.pipeline.commands.networks.run_report import report_runs
    from densereid.pipeline.store_request import NAMING

    say_unused((*NAMING, "run_root", "images", "seed"), "the report of a run")
    path = report_runs(
        run_folder, store_path=store_path, device=request.device, feature=feature, checkpoint_name=f"{checkpoint}.pt",
        target=target,
    )  # fmt: skip
    click.echo(path)


@command("describe")
@click.argument("run_or_model", required=False, type=NAME_OR_PATH)
def describe_command(run_or_model: str | None) -> None:
    """Every setting of a run or an experiment with its meaning, and the parameters of its network.

    Without RUN_OR_MODEL, the names of all experiments.
    """
    if run_or_model is None:
        from densereid.train.config.train_config import known_configs

        click.echo("\n".join(known_configs()))
        return
    from densereid.pipeline.commands.training import describe_model

    describe_model(run_or_model)


@command("export")
@options.run_folder
@options.checkpoint
@options.export_formats
@click.option(
    "--to", "target", type=LocalPath(), help="The file, of several formats without its suffix; in the run's folder."
)
def export_command(run_folder: Path, checkpoint: str, format: tuple[str, ...], target: Path | None) -> None:
    """Write a run's inference network, without what only trains it, for this project or for other code."""
    from densereid.pipeline.commands.networks.export import export_run

    paths = export_run(run_folder, target, formats=format, checkpoint_name=f"{checkpoint}.pt")
    click.echo("\n".join(map(str, paths)))
    print_next_commands(next_command("activations", runs=[run_folder]))


@command("ablation")
@options.model_store_options
@options.table
@options.model
@options.seeds
@options.epochs
@options.feed
@options.run_root
@options.overrides
@options.store_path
@click.option(
    "--splits",
    type=click.IntRange(1, 100),
    default=None,
    help="So many random splits of a dataset that has no official one (cuhk01), each in both directions.",
)
def ablation_command(
    request: StoreRequest, model_size: _Size | None, table: str, model: str, seeds: tuple[int, ...],
    epochs: int | None, feed: str, run_root: Path, overrides: _Settings, store_path: AnyPath | None,
    splits: int | None,
) -> None:  # fmt: skip
    """Train the rows of one of the papers' tables and print ours beside theirs; continues by itself."""
    from densereid.pipeline.commands.ablation import AblationRequest, run_ablation
    from densereid.pipeline.commands.training import chosen_settings

    settings = chosen_settings(overrides, model_size, epochs)
    wanted = AblationRequest(request, table, model, seeds, settings, run_root, store_path, feed, splits or 0)
    click.echo(run_ablation(wanted))


@command("activations")
@click.argument("runs", nargs=-1, required=True, type=NAME_OR_PATH)
@options.run_root
@options.images
@options.seed
@options.device
@options.rows
@click.option("--store-path", type=LOCATION, help="Another store than the first run's own.")
def activations_command(
    runs: tuple[str, ...], run_root: Path, images: int, seed: int, device: str, rows: tuple[int, ...] | None,
    store_path: AnyPath | None,
) -> None:  # fmt: skip
    """Draw where the trunks of some runs look, one column a run, for some images of a store."""
    from densereid.pipeline.commands.activations import draw_activations

    path = draw_activations(
        runs, images=images, rows=rows or (), seed=seed, store_path=store_path, run_root=run_root, device=device
    )
    click.echo(path)


@command("embedded-weights")
@options.run_root
@options.device
@options.workers
@click.option(
    "--makers", default="solids,anny", show_default=True, help="Body makers to train on, with commas: solids, anny."
)
@click.option(
    "--scale",
    type=FiniteRange(0.001, 100.0),
    default=1.0,
    show_default=True,
    help="Factor on the layers that are rendered and the steps that are trained.",
)
def embedded_weights_command(run_root: Path, device: str, workers: int, makers: str, scale: float) -> None:
    """Make weights for ESTIMATOR=embedded: render people, train on them, score on others; continues by itself.

    Within three hours on two cores; on a GPU it is shown seven times as many pictures.
    """
    from densereid.pipeline.commands.dense_pose.embedded_weights import remake_weights

    click.echo(remake_weights(run_root, device=device, workers=workers, makers=tuple(makers.split(",")), scale=scale))


@command("demo")
@options.run_root
@options.seed
@options.store
@options.workers
def demo_command(run_root: Path, seed: int, store: str, workers: int) -> None:
    """From nothing to mAP on this machine: render, preprocess, train, evaluate, inspect."""
    from densereid.pipeline.commands.demo import run_demo

    run_demo(run_root / "demo", seed=seed, store_format=store, workers=workers)
