"""The commands. Bodies are short: they build a request and call a stage; mistakes end in a message, not a traceback.

A command imports its own stage: torch and timm take seconds that ``--help`` does not need.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import schema_table
from densereid.data_catalog.store.store import FORMATS, convert_store, open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.pipeline import options
from densereid.pipeline.commands.catalog import catalog
from densereid.pipeline.console import ProgressReport, print_status, print_table
from densereid.pipeline.exit import EXIT_SOME_FAILED, failed, interrupted, stop_at_once_when_interrupted_twice


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """DenseReID: body semantics for person re-identification.

    Images become 7-part masks and 24 DSAP images in a chunked store; stores train networks. Every option
    is also read from the environment, so `make preprocess DATASET=market` sets --dataset.
    """
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("densereid").setLevel(logging.INFO)  # the libraries' chatter is not for users


cli.add_command(catalog)


@cli.command("synthesize")
@options.data_root
@options.workers
@options.seed
@click.option("--train-identities", type=int, default=120, show_default=True, help="Identities to train on.")
@click.option("--test-identities", type=int, default=40, show_default=True, help="Identities to test on.")
@click.option("--images-per-identity", type=int, default=12, show_default=True, help="Images of each identity.")
@click.option("--cameras", type=int, default=4, show_default=True, help="Cameras, 2 to 6.")
@click.option("--distractors", type=int, default=60, show_default=True, help="Gallery images of nobody (0000).")
@click.option("--junk", type=int, default=20, show_default=True, help="Junk gallery images (-1).")
@click.option(
    "--iuv-errors", envvar="IUV_ERRORS", type=int, default=0, show_default=True,
    help="Errors of DensePose's kinds in the IUV maps, percent of a modelled estimator's; 0 is exact.",
)  # fmt: skip
def synthesize_command(data_root: Path, workers: int, **settings: Any) -> None:
    """Render the synthetic pedestrians, with exact IUV maps or with errors, in Market-1501's layout."""
    from densereid.pipeline.stores import synthesize

    synthesize(data_root / "synthetic", SyntheticConfig(**settings), workers=workers)
    click.echo(data_root / "synthetic")


@cli.command("preprocess")
@options.store_options
@click.option("--dry-run", is_flag=True, envvar="DRY_RUN", help="Only say what would be done and what it costs.")
def preprocess_command(dry_run: bool, **request: Any) -> None:
    """Images to masks and DSAP images in a store; continues what was interrupted."""
    from densereid.pipeline.stores import StoreRequest, make_store

    wanted = StoreRequest(**request)
    if dry_run:
        from densereid.pipeline.commands.dry_run import dry_run_report

        for subject, sentence in dry_run_report(wanted).items():
            click.echo(f"{subject:<10} {sentence}")
        print_status("dry run: nothing was written")
        return
    store, failed = make_store(wanted)
    click.echo(store.path)
    print_status(f"next: make inspect {wanted.variables()}, or make train {wanted.variables()}")
    if failed:
        sys.exit(EXIT_SOME_FAILED)


@cli.command("densepose-sizes")
@options.sizes_options
def densepose_sizes_command(**request: Any) -> None:
    """DensePose at several input sizes against short edge 800 on your images: agreement and images a second."""
    from densereid.pipeline.commands.densepose_sizes import compare_densepose_sizes

    click.echo(compare_densepose_sizes(**request))


@cli.command("derive")
@options.derive_options
def derive_command(source: AnyPath | None, **request: Any) -> None:
    """Other masks and DSAP images (DSAP_SIZE, COLLISION) for a store's images and IUV maps, as a store beside it."""
    from densereid.pipeline.stores import StoreRequest, derive_store

    wanted = StoreRequest(**request)
    click.echo(derive_store(wanted, source).path)
    print_status(f"next: make inspect {wanted.variables()}, or make train {wanted.variables()}")


@cli.command("train")
@options.model_store_options
@options.model
@options.seed
@options.epochs
@options.feed
@options.initial
@options.run_root
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the experiment.")
@click.option("--store-path", type=options.PATH_OR_URL, help="This store, whatever its size or name.")
@click.option("--fresh", is_flag=True, envvar="FRESH", help="Start again; discards the run's checkpoints.")
def train_command(**request: Any) -> None:
    """Train a network on a store, making the store first where it is missing; continues by itself."""
    from densereid.pipeline.commands.training import train_model

    click.echo(train_model(**request).run_folder)


@cli.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path), envvar="RUN_FOLDER")
@click.option("--store-path", type=options.PATH_OR_URL, help="Another store than the one of the training.")
@click.option("--feature", help="Feature that is ranked: f, z, z_global, ...; the config's own unless given.")
@click.option("--rerank", is_flag=True, envvar="RERANK", help="Also re-ranked: k-reciprocal, k1=20, k2=6, lambda=0.3.")
@click.option("--keep-junk", is_flag=True, envvar="KEEP_JUNK", help="Junk (-1) takes part in re-ranking, unranked.")
@options.device
def evaluate_command(run: Path, rerank: bool, keep_junk: bool, **request: Any) -> None:
    """CMC and mAP of a trained run on its store's query and gallery."""
    from densereid.pipeline.commands.training import choose_reranking, evaluate_run

    evaluate_run(run, reranking=choose_reranking(rerank, keep_junk=keep_junk), **request)


@cli.command("ablation")
@options.model_store_options
@options.table
@options.model
@options.seeds
@options.epochs
@options.feed
@options.run_root
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of every row.")
@click.option("--store-path", type=options.PATH_OR_URL, help="This store, whatever its size or name.")
def ablation_command(**request: Any) -> None:
    """Train the rows of one of the papers' tables and print ours beside theirs; continues by itself."""
    from densereid.pipeline.commands.ablation import run_ablation

    click.echo(run_ablation(**request))


@cli.command("describe")
@click.argument("run_or_model")
def describe_command(run_or_model: str) -> None:
    """Every setting of a run or an experiment with its meaning, and the parameters of its network."""
    from densereid.pipeline.commands.training import describe_model

    describe_model(run_or_model)


@cli.command("export")
@click.argument("run", type=click.Path(path_type=Path), envvar="RUN_FOLDER")
@click.option("--to", "target", type=click.Path(path_type=Path), help="The file; in the run's folder unless given.")
def export_command(run: Path, target: Path | None) -> None:
    """Write a run's inference network, without what only trains it, to one file."""
    from densereid.pipeline.commands.training import export_run

    click.echo(export_run(run, target))


@cli.command("activations")
@click.argument("runs", nargs=-1, required=True, envvar="RUNS")
@options.run_root
@options.rows
@options.seed
@options.device
@click.option("--rows", metavar="ROW,...", envvar="ROWS", help="These rows of the store instead of a random choice.")
@click.option("--store-path", type=options.PATH_OR_URL, help="Another store than the first run's own.")
def activations_command(**request: Any) -> None:
    """Draw where the trunks of some runs look, one column a run, for some images of a store."""
    from densereid.pipeline.commands.activations import draw_activations

    click.echo(draw_activations(**request))


@cli.command("inspect")
@options.store_options
@options.run_root
@options.rows
@options.seed
@click.option("--store-path", type=options.PATH_OR_URL, help="This store, whatever its size or name.")
def inspect_command(run_root: Path, images: int, seed: int, store_path: AnyPath | None, **request: Any) -> None:
    """Write a contact sheet of a store, and count how often each body part is seen."""
    from densereid.pipeline.commands.inspect import inspect_store
    from densereid.pipeline.stores import StoreRequest

    path = store_path or StoreRequest(**request).path()
    inspect_store(open_store(path), run_root / "inspect", images=images, seed=seed)


@cli.command("doctor")
@options.data_root
@options.store_root
def doctor_command(data_root: Path, store_root: AnyPath) -> None:
    """What this machine has and lacks: versions, GPU, disk, estimators, weights, datasets."""
    from densereid.pipeline.commands.doctor import findings, findings_table

    print_table(findings_table(list(findings(data_root, store_root))))


@cli.command("status")
@options.store_root
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def status_command(store_root: AnyPath, as_json: bool) -> None:
    """A table of all stores: what they hold, how much of them is written."""
    from densereid.pipeline.commands.status import find_stores, stores_table

    if as_json:
        click.echo(json.dumps(find_stores(store_root), indent=1))
    else:
        print_table(stores_table(store_root))


@cli.command("verify")
@click.argument("store", type=options.PATH_OR_URL)
@click.option("--sample", type=click.IntRange(min=0), default=256, show_default=True, help="Rows to compute again.")
@options.seed
def verify_command(store: AnyPath, sample: int, seed: int) -> None:
    """Check a store: every byte against its checksum, a sample of rows against a fresh computation."""
    from densereid.pipeline.commands.status import verify_store

    verify_store(open_store(store), sample=sample, seed=seed)


@cli.command("convert")
@click.argument("source", type=options.PATH_OR_URL)
@click.argument("target", type=options.PATH_OR_URL)
def convert_command(source: AnyPath, target: AnyPath) -> None:
    """Copy a store into the other format without loss; the target's suffix (.zarr, .hdf5) names it."""
    suffixes = {module.SUFFIX: name for name, module in FORMATS.items()}
    if target.suffix not in suffixes:
        raise UserError(f"the target {target} ends in '{target.suffix}'", f"expected one of {', '.join(suffixes)}")
    store = open_store(source)
    with ProgressReport("converting", store.geometry.num_samples) as report:

        def on_shard(shard: int) -> None:
            rows = store.geometry.shard_slice(shard)
            report.advance(rows.stop - rows.start)

        convert_store(store, target, format=suffixes[target.suffix], on_shard=on_shard)
    click.echo(target)


@cli.command("schema")
def schema_command() -> None:
    """Print the store's schema as the README shows it."""
    click.echo(schema_table())


@cli.command("demo")
@options.run_root
@options.seed
@options.store
@options.workers
def demo_command(run_root: Path, seed: int, store: str, workers: int) -> None:
    """From nothing to mAP on this machine: render, preprocess, train, evaluate, inspect."""
    from densereid.pipeline.commands.demo import run_demo

    run_demo(run_root / "demo", seed=seed, store_format=store, workers=workers)


def main() -> None:
    """Run the command line; turn mistakes into messages and exit codes."""
    stop_at_once_when_interrupted_twice()
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = interrupted()
    except KeyboardInterrupt:
        code = interrupted()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except UserError as error:
        code = failed(error.problem, error.remedy)
    except OSError as error:  # a full disk, a read-only folder, a file that vanished: the system's own words
        where = f": {error.filename}" if error.filename else ""
        code = failed(f"{error.strerror or error}{where}", "what is finished is kept; run the same command again")
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)
