"""The trained network as a file of its own: what inference needs, and nothing that only trains it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.config.train_config import TrainConfig, from_dict, to_dict
from densereid.train.engine.checkpoint import EXPORT_FORMAT, Checkpoint
from densereid.train.families import as_reid, build_empty_network, inference_feature
from densereid.train.networks.finite import not_finite
from densereid.train.networks.tensor_file import CHECKSUMS, check_tensors, load_tensor_file, save_tensor_file

log = logging.getLogger(__name__)

EXPORT_VERSION = 3
"""Version 1 has no ``feature``: its network gives f, whichever feature its scores are of. Version 2 has no checksum."""

_KINDS: dict[str, type] = {
    "format": str, "version": int, "config": dict, "weights": dict, "feature": str, "trained_on": str, "epoch": int,
    "scores": dict, CHECKSUMS: dict,
}  # fmt: skip
_REMEDY = "Export the run again: `densereid export RUN`."


def export_network(network: nn.Module, checkpoint: Checkpoint, path: Path) -> dict[str, float]:
    """Write the network's inference part to ``path``: weights, config and where they come from; the scores in it.

    It gives the feature that the config ranks, or f where that is z, which needs part images. ``scores`` are those of
    that feature and of these weights on the query and gallery of ``trained_on``, not re-ranked; empty where they were
    never measured. The file is read by :func:`load_exported`, or with torch.load(path, weights_only=True) as plain
    tensors and values. It appears whole or not at all, has checksums, and equal content gives equal bytes. Raises
    UserError where weights are not finite, and where the file cannot be written.
    """
    scores, weights = exported_scores(checkpoint), finite_inference_network(network, checkpoint).state_dict()
    values = {
        "format": EXPORT_FORMAT,
        "version": EXPORT_VERSION,
        "config": to_dict(checkpoint.config),
        "feature": inference_feature(checkpoint.config),
        "trained_on": checkpoint.store["dataset"],
        "epoch": checkpoint.epoch,
        "scores": scores,
        "weights": dict.fromkeys(sorted(weights)),
    }
    plain = json.loads(json.dumps(values, sort_keys=True))  # pickle writes a text that occurs twice once if it is one
    plain["weights"] = {name: laid_out(weights[name]) for name in plain["weights"]}
    remedy = "Free some space, or choose another file."
    save_tensor_file(path, plain, what="exported network", remedy=remedy)
    return scores


def exported_scores(checkpoint: Checkpoint) -> dict[str, float]:
    """The scores that an export carries: those of the feature that it gives and of these weights, or none."""
    config = checkpoint.config
    measured = inference_feature(config) == config.evaluate.feature and checkpoint.scores_epoch == checkpoint.epoch
    return checkpoint.scores if measured else {}


def finite_inference_network(network: nn.Module, checkpoint: Checkpoint) -> nn.Module:
    """A copy of what inference needs of the network. Raises UserError where its weights are not finite."""
    kept = as_reid(network).inference_network(inference_feature(checkpoint.config))
    if problem := not_finite(kept.state_dict()):
        raise UserError(f"the network of epoch {checkpoint.epoch}: {problem}", "Export another checkpoint of the run.")
    return kept


def laid_out(weight: Tensor) -> Tensor:
    """The weight in the order of its dimensions, in memory of its own: a file would have all that it is a view of."""
    return torch.empty(weight.shape, dtype=weight.dtype).copy_(weight.detach())  # contiguous() keeps odd strides of 1


def load_exported(path: Path) -> tuple[nn.Module, TrainConfig]:
    """The network of an exported file on the CPU, in evaluation mode, and its config.

    It takes normalised images, float32 (B, 3, config.height, config.width)
    (:func:`densereid.train.data.augmentation.normalise_image`), and gives L2-normalised embeddings (B, D): the feature
    that the file names. Raises UserError where the file is missing, damaged, something else, or not finite.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist", "Write it with `densereid export RUN`.")
    values = load_tensor_file(path, what="exported network", remedy=_REMEDY)
    if not isinstance(values, dict) or values.get("format") != EXPORT_FORMAT:
        what = "a checkpoint, no exported network" if "checkpoint_version" in (values or ()) else "no exported network"
        raise UserError(f"{path} is {what}", "Write one with `densereid export RUN`.")
    version = values.get("version")
    if not isinstance(version, int) or not 1 <= version <= EXPORT_VERSION:
        raise UserError(f"{path} has version {version}, this code reads {EXPORT_VERSION}", "Export the run again.")
    check_tensors(path, values, what="exported network", remedy=_REMEDY)
    if version < EXPORT_VERSION:
        log.info("%s has version %d, without checksums: not all damage to it is noticed.", path, version)
    _check_entries(path, values, version)
    if problem := not_finite(values["weights"]):
        raise UserError(f"{path}: {problem}", "Export another checkpoint of the run.")
    try:
        config = from_dict(values["config"])
        network = as_reid(build_empty_network(config, num_identities=1)).inference_network(values.get("feature", "f"))
        network.load_state_dict(values["weights"])
    except (UserError, RuntimeError, ValueError, KeyError, AssertionError) as error:
        problem = f"its weights and its config do not belong together: {first_line(error)}"
        raise UserError(f"exported network {path} is damaged: {problem}", _REMEDY) from error
    return network.eval(), config


def _check_entries(path: Path, values: dict[str, Any], version: int) -> None:
    """Raise UserError where an export has not exactly the entries of its version, each of its type."""
    newer = {"feature": 2, CHECKSUMS: 3}
    kinds = {name: kind for name, kind in _KINDS.items() if newer.get(name, 1) <= version}
    wrong = [f"{name} is missing or of another type" for name in kinds if not isinstance(values.get(name), kinds[name])]
    wrong += [f"{name!r} does not belong there" for name in values if name not in kinds]
    if not wrong and not all(isinstance(value, Tensor) for value in values["weights"].values()):
        wrong = ["its weights are no tensors"]
    if wrong:
        raise UserError(f"exported network {path} is damaged: {', '.join(wrong[:3])}", _REMEDY)
