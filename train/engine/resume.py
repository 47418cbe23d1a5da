"""Going back to a saved run: to continue it, or to start another network from its weights."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import TrainConfig, config_diff
from densereid.train.data.randomness import restore_random_states
from densereid.train.engine.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, load_weights

log = logging.getLogger(__name__)

_FREE_TO_CHANGE = {
    "name", "epochs", "evaluate_every", "log_every", "compile", "model.pretrained", "model.initial", "evaluate.feature",
    "magnifier.attributes", "tuned_for",
}  # fmt: skip
_OF_ITS_PERSONS = ("classify_", "attribute_targets")
"""Beginnings of the names of what belongs to the training persons: classifiers, and attributes to learn."""


def resume_run(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    config: TrainConfig,
    seed: int,
    store: dict[str, str],
    num_identities: int,
) -> Checkpoint:
    """Load the checkpoint at ``path`` into network, optimiser and the random states; returns it.

    ``store`` is what :func:`densereid.train.engine.checkpoint.store_fingerprint` says of the store of this run.

    Raises UserError where it belongs to another config, seed or store.
    """
    checkpoint = load_checkpoint(path)
    remedy = "Choose another RUN_ROOT or SEED, or start this run again with FRESH=1 (--fresh)."
    changed = [key for key in config_diff(checkpoint.config, config) if key not in _FREE_TO_CHANGE]
    if changed:
        raise UserError(f"{path} was trained with other settings: {', '.join(changed)} differ", remedy)
    if checkpoint.seed != seed:
        raise UserError(f"{path} was trained with seed {checkpoint.seed}, not {seed}", remedy)
    if checkpoint.store["digest"] != store["digest"] or checkpoint.num_identities != num_identities:
        raise UserError(f"{path} was trained on another store: {checkpoint.store['path']}, not {store['path']}", remedy)
    load_weights(network, checkpoint, path)
    optimiser.load_state_dict(checkpoint.optimiser)
    restore_random_states(checkpoint.random)
    log.info("Continuing %s after epoch %d of %d.", path.parent, checkpoint.epoch, config.epochs)
    return checkpoint


def start_from(network: nn.Module, run_or_file: Path) -> None:
    """Give a new network the weights of a trained one, but for its classifiers: other persons, other classes.

    DSA-reID's CUHK01 (section 4.3) starts from CUHK03 so. The guiding stream's weights are taken where both have
    one. Raises UserError where the checkpoint is missing or its main stream is of another architecture.
    """
    path = checkpoint_path(run_or_file)
    checkpoint = load_checkpoint(path)
    wanted = {name: value for name, value in network.state_dict().items() if not name.startswith(_OF_ITS_PERSONS)}
    taken = {name: value for name, value in checkpoint.model.items() if name in wanted}
    different = [name for name, value in taken.items() if value.shape != wanted[name].shape]
    missing = [name for name in wanted if name.startswith("main.") and name not in taken]
    if different or missing:
        raise UserError(
            f"the weights in {path} ({checkpoint.config.name}) do not fit this network: "
            f"{len(different)} of another shape, {len(missing)} missing ({(different + missing)[0]}, ...)",
            "Start from a run with the same model.backbone and the same branches.",
        )
    network.load_state_dict(taken, strict=False)
    log.info(
        "Starting from %s (%s, epoch %d): %d of %d tensors; the classifiers are new.",
        path, checkpoint.config.name, checkpoint.epoch, len(taken), len(network.state_dict()),
    )  # fmt: skip
