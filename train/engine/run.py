"""A run in progress: how it is set up or continued, and how it is saved."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch
import yaml
from lightning_fabric import Fabric

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.atomic import remove_partial, write_bytes
from densereid.data_catalog.store.schema import Split
from densereid.train.config.train_config import TrainConfig, config_diff, to_dict
from densereid.train.data.dataset import StoreDataset, StoreReader
from densereid.train.data.randomness import random_states
from densereid.train.engine.checkpoint import (
    BEST,
    CONFIG_FILE,
    LAST,
    Checkpoint,
    checkpoint_problem,
    library_versions,
    save_checkpoint,
    store_fingerprint,
)
from densereid.train.engine.checks import add_attribute_targets, check_disk, check_store, resolve_attributes
from densereid.train.engine.events import OnEvent
from densereid.train.engine.processes import by_the_first, start_fabric
from densereid.train.engine.resume import check_folder, resume_run, start_from
from densereid.train.evaluation.evaluate import has_protocol
from densereid.train.families import build_empty_network, build_network, training_arrays
from densereid.train.networks.recomputation import recompute_activations

log = logging.getLogger(__name__)


@dataclass
class Run:
    """A run in progress: what does not change, and how far it has come."""

    config: TrainConfig
    store: StoreReader
    folder: Path
    seed: int
    fabric: Fabric
    dataset: StoreDataset
    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    on_event: OnEvent
    described_store: dict[str, str]
    """What checkpoints say of the store, read while it was whole."""
    can_evaluate: bool
    """Whether its labels can be scored."""
    epoch: int = 0
    step: int = 0
    best: float = -1.0
    scores: dict[str, float] = field(default_factory=dict)
    scores_epoch: int = -1
    problem: str = ""
    """Why the last evaluation gave no scores; empty where it did."""
    step_seconds: list[float] = field(default_factory=list)

    @property
    def module(self) -> torch.nn.Module:
        """The network itself, without Fabric's wrapper."""
        module = getattr(self.network, "module", self.network)
        assert isinstance(module, torch.nn.Module)
        return module


def prepare_run(
    config: TrainConfig,
    store: StoreReader,
    folder: Path,
    *,
    device: torch.device | str,
    seed: int,
    resume: bool,
    on_event: OnEvent,
    lengthen: bool = True,
) -> Run:
    """The run ready to train: continued from the folder's ``last.pt``, or new; arguments as ``fit``'s.

    Nothing is written before everything is known to fit.
    """
    fabric = start_fabric(device, precision=config.precision)
    before = check_folder(folder, config, seed=seed, lengthen=lengthen) if resume else None
    needs = training_arrays(config)
    dataset = StoreDataset(store, Split.TRAIN, needs=needs, height=config.height, width=config.width)
    check_store(config, dataset)
    can_evaluate = by_the_first(fabric, lambda: has_protocol(store))
    described = store_fingerprint(store)
    config = resolve_attributes(config, described["dataset"])
    network = _first_network(config, dataset, fabric.device, seed=seed, continues=before is not None)
    optimiser = _optimiser(config, network)
    wrapped = fabric.setup(network, optimiser)
    run = Run(config, store, folder, seed, fabric, dataset, *wrapped, on_event, described, can_evaluate)  # type: ignore[call-arg]
    if before is not None:
        _restore(run, optimiser)
    fabric.barrier()  # every process has looked for last.pt before the first one may remove it
    if fabric.is_global_zero:
        _prepare_folder(run, None if before is None else before.config)
    return run


def recomputes(config: TrainConfig, device: torch.device) -> bool:
    """Whether activations are computed again: on a CPU that costs little, but what a small network saves is nothing."""
    automatic = device.type == "cpu" and config.model.backbone != "small" and not config.compile
    return config.recompute == "always" or (config.recompute == "auto" and automatic)


def _optimiser(config: TrainConfig, network: torch.nn.Module) -> torch.optim.Optimizer:
    options = config.optimiser
    return torch.optim.Adam(
        network.parameters(), betas=(options.beta1, options.beta2), weight_decay=options.weight_decay, fused=True
    )


def _first_network(
    config: TrainConfig, dataset: StoreDataset, device: torch.device, *, seed: int, continues: bool
) -> torch.nn.Module:
    """The network on the CPU, to train on ``device``, with its first weights or, where a checkpoint's follow, none."""
    if continues:
        network = build_empty_network(config, dataset.num_identities)
    else:
        network = build_network(config, dataset.num_identities, seed=seed)
        if config.model.initial:
            start_from(network, Path(config.model.initial))
    add_attribute_targets(config, network, dataset.person_ids)
    network = network.to(memory_format=torch.channels_last)
    if recomputes(config, device):
        recompute_activations(network)
    if config.compile:
        network.compile()  # in place: the weights keep their names
    return network


def _restore(run: Run, optimiser: torch.optim.Optimizer) -> None:
    """Continue from the folder's ``last.pt``."""
    checkpoint = resume_run(
        run.folder / LAST,
        run.module,
        optimiser,
        epochs=run.config.epochs,
        store=run.described_store,
        num_identities=run.dataset.num_identities,
    )
    _warn_of_other_sums(run, checkpoint.versions)
    run.epoch, run.step, run.best = checkpoint.epoch, checkpoint.step, checkpoint.best
    run.scores, run.scores_epoch = checkpoint.scores, checkpoint.scores_epoch


def _parallelism(run: Run) -> dict[str, str]:
    """What changes the order in which sums are taken, and so the last digits: processes, and threads on a CPU."""
    return {"processes": str(run.fabric.world_size), "threads": str(torch.get_num_threads())}


def _warn_of_other_sums(run: Run, before: dict[str, str]) -> None:
    """Say what a run that continues has of another number than it had; an older checkpoint does not say."""
    here = _parallelism(run)
    if (processes := before.get("processes", here["processes"])) != here["processes"]:
        log.warning(
            "Continuing with %s processes what %s began: batch norm and the triplet loss see other shares of a batch.",
            here["processes"], processes,
        )  # fmt: skip
    threads = before.get("threads", here["threads"])
    if threads != here["threads"] and run.fabric.device.type == "cpu":
        log.warning(
            "Continuing with %s threads what %s began: sums are taken in another order, and the weights will not be "
            "those of a run in one go, bit for bit. OMP_NUM_THREADS=%s gives the same number.",
            here["threads"], threads, threads,
        )  # fmt: skip


def _prepare_folder(run: Run, before: TrainConfig | None) -> None:
    """Remove what is left of an older run or of a killed process; write the config where it is not the one ``before``.

    Raises UserError, and does nothing, where the checkpoints will not fit.
    """
    unfinished = run.epoch < run.config.epochs
    if unfinished:
        check_disk(run.folder, run.module)
    run.folder.mkdir(parents=True, exist_ok=True)
    remove_partial(run.folder)  # of a process killed while it wrote a checkpoint
    for name in () if before is not None else (LAST, BEST):
        (run.folder / name).unlink(missing_ok=True)
    path, changed = run.folder / CONFIG_FILE, () if before is None else config_diff(before, run.config)
    if before is None and path.is_file():
        log.info("Starting anew in %s: it has no checkpoint to continue. %s is replaced.", run.folder, path.name)
    if before is None or not path.is_file() or (changed and unfinished):
        content = yaml.safe_dump(to_dict(run.config), sort_keys=False)
        write_bytes(path, content.encode())
    if changed and unfinished:
        log.info("Changed from here on, and in %s: %s.", path, ", ".join(changed))


def save_run(run: Run, name: str) -> None:
    """Write ``last.pt``, or ``best.pt`` without the optimiser's state, which is twice as large as the weights.

    Raises UserError, and writes nothing, where a weight, a buffer or a state of the optimiser is not finite.
    """
    if not run.fabric.is_global_zero:
        return
    model, optimiser = run.module.state_dict(), run.optimiser.state_dict()
    if problem := checkpoint_problem(model, optimiser):
        stop_not_finite(run, problem)
    checkpoint = Checkpoint(
        model=model,
        optimiser=optimiser if name == LAST else {},
        epoch=run.epoch,
        step=run.step,
        best=run.best,
        scores=run.scores,
        scores_epoch=run.scores_epoch,
        seed=run.seed,
        random=random_states(),
        config=run.config,
        num_identities=run.dataset.num_identities,
        store=run.described_store,
        versions=library_versions() | _parallelism(run),
    )
    save_checkpoint(run.folder / name, checkpoint)


def stop_not_finite(run: Run, problem: str) -> NoReturn:
    """Raise the UserError of a training that has diverged."""
    raise UserError(
        f"{problem} in epoch {run.epoch + 1}, step {run.step}: training has diverged",
        f"Lower schedule.peak or lengthen schedule.warmup_epochs; checkpoints of finished epochs stay in {run.folder}.",
    )


def out_of_memory(run: Run, error: Exception) -> UserError:
    """The UserError for a device that ran out of memory."""
    sampling, config = run.config.sampling, run.config
    return UserError(
        f"out of memory on {run.fabric.device} with batches of {sampling.identities} x {sampling.images} images of "
        f"{config.height}x{config.width} ({config.precision}): {first_line(error)}",
        "Set sampling.identities lower, precision=bf16-mixed, or FEED=memory; finished epochs are kept.",
    )
