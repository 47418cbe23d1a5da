"""Going back to a saved run: to continue it, or to start another network from its weights."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import torch
from torch import nn

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.config.train_config import TrainConfig, config_diff, setting_values
from densereid.train.config.validation import setting_text
from densereid.train.data.randomness import restore_random_states
from densereid.train.engine.checkpoint import (
    BEST,
    CONFIG_FILE,
    DAMAGED,
    LAST,
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    load_weights,
)
from densereid.train.engine.schedule import rate_at

log = logging.getLogger(__name__)

_CHANGES_NO_RESULT = {
    "name", "tuned_for", "log_every", "compile", "recompute", "magnifier.attributes", "magnifier.attribute_groups",
}  # fmt: skip
"""Settings in which the command may differ from the run. The attributes themselves are in the checkpoint."""
_REMEDY = (
    "A run keeps the settings that it began with: give the same ones to continue it. For another run choose another "
    "RUN_ROOT or SEED, or start this one again with FRESH=1 (--fresh), which discards its checkpoints."
)
_PARTS = 100
_OF_ITS_PERSONS = ("classify_", "attribute_targets")
"""Beginnings of the names of what belongs to the training persons: classifiers, and attributes to learn."""


def check_folder(folder: Path, config: TrainConfig, *, seed: int, lengthen: bool) -> Checkpoint | None:
    """The checkpoint from which a run of ``config`` in ``folder`` continues, its tensors unread; None for a new run.

    ``lengthen``: whether more epochs are wanted of a finished run; they are possible where its epochs would have been
    the same. Raises UserError where the folder holds a run of other settings or of another seed, or ``best.pt`` alone.
    """
    path = folder / LAST
    if not path.is_file():
        if (folder / BEST).is_file():
            raise UserError(
                f"{folder} has {BEST} and no {LAST}, from which alone a run continues",
                f"Bring {LAST} back, or choose another RUN_ROOT or SEED; FRESH=1 (--fresh) starts again and discards "
                f"{BEST}. evaluate, export and INITIAL can use it as it is, by its own name.",
            )
        return None
    checkpoint = load_checkpoint(path, tensors=False)
    before, wanted = setting_values(checkpoint.config), setting_values(config)
    changed = [key for key in config_diff(checkpoint.config, config) if key not in _CHANGES_NO_RESULT]
    if lengthen and _is_longer(checkpoint, config):
        changed.remove("epochs")
    if changed:
        values = (
            f"{key} differs ({setting_text(before[key])} there, {setting_text(wanted[key])} here)" for key in changed
        )
        why = _why_not_longer(checkpoint, config) if lengthen and changed == ["epochs"] else ""
        own = folder / CONFIG_FILE
        how = f" MODEL={shlex.quote(str(own))} (--model) gives this one's." if own.is_file() else ""
        raise UserError(f"{path} was trained with other settings: {', '.join(values)}{why}", _REMEDY + how)
    if checkpoint.seed != seed:
        raise UserError(f"{path} was trained with seed {checkpoint.seed}, not {seed}", _REMEDY)
    return checkpoint


def _is_longer(checkpoint: Checkpoint, config: TrainConfig) -> bool:
    """Whether ``config`` has more epochs than a run that is finished, and the same learning rates until there."""
    return config.epochs > checkpoint.config.epochs == checkpoint.epoch and _same_rates(checkpoint, config)


def _same_rates(checkpoint: Checkpoint, config: TrainConfig) -> bool:
    done = checkpoint.config.epochs
    epochs = [done * part / _PARTS for part in range(_PARTS)]
    return all(rate_at(checkpoint.config, epoch) == rate_at(config, epoch) for epoch in epochs)


def _why_not_longer(checkpoint: Checkpoint, config: TrainConfig) -> str:
    """Why a run cannot have the ``config``'s epochs instead of its own, in sentences after its mistake."""
    done, kind = checkpoint.config.epochs, config.schedule.kind
    if config.epochs < done:
        return ". A run does not become shorter"
    if checkpoint.epoch < done:
        return f". Only a finished run becomes longer: first let it end, with EPOCHS={done}"
    return (
        f". Its learning rates (schedule.kind {kind}) depend on the number of epochs: in a run of {config.epochs} the "
        f"{done} finished ones would have had other rates, so that it cannot be continued as if it had been one. "
        "INITIAL=, with this run's folder, starts another run from its weights"
    )


def resume_run(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    epochs: int,
    store: dict[str, str],
    num_identities: int,
) -> Checkpoint:
    """Load the checkpoint at ``path`` into network, optimiser and the random states; returns it.

    ``store`` is what :func:`densereid.train.engine.checkpoint.store_fingerprint` says of the store of this run.
    Raises UserError where the checkpoint belongs to another store or other attributes, or is no ``last.pt``.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.store["digest"] != store["digest"] or checkpoint.num_identities != num_identities:
        raise UserError(f"{path} was trained on another store: {_other_store(checkpoint.store, store)}", _REMEDY)
    if not checkpoint.optimiser:
        raise UserError(
            f"{path} has no optimiser state, as a {BEST}: a run continues from {LAST} alone",
            "Bring the run's own file back, or start another run from these weights: INITIAL=FILE.",
        )
    attributes = network.state_dict().get("attribute_targets")
    before = checkpoint.model.get("attribute_targets")
    if attributes is not None and (before is None or not torch.equal(attributes.cpu(), before)):
        raise UserError(f"{path} was trained with other attributes than those of magnifier.attributes", _REMEDY)
    load_weights(network, checkpoint, path)
    _restore_states(path, optimiser, checkpoint)
    log.info("Continuing %s after epoch %d of %d.", path.parent, checkpoint.epoch, epochs)
    return checkpoint


def _restore_states(path: Path, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """The optimiser's state and the random states. Raises UserError where they are not those of such a network.

    The optimiser's options follow from the config, and stay as they are; its rate is that of the last step.
    """
    own = optimiser.state_dict()["param_groups"]
    for group, before in zip(own, checkpoint.optimiser.get("param_groups") or [], strict=False):
        if isinstance(before, dict) and isinstance(before.get("lr"), float):
            group["lr"] = before["lr"]
    parameters = dict(enumerate(parameter for group in optimiser.param_groups for parameter in group["params"]))
    state = checkpoint.optimiser["state"]
    strange = [
        number
        for number, values in state.items()
        if number not in parameters
        or any(values[name].shape != parameters[number].shape for name in ("exp_avg", "exp_avg_sq"))
    ]
    try:
        if strange:
            raise ValueError(f"the optimiser's state of parameter {strange[0]} is of another shape, or of none")
        optimiser.load_state_dict({"state": state, "param_groups": own})
        restore_random_states(checkpoint.random)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {path} is damaged: {first_line(error)}", DAMAGED) from error


def _other_store(before: dict[str, str], store: dict[str, str]) -> str:
    if before["path"] == store["path"]:
        return f"what is now at {store['path']} has other labels or sizes"
    return f"{before['path']}, not {store['path']}"


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
