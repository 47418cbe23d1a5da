"""Checkpoints: written whole or not at all, read without running code, checked before they are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from densereid.data_catalog.errors import UserError, why_not_loaded
from densereid.data_catalog.files.atomic import replacing
from densereid.train.config.train_config import CONFIG_VERSION, TrainConfig, from_dict, to_dict
from densereid.train.data.dataset import StoreReader, read_labels
from densereid.train.families import build_empty_network
from densereid.train.networks.finite import not_finite

CHECKPOINT_VERSION = 1
LAST, BEST = "last.pt", "best.pt"


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
    """Write ``path`` so that a crash at any moment leaves the old file or the new one.

    Raises UserError where the disk is full or the folder cannot be written; the old file stays.
    """
    values = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    values |= {"config": to_dict(checkpoint.config), "checkpoint_version": CHECKPOINT_VERSION}
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(values, file)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a full disk
        raise UserError(
            f"checkpoint {path} could not be written: {error}",
            "Free some space or make the folder writable, then run the same command again: it continues.",
        ) from error


def load_checkpoint(path: Path, *, tensors: bool = True) -> Checkpoint:
    """The checkpoint at ``path``, on the CPU; without ``tensors`` theirs stay on disk until they are looked at.

    Raises UserError where it is missing, damaged, of another version, or (with ``tensors``) holds values that are not
    finite.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist", "Train first, or give the folder of a run.")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=not tensors)
    except Exception as error:  # torch raises many types for a truncated or foreign file
        raise UserError(
            f"checkpoint {path} cannot be read: {why_not_loaded(error)}", "It is damaged: remove it and train again."
        ) from error
    if not isinstance(values, dict) or "checkpoint_version" not in values:
        raise UserError(f"{path} is not a checkpoint of this project", "Give a last.pt or best.pt of a run.")
    version = values.pop("checkpoint_version")
    if version != CHECKPOINT_VERSION or values["versions"]["config"] != str(CONFIG_VERSION):
        raise UserError(
            f"checkpoint {path} has version {version}, config version {values['versions']['config']}; "
            f"this code reads {CHECKPOINT_VERSION} and {CONFIG_VERSION}",
            "Use the release that wrote it, or train again.",
        )
    if tensors and (problem := checkpoint_problem(values["model"], values["optimiser"])):
        raise UserError(
            f"checkpoint {path}: {problem}",
            "Its training has diverged. Take another checkpoint of the run, or train again with FRESH=1 (--fresh).",
        )
    return Checkpoint(**{**values, "config": from_dict(values["config"])})


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
    network = build_empty_network(checkpoint.config, checkpoint.num_identities)
    load_weights(network, checkpoint, path)
    return network.eval(), checkpoint


def checkpoint_path(run_or_file: Path) -> Path:
    """The checkpoint that a run folder or a file names: a folder's ``best.pt``, else its ``last.pt``."""
    if not run_or_file.is_dir():
        return run_or_file
    best = run_or_file / BEST
    return best if best.is_file() else run_or_file / LAST
