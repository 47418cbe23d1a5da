"""A run in progress: how it is set up or continued, and how it is saved."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from lightning_fabric import Fabric

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.atomic import remove_partial
from densereid.data_catalog.store.schema import Split
from densereid.train.config.train_config import TrainConfig, to_dict
from densereid.train.data.dataset import StoreDataset, StoreReader
from densereid.train.data.randomness import random_states
from densereid.train.engine.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    library_versions,
    save_checkpoint,
    store_fingerprint,
)
from densereid.train.engine.checks import add_attribute_targets, check_store, resolve_attributes
from densereid.train.engine.events import OnEvent
from densereid.train.engine.resume import resume_run, start_from
from densereid.train.families import build_empty_network, build_network, training_arrays


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
    epoch: int = 0
    step: int = 0
    best: float = -1.0
    scores: dict[str, float] = field(default_factory=dict)
    scores_epoch: int = -1
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
) -> Run:
    """The run ready to train: continued from the folder's ``last.pt``, or new; arguments as ``fit``'s."""
    fabric = start_fabric(device, precision=config.precision)
    needs = training_arrays(config)
    dataset = StoreDataset(store, Split.TRAIN, needs=needs, height=config.height, width=config.width)
    check_store(config, dataset)
    described = store_fingerprint(store)
    config = resolve_attributes(config, described["dataset"])
    continues = resume and (folder / LAST).is_file()
    network = _first_network(config, dataset, seed=seed, continues=continues)
    options = config.optimiser
    optimiser = torch.optim.Adam(
        network.parameters(), betas=(options.beta1, options.beta2), weight_decay=options.weight_decay, fused=True
    )
    wrapped, wrapped_optimiser = fabric.setup(network, optimiser)
    run = Run(config, store, folder, seed, fabric, dataset, wrapped, wrapped_optimiser, on_event, described)
    if continues:
        _restore(run, optimiser)
    fabric.barrier()  # every process has looked for last.pt before the first one may remove it
    if fabric.is_global_zero:
        _prepare_folder(run, continues=continues)
    return run


def _first_network(config: TrainConfig, dataset: StoreDataset, *, seed: int, continues: bool) -> torch.nn.Module:
    """The network on the CPU, with its first weights, or with none where a checkpoint's will follow."""
    if continues:
        network = build_empty_network(config, dataset.num_identities)
    else:
        network = build_network(config, dataset.num_identities, seed=seed)
        if config.model.initial:
            start_from(network, Path(config.model.initial))
    add_attribute_targets(config, network, dataset.person_ids)
    network = network.to(memory_format=torch.channels_last)
    if config.compile:
        network.compile()  # in place: the weights keep their names
    return network


def _restore(run: Run, optimiser: torch.optim.Optimizer) -> None:
    """Continue from the folder's ``last.pt``."""
    checkpoint = resume_run(
        run.folder / LAST,
        run.module,
        optimiser,
        config=run.config,
        seed=run.seed,
        store=run.described_store,
        num_identities=run.dataset.num_identities,
    )
    run.epoch, run.step, run.best = checkpoint.epoch, checkpoint.step, checkpoint.best
    run.scores, run.scores_epoch = checkpoint.scores, checkpoint.scores_epoch


def _prepare_folder(run: Run, *, continues: bool) -> None:
    """Remove what is left of an older run or of a killed process, and write the config."""
    for name in () if continues else (LAST, BEST):
        (run.folder / name).unlink(missing_ok=True)
    remove_partial(run.folder)  # of a process killed while it wrote a checkpoint
    content = yaml.safe_dump(to_dict(run.config), sort_keys=False)
    (run.folder / "config.yaml").write_text(content, encoding="utf-8")


def start_fabric(device: torch.device | str, *, precision: str) -> Fabric:
    """Fabric on ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:N``; under torchrun, one of its processes.

    Processes share gradients (DDP); batch norm and the triplet loss see each process's own share.
    """
    if str(device) == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    several: dict[str, Any]
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        several = {"devices": here, "num_nodes": world // here, "strategy": "ddp"}
    else:
        several = {"devices": 1 if chosen.type == "cpu" else [chosen.index or 0]}
    fabric = Fabric(accelerator=chosen.type, precision=precision, **several)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def save_run(run: Run, name: str) -> None:
    """Write ``last.pt`` or ``best.pt``; raises UserError, and writes nothing, where a weight is not a number."""
    if not run.fabric.is_global_zero:
        return
    finite = torch.stack([parameter.isfinite().all() for parameter in run.module.parameters()]).all()
    if not bool(finite):
        stop_not_finite(run, "a weight is not a number")
    checkpoint = Checkpoint(
        model=run.module.state_dict(),
        optimiser=run.optimiser.state_dict(),
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
        versions=library_versions(),
    )
    save_checkpoint(run.folder / name, checkpoint)


def stop_not_finite(run: Run, problem: str) -> NoReturn:
    """Raise the UserError of a training that has diverged."""
    raise UserError(
        f"{problem} in epoch {run.epoch + 1}, step {run.step}: training has diverged",
        f"Lower schedule.peak or lengthen schedule.warmup_epochs; checkpoints of finished epochs stay in {run.folder}.",
    )


def out_of_memory(run: Run, error: RuntimeError) -> UserError:
    """The UserError for a device that ran out of memory."""
    sampling, config = run.config.sampling, run.config
    return UserError(
        f"out of memory on {run.fabric.device} with batches of {sampling.identities} x {sampling.images} images of "
        f"{config.height}x{config.width} ({config.precision}): {first_line(error)}",
        "Set sampling.identities lower, precision=bf16-mixed, or FEED=memory; finished epochs are kept.",
    )
