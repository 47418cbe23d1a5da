"""Training and evaluating runs: which model, which store, which folder, and the table of what came out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import filesize

from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store, exists, open_store
from densereid.pipeline.console import print_next_commands, print_status, print_table
from densereid.pipeline.invocation import beside_python, next_command, program
from densereid.pipeline.reports.network_tables import described_parameters, described_settings, ranked_by, scores_table
from densereid.pipeline.settings import choose_model, resolve_device
from densereid.pipeline.store_choice import derivable_from
from densereid.pipeline.store_request import NAMING, StoreRequest
from densereid.pipeline.stores import (
    counted,
    ensure_store,
    finished_store,
    synthetic_exists,
    training_identities,
    training_request,
    wanted_dataset,
)
from densereid.train.config.experiment import find_experiment
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.config.validation import setting_text
from densereid.train.engine.checkpoint import BEST, LAST, Checkpoint, load_trained_network
from densereid.train.engine.describe import disk_sizes, settings_by_dataset
from densereid.train.engine.loop import FitResult, fit
from densereid.train.engine.processes import start_fabric
from densereid.train.engine.resume import check_folder
from densereid.train.evaluation.evaluate import evaluate
from densereid.train.evaluation.metrics import Scores
from densereid.train.families import build_network, check_network

MARKET_IDENTITIES = 751
"""Training identities of Market-1501, for which an experiment that is not a run is described."""


@dataclass(frozen=True)
class TrainRequest:
    """A training as it is asked for."""

    store: StoreRequest
    """Its size is not looked at: the model has its own."""
    model: str
    """A model's name, ``auto``, or a YAML file."""
    settings: Mapping[str, object]
    """Changes of the model's settings by dotted key (:func:`chosen_settings`)."""
    seed: int
    run_root: Path
    store_path: AnyPath | None = None
    """This store instead of the requested one."""
    feed: str = "auto"
    fresh: bool = False
    """Whether the run's checkpoints are discarded."""


@dataclass(frozen=True)
class TrainPlan:
    """A training whose choices are made: network and device, and why."""

    request: TrainRequest
    """Its store has the model's size."""
    model: str
    config: TrainConfig
    device: str
    reasons: str
    given: Store | None
    """The store, where it was asked for by its path."""

    @property
    def may_lengthen(self) -> bool:
        """Whether the number of epochs was asked for; the model's own lengthens no run that has another."""
        return "epochs" in self.request.settings

    def folder(self, dataset: str) -> Path:
        """The run's folder, for a store of ``dataset``."""
        return self.request.run_root / f"{dataset}-{self.config.name}-seed{self.request.seed}"


def plan_training(request: TrainRequest) -> TrainPlan:
    """Choose the network, its settings for the dataset, and the device. Raises UserError for what cannot be."""
    device, why_device = resolve_device(request.store.device)
    model, why_model = choose_model(request.model, device)
    given = open_store(request.store_path) if request.store_path is not None else None
    dataset = request.store.dataset if given is None else str(given.attributes["dataset"])
    config = load_config(model, request.settings, dataset=dataset)
    check_network(config)
    sized = replace(request, store=replace(request.store, size=(config.height, config.width)))
    reasons = f"model {config.name} ({why_model}); device {device} ({why_device}); seed {request.seed}"
    return TrainPlan(sized, model, config, device, reasons, given)


def train_model(request: TrainRequest) -> FitResult:
    """Train the model on the requested store, making the store first where it is missing; prints the scores."""
    plan = plan_training(request)
    config = plan.config
    print_status(plan.reasons)
    _checkpoint_of(plan)
    if config.tuned_for:
        shown = f"`{program()} describe {plan.model}`"
        print_status(f"settings for {config.tuned_for}: {shown} shows them; --set changes them")
    with start_fabric(plan.device, precision=config.precision).rank_zero_first():
        store = ensure_store(plan.request.store) if plan.given is None else plan.given
    folder = plan.folder(str(store.attributes["dataset"]))
    print_status(f"run {folder}: {plural(config.epochs, 'epoch')} of {config.height}x{config.width} images")
    workers, feed, seed = request.store.workers, request.feed, request.seed
    result = fit(
        config, store, folder, device=plan.device, workers=workers, feed=feed, seed=seed, resume=not request.fresh,
        lengthen=plan.may_lengthen,
    )  # fmt: skip
    _report(plan, store, result)
    return result


def training_dry_run_report(request: TrainRequest) -> dict[str, str]:
    """What a training would do, as a sentence for each of model, store, run and to do; nothing is written.

    Raises UserError for what would stop it before it starts: settings, a dataset that is needed and not there.
    """
    plan = plan_training(request)
    wanted, config = plan.request.store, plan.config
    wanted = wanted if plan.given is not None else training_request(wanted)
    store = plan.given if plan.given is not None else finished_store(wanted.path())
    folder = plan.folder(wanted.dataset_name if store is None else str(store.attributes["dataset"]))
    before = _checkpoint_of(plan)
    done = 0 if before is None else before.epoch
    left = f"{max(0, config.epochs - done)} of {plural(config.epochs, 'epoch')}"
    batch = f"{config.sampling.identities} identities x {config.sampling.images} images in a batch"
    return {
        "model": plan.reasons.removeprefix("model "),
        "store": _would_be(wanted) if store is None else f"{store.path}: {plural(store.geometry.num_samples, 'image')}",
        "run": f"{folder} {_would(folder, before)}",
        "to do": f"{left}, images of {config.height}x{config.width}, {batch}",
        "disk": _disk(config, training_identities(wanted, store)),
    }


def _checkpoint_of(plan: TrainPlan) -> Checkpoint | None:
    """What a training would continue from. Raises UserError where its folder holds another run."""
    dataset = plan.request.store.dataset_name if plan.given is None else str(plan.given.attributes["dataset"])
    folder, seed = plan.folder(dataset), plan.request.seed
    return None if plan.request.fresh else check_folder(folder, plan.config, seed=seed, lengthen=plan.may_lengthen)


def _would(folder: Path, before: Checkpoint | None) -> str:
    if before is not None:
        return f"would continue after epoch {before.epoch}"
    return "would start again; its checkpoints would be discarded" if (folder / LAST).is_file() else "would start"


def _disk(config: TrainConfig, identities: int) -> str:
    last, best = (filesize.decimal(size) for size in disk_sizes(config, identities))
    whose = plural(identities, "identity")
    return f"about {last} for {LAST} and {best} for {BEST} ({whose}), {last} more while one is written"


def _would_be(request: StoreRequest) -> str:
    """How a store that is not finished would be made."""
    path = request.path()
    source = derivable_from(request)
    if source is not None:
        return f"{path} would be derived first, from {source.path}"
    verb = "finished" if exists(path) else "made"
    if request.dataset == "synthetic" and not synthetic_exists(request):
        return f"{path} would be {verb} first, of pedestrians that would be rendered before"
    return f"{path} would be {verb} first, of {counted(wanted_dataset(request))}; a dry run of preprocess says its cost"


def _report(plan: TrainPlan, store: Store, result: FitResult) -> None:
    folder = result.run_folder
    if result.scores is not None:
        print_table(
            scores_table(f"{folder}, {plural(result.epochs, 'epoch')}", {ranked_by(plan.config): result.scores})
        )
    if result.problem:
        print_status(f"the run is finished, without scores: {result.problem}")
    curves = f"{beside_python('tensorboard')} --logdir {shlex.quote(str(plan.request.run_root))}"
    print_status(f"checkpoints: {result.last_path}; curves: {curves}")
    ranked = result.scores is not None or result.problem
    use = "evaluate" if ranked else "export"  # without query and gallery nothing can be ranked
    looked = next_command("inspect", without=NAMING, store_path=store.path)
    print_next_commands(next_command(use, run_folder=folder), looked)


def chosen_settings(
    overrides: Sequence[tuple[str, str]],
    size: tuple[int, int] | None,
    epochs: int | None,
    initial: Path | None = None,
) -> dict[str, object]:
    """Changes of a config from a command's options; ``overrides`` are pairs of a dotted key and its value."""
    settings: dict[str, object] = {}
    if initial is not None:
        settings["model.initial"] = str(initial)
    if size is not None:
        settings["height"], settings["width"] = size
    if epochs is not None:
        settings["epochs"] = epochs
    return settings | dict(overrides)


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
    print_table(described_settings(config))
    print_table(described_parameters(config, identities))


def _show_datasets(model: str) -> None:
    """Print what the paper calls the experiment, and what it changes on single datasets, where it does."""
    if paper := find_experiment(model).paper:
        print_status(f"{model}: {paper}")
    for dataset, settings in settings_by_dataset(model).items():
        changes = ", ".join(f"{key}={setting_text(value)}" for key, value in settings.items())
        print_status(f"on {dataset}: {changes or 'the same'}")


def untrained_scores(config: TrainConfig, store: Store, *, num_identities: int, seed: int, device: str) -> Scores:
    """What the same network scores before its first step: the floor that training has to leave behind."""
    return evaluate(build_network(config, num_identities, seed=seed), store, config=config, device=device)
