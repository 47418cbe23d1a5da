"""Going back to a saved run: to continue it, or to use its network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from data_catalog.errors import UserError
from train.checkpoint import BEST, LAST, Checkpoint, describe_store, load_checkpoint, load_weights
from train.config import TrainConfig, changed_settings
from train.dataset import StoreReader
from train.determinism import restore_random_states
from train.models import build_empty_network

log = logging.getLogger(__name__)

_FREE_TO_CHANGE = {"epochs", "evaluate_every", "log_every", "model.pretrained"}


def resume_run(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    config: TrainConfig,
    seed: int,
    store: StoreReader,
    num_identities: int,
) -> Checkpoint:
    """Load the checkpoint at ``path`` into network, optimiser and the random states; returns it.

    Raises UserError where it belongs to another config, seed or store.
    """
    checkpoint = load_checkpoint(path)
    remedy = "Choose another RUN_ROOT or SEED, or start this run again with FRESH=1 (--fresh)."
    changed = [key for key in changed_settings(checkpoint.config, config) if key not in _FREE_TO_CHANGE]
    if changed:
        raise UserError(f"{path} was trained with other settings: {', '.join(changed)} differ", remedy)
    if checkpoint.seed != seed:
        raise UserError(f"{path} was trained with seed {checkpoint.seed}, not {seed}", remedy)
    stored = describe_store(store)
    if checkpoint.store["digest"] != stored["digest"] or checkpoint.num_identities != num_identities:
        raise UserError(
            f"{path} was trained on another store: {checkpoint.store['path']}, not {stored['path']}", remedy
        )
    load_weights(network, checkpoint, path)
    optimiser.load_state_dict(checkpoint.optimiser)
    restore_random_states(checkpoint.random)
    log.info("Continuing %s after epoch %d of %d.", path.parent, checkpoint.epoch, config.epochs)
    return checkpoint


def load_network(run_or_file: Path) -> tuple[nn.Module, Checkpoint]:
    """The trained network on the CPU in evaluation mode, and the checkpoint it is from.

    A run folder gives its ``best.pt``, or ``last.pt`` where nothing was evaluated. Raises UserError
    where there is no checkpoint or it cannot be used.
    """
    path = run_or_file
    if path.is_dir():
        path = path / BEST if (path / BEST).is_file() else path / LAST
    checkpoint = load_checkpoint(path)
    network = build_empty_network(checkpoint.config, checkpoint.num_identities)
    load_weights(network, checkpoint, path)
    return network.eval(), checkpoint
