"""Embeddings that are extracted once: kept beside the run, read while checkpoint, store and feature are the same."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from densereid.data_catalog.errors import first_line
from densereid.data_catalog.store.digest import contents_digest
from densereid.data_catalog.store.kept_arrays import keep_arrays, kept_arrays
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import Store
from densereid.train.config.train_config import TrainConfig
from densereid.train.evaluation.evaluate import protocol_embeddings, protocol_labels
from densereid.train.evaluation.metrics import Labels

log = logging.getLogger(__name__)

_VERSION = 1


def once_embedded(
    network: nn.Module, store: Store, *, config: TrainConfig, checkpoint: Path, path: Path, device: str
) -> dict[Split, tuple[Tensor, Labels]]:
    """As :func:`densereid.train.evaluation.evaluate.protocol_embeddings`, which fills the folder ``path`` once.

    What is kept there is read where it is of the same bytes of the ``checkpoint``, the same contents of the store and
    the same feature; the log says so. Where nothing can be kept, the log says why. Raises ScoringError as
    protocol_embeddings.
    """
    made_of = {
        "version": _VERSION,
        "checkpoint": _sha256(checkpoint),
        "store": contents_digest(store),
        "feature": config.evaluate.feature,
        "torch": str(torch.__version__),
    }
    kept = kept_arrays(path, made_of)
    labels = protocol_labels(store)
    if kept is not None and {name: len(values) for name, values in kept.items()} == {
        role.name.lower(): len(each.person_id) for role, each in labels.items()
    }:
        log.info("Embeddings are read from %s: the same checkpoint, store and feature.", path)
        return {role: (torch.from_numpy(kept[role.name.lower()]), labels[role]) for role in labels}
    found = protocol_embeddings(network, store, config=config, device=device)
    try:
        keep_arrays(path, {role.name.lower(): values.numpy() for role, (values, _) in found.items()}, made_of)
    except OSError as error:
        log.info("Embeddings are not kept: %s.", first_line(error))
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
