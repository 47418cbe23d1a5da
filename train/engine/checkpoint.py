"""Checkpoints: written whole or not at all, read without running code, checked before they are used."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.config.train_config import CONFIG_VERSION, TrainConfig, from_dict, to_dict
from densereid.train.data.dataset import StoreReader, read_labels
from densereid.train.evaluation.metrics import Scores
from densereid.train.families import build_empty_network
from densereid.train.networks.finite import not_finite
from densereid.train.networks.tensor_file import CHECKSUMS, check_tensors, load_tensor_file, save_tensor_file

log = logging.getLogger(__name__)

CHECKPOINT_VERSION = 2
"""Version 1 has no checksums."""

DAMAGED = (
    "Bring a copy of it back, or use another checkpoint of the run. FRESH=1 (--fresh) trains again and discards those "
    "that there are."
)
"""What to do where a checkpoint is not what was written."""

LAST, BEST = "last.pt", "best.pt"

EXPORT_FORMAT = "densereid-embedding"
"""What an exported network calls itself (:mod:`densereid.train.engine.export`)."""


@dataclass(frozen=True)
class Checkpoint:
    """A run after ``epoch`` finished epochs: everything needed to continue as if it had not stopped."""

    model: dict[str, Any]
    optimiser: dict[str, Any]
    """Its state, twice the size of the weights; empty in ``best.pt``, from which no run continues."""
    epoch: int
    step: int
    best: float
    """Best mAP so far; -1 before the first evaluation."""
    scores: dict[str, float]
    """Scores of the last evaluation by name; empty before the first."""
    scores_epoch: int
    """Finished epochs at that evaluation; -1 before the first."""
    seed: int
    random: dict[str, Any]
    config: TrainConfig
    num_identities: int
    store: dict[str, str]
    """``dataset``, ``path`` and ``digest`` of the store it was trained on."""
    versions: dict[str, str]


def store_fingerprint(store: StoreReader) -> dict[str, str]:
    """Dataset, absolute path and a SHA-256 over the store's geometry, identities, cameras and splits."""
    digest = hashlib.sha256(json.dumps(store.geometry.to_dict(), sort_keys=True).encode())
    labels = read_labels(store)
    for values in (labels.person_id, labels.camera_id, labels.split, labels.status):
        digest.update(np.ascontiguousarray(values).astype("<i8").tobytes())
    dataset = str(store.attributes.get("dataset", "unknown"))
    return {"dataset": dataset, "path": str(store.path.absolute()), "digest": digest.hexdigest()}


def library_versions() -> dict[str, str]:
    """Versions that can change a run's numbers."""
    return {"torch": str(torch.__version__), "numpy": np.__version__, "config": str(CONFIG_VERSION)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``path`` with its checksums, so that a crash at any moment leaves the old file or the new one.

    Raises UserError where the disk is full or the folder cannot be written; the old file stays.
    """
    values = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    values |= {"config": to_dict(checkpoint.config), "checkpoint_version": CHECKPOINT_VERSION}
    values["model"] = dict(checkpoint.model)  # torch's own dictionary carries versions of modules that nothing checks
    again = "Free some space or make the folder writable, then run the same command again: it continues."
    save_tensor_file(path, values, what="checkpoint", remedy=again)


def load_checkpoint(path: Path, *, tensors: bool = True) -> Checkpoint:
    """The checkpoint at ``path``, on the CPU; without ``tensors`` theirs stay on disk until they are looked at.

    Raises UserError where it is missing, is not what was written, is of another version, or (with ``tensors``) holds
    values that are not finite.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist", "Train first, or give the folder of a run.")
    values = load_tensor_file(path, what="checkpoint", remedy=DAMAGED, mapped=not tensors)
    if not isinstance(values, dict) or "checkpoint_version" not in values:
        raise _no_checkpoint(path, values)
    version = _checked_version(path, values)
    check_tensors(path, values, what="checkpoint", remedy=DAMAGED, mapped=not tensors)
    if version < CHECKPOINT_VERSION and tensors:
        log.info("%s has checkpoint version %d, without checksums: not all damage to it is noticed.", path, version)
    _check_fields(path, values)
    if tensors and (problem := checkpoint_problem(values["model"], values["optimiser"])):
        raise UserError(
            f"checkpoint {path}: {problem}",
            "Its training has diverged. Take another checkpoint of the run, or train again with FRESH=1 (--fresh).",
        )
    fields = {name: value for name, value in values.items() if name not in ("checkpoint_version", CHECKSUMS)}
    return Checkpoint(**{**fields, "config": _config(path, values["config"])})


def _no_checkpoint(path: Path, values: Any) -> UserError:
    """What a file of tensors is that is no checkpoint, as far as it is known."""
    if not isinstance(values, dict) or values.get("format") != EXPORT_FORMAT:
        return UserError(f"{path} is not a checkpoint of this project", "Give a last.pt or best.pt of a run.")
    run = f"the run's folder, {path.parent}" if (path.parent / LAST).is_file() else "the folder of the run"
    return UserError(
        f"{path} is an exported network, not a checkpoint: it holds what inference needs, and nothing of the run",
        f"Give {run}, or its best.pt or last.pt. densereid.train.engine.export.load_exported reads the exported file.",
    )


def _checked_version(path: Path, values: dict[str, Any]) -> int:
    """The version of a checkpoint's format; raises UserError for one that this code does not read."""
    version, versions = values["checkpoint_version"], values.get("versions")
    config = versions.get("config") if isinstance(versions, dict) else None
    known = isinstance(version, int) and 1 <= version <= CHECKPOINT_VERSION
    if not known or (isinstance(config, str) and config.isdigit() and config != str(CONFIG_VERSION)):
        raise UserError(
            f"checkpoint {path} has version {version}, config version {config}; "
            f"this code reads {CHECKPOINT_VERSION} and {CONFIG_VERSION}",
            "Use the release that wrote it, or train again.",
        )
    return int(version)


def _check_fields(path: Path, values: dict[str, Any]) -> None:
    """Raise UserError where a checkpoint has not exactly the fields of its version, each of its type."""
    kinds: dict[str, Any] = {
        name: {"int": int, "float": (int, float)}.get(str(field.type), dict)
        for name, field in Checkpoint.__dataclass_fields__.items()
    }
    kinds |= {"checkpoint_version": int}
    kinds |= {CHECKSUMS: dict} if values["checkpoint_version"] > 1 else {}
    wrong = [f"{name} is missing" for name in kinds if name not in values]
    wrong += [f"{name!r} does not belong there" for name in values if name not in kinds]
    wrong += [
        f"{name} is of type {type(values[name]).__name__}"
        for name, kind in kinds.items()
        if name in values and (not isinstance(values[name], kind) or isinstance(values[name], bool))
    ]
    wrong = wrong or _wrong_entries(values)
    if wrong:
        raise UserError(f"checkpoint {path} is damaged: {', '.join(wrong[:3])}", DAMAGED)


def _wrong_entries(values: dict[str, Any]) -> list[str]:
    """What is wrong inside the fields, in words."""
    wrong = [f"{name} is negative" for name in ("epoch", "step") if values[name] < 0]
    wrong += ["num_identities is not positive"] if values["num_identities"] < 1 else []
    texts = {"store": ("dataset", "path", "digest"), "versions": ("torch", "numpy", "config")}
    for field, names in texts.items():
        wrong += [f"{field} has no {name}" for name in names if not isinstance(values[field].get(name), str)]
    wrong += [
        f"{field}: {name!r} is of type {type(value).__name__}"
        for field, kind in (("model", torch.Tensor), ("scores", (int, float)))
        for name, value in values[field].items()
        if not isinstance(name, str) or not isinstance(value, kind)
    ]
    if values["scores"] and set(values["scores"]) != {field.name for field in fields(Scores)}:
        wrong.append("scores has not the names of scores")
    if values["random"] and not _are_states(values["random"]):
        wrong.append("random has no states of generators")
    if values["optimiser"] and not _is_adams(values["optimiser"]):
        wrong.append("optimiser has no state of the weights")
    return wrong


def _are_states(random: dict[str, Any]) -> bool:
    cuda = random.get("cuda")
    states = [random.get("torch"), *cuda] if isinstance(cuda, list) else [None]
    return all(isinstance(state, torch.Tensor) and state.dtype == torch.uint8 and state.ndim == 1 for state in states)


def _is_adams(optimiser: dict[str, Any]) -> bool:
    """Whether it has Adam's three tensors of each parameter, by the parameter's number."""
    state = optimiser.get("state")
    return isinstance(state, dict) and all(
        isinstance(number, int)
        and isinstance(values, dict)
        and set(values) == {"step", "exp_avg", "exp_avg_sq"}
        and all(isinstance(value, torch.Tensor) for value in values.values())
        and values["step"].numel() == 1
        for number, values in state.items()
    )


def _config(path: Path, values: Any) -> TrainConfig:
    try:
        return from_dict(values)
    except UserError as error:
        raise UserError(f"checkpoint {path} is damaged: its config has {error.problem}", DAMAGED) from error


def checkpoint_problem(model: Mapping[str, Any], optimiser: Mapping[str, Any]) -> str:
    """Which weights, buffers or optimiser states of a checkpoint are not finite; empty where all are."""
    moments = {
        f"{name} of parameter {number}": value
        for number, values in optimiser.get("state", {}).items()
        for name, value in values.items()
    }
    return not_finite({**model, **moments})


def checkpoint_sizes(network: nn.Module) -> tuple[int, int]:
    """About the bytes of the network's ``last.pt``, with Adam's two numbers for each weight, and of its ``best.pt``."""
    state = sum(value.nbytes for value in network.state_dict().values())
    return state + 2 * sum(parameter.nbytes for parameter in network.parameters()), state


def load_weights(network: nn.Module, checkpoint: Checkpoint, source: Path) -> None:
    """Put the checkpoint's weights into ``network``; raises UserError where they belong to another architecture."""
    try:
        network.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(
            f"the weights in {source} belong to another architecture: {reason}",
            "Use the config the run was trained with, or another run folder.",
        ) from error


def load_trained_network(run_or_file: Path) -> tuple[nn.Module, Checkpoint]:
    """The trained network on the CPU in evaluation mode, and the checkpoint it is from.

    A run folder gives its ``best.pt``, or ``last.pt`` where nothing was evaluated. Raises UserError
    where there is no checkpoint or it cannot be used.
    """
    path = checkpoint_path(run_or_file)
    checkpoint = load_checkpoint(path)
    try:
        network = build_empty_network(checkpoint.config, checkpoint.num_identities)
    except (RuntimeError, OverflowError, ValueError, TypeError) as error:  # a number of identities beyond all memory
        problem = f"{checkpoint.num_identities} identities make no network: {first_line(error)}"
        raise UserError(f"checkpoint {path} is damaged: {problem}", DAMAGED) from error
    load_weights(network, checkpoint, path)
    return network.eval(), checkpoint


def checkpoint_path(run_or_file: Path) -> Path:
    """The checkpoint that a run folder or a file names: a folder's ``best.pt``, else its ``last.pt``."""
    if not run_or_file.is_dir():
        return run_or_file
    best = run_or_file / BEST
    return best if best.is_file() else run_or_file / LAST
