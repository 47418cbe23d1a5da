"""The trained network as a file of its own: what inference needs, and nothing that only trains it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from densereid.data_catalog.errors import UserError, why_not_loaded
from densereid.data_catalog.files.atomic import replacing
from densereid.train.config.train_config import TrainConfig, from_dict, to_dict
from densereid.train.engine.checkpoint import Checkpoint
from densereid.train.families import as_reid, build_empty_network, inference_feature
from densereid.train.networks.finite import not_finite

EXPORT_FORMAT = "densereid-embedding"
EXPORT_VERSION = 2
_READ = (1, EXPORT_VERSION)
"""Version 1 has no ``feature``: its network gives f, whichever feature its scores are of."""


def export_network(network: nn.Module, checkpoint: Checkpoint, path: Path) -> dict[str, float]:
    """Write the network's inference part to ``path``: weights, config and where they come from; the scores in it.

    It gives the feature that the config ranks, or f where that is z, which needs part images. ``scores`` are those of
    that feature and of these weights on the query and gallery of ``trained_on``, not re-ranked; empty where they were
    never measured. The file is read by :func:`load_exported`, or with torch.load(path, weights_only=True) as plain
    tensors and values. It appears whole or not at all. Raises UserError where weights are not finite, and where the
    file cannot be written.
    """
    config, feature = checkpoint.config, inference_feature(checkpoint.config)
    measured = feature == config.evaluate.feature and checkpoint.scores_epoch == checkpoint.epoch
    scores = checkpoint.scores if measured else {}
    weights = as_reid(network).inference_network(feature).state_dict()
    if problem := not_finite(weights):
        raise UserError(f"the network of epoch {checkpoint.epoch}: {problem}", "Export another checkpoint of the run.")
    values = {
        "format": EXPORT_FORMAT,
        "version": EXPORT_VERSION,
        "config": to_dict(config),
        "weights": weights,
        "feature": feature,
        "trained_on": checkpoint.store["dataset"],
        "epoch": checkpoint.epoch,
        "scores": scores,
    }
    try:
        with replacing(path) as temporary:
            torch.save(values, temporary)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a full disk
        raise UserError(f"{path} could not be written: {error}", "Free some space, or choose another file.") from error
    return scores


def load_exported(path: Path) -> tuple[nn.Module, TrainConfig]:
    """The network of an exported file on the CPU, in evaluation mode, and its config.

    It takes normalised images, float32 (B, 3, config.height, config.width)
    (:func:`densereid.train.data.augmentation.normalise_image`), and gives L2-normalised embeddings (B, D): the feature
    that the file names. Raises UserError where the file is missing, damaged, something else, or not finite.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", "Write it with `densereid export RUN`.") from error
    except Exception as error:  # torch raises many types for a truncated or foreign file
        raise UserError(f"{path} cannot be read: {why_not_loaded(error)}", "Export the run again.") from error
    if not isinstance(values, dict) or values.get("format") != EXPORT_FORMAT:
        raise UserError(f"{path} is no exported network", "Write one with `densereid export RUN`.")
    if values["version"] not in _READ:
        raise UserError(
            f"{path} has version {values['version']}, this code reads {EXPORT_VERSION}", "Export the run again."
        )
    if problem := not_finite(values["weights"]):
        raise UserError(f"{path}: {problem}", "Export another checkpoint of the run.")
    config = from_dict(values["config"])
    network = as_reid(build_empty_network(config, num_identities=1)).inference_network(values.get("feature", "f"))
    network.load_state_dict(values["weights"])
    return network.eval(), config
