"""A run in progress: how it is set up or continued, and how it is saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch
import yaml
from lightning_fabric import Fabric

from data_catalog.errors import UserError
from data_catalog.schema import Split
from train.checkpoint import BEST, LAST, Checkpoint, describe_store, library_versions, save_checkpoint
from train.config import TrainConfig, to_dict
from train.dataset import StoreDataset, StoreReader
from train.determinism import random_states
from train.models import build_empty_network, build_network, network_needs
from train.progress import OnEvent
from train.resume import resume_run


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
    """The run ready to train: continued from the folder's ``last.pt``, or new; arguments as :func:`train.loop.fit`."""
    fabric = start_fabric(device, precision=config.precision)
    needs = network_needs(config)
    dataset = StoreDataset(store, Split.TRAIN, needs=needs, height=config.height, width=config.width)
    _check_dsap_size(config, store)
    last = folder / LAST
    continues = resume and last.is_file()
    if continues:
        network = build_empty_network(config, dataset.num_identities)
    else:
        network = build_network(config, dataset.num_identities, seed=seed)
    network = network.to(memory_format=torch.channels_last)
    options = config.optimiser
    optimiser = torch.optim.Adam(
        network.parameters(), betas=(options.beta1, options.beta2), weight_decay=options.weight_decay, fused=True
    )
    wrapped, wrapped_optimiser = fabric.setup(network, optimiser)
    run = Run(config, store, folder, seed, fabric, dataset, wrapped, wrapped_optimiser, on_event)
    if continues:
        checkpoint = resume_run(
            last, run.module, optimiser, config=config, seed=seed, store=store, num_identities=dataset.num_identities
        )
        run.epoch, run.step, run.best = checkpoint.epoch, checkpoint.step, checkpoint.best
        run.scores, run.scores_epoch = checkpoint.scores, checkpoint.scores_epoch
    elif fabric.is_global_zero:
        for name in (LAST, BEST):
            (folder / name).unlink(missing_ok=True)
    if fabric.is_global_zero:
        (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False), encoding="utf-8")
    return run


def start_fabric(device: torch.device | str, *, precision: str) -> Fabric:
    """Fabric on ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:N``."""
    if str(device) == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    devices = 1 if chosen.type == "cpu" else [chosen.index or 0]
    fabric = Fabric(accelerator=chosen.type, devices=devices, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def _check_dsap_size(config: TrainConfig, store: StoreReader) -> None:
    stored, asked = store.geometry.dsap_size, config.model.dsap_size
    if asked > stored or stored % asked:
        raise UserError(
            f"model.dsap_size is {asked}, the store's DSAP images are {stored}x{stored}",
            f"Set model.dsap_size to {stored} or a divisor of it, or preprocess again with another DSAP size.",
        )


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
        store=describe_store(run.store),
        versions=library_versions(),
    )
    save_checkpoint(run.folder / name, checkpoint)


def stop_not_finite(run: Run, problem: str) -> NoReturn:
    """Raise the UserError of a training that has diverged."""
    raise UserError(
        f"{problem} in epoch {run.epoch + 1}, step {run.step}: training has diverged",
        f"Lower schedule.peak or lengthen schedule.warmup_epochs; checkpoints of finished epochs stay in {run.folder}.",
    )
