"""Embeddings of a store's images, and the scores of a network on its query and gallery splits."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import nn

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split, Status
from densereid.train.config.train_config import TrainConfig
from densereid.train.data.augmentation import normalise_dsap, normalise_image
from densereid.train.data.dataset import StoreReader, read_labels, read_rows, read_tensors
from densereid.train.evaluation.metrics import Labels, Scores, score_embeddings
from densereid.train.families import as_reid, evaluation_arrays

log = logging.getLogger(__name__)


def has_protocol(store: StoreReader) -> bool:
    """Whether the store has both query and gallery images."""
    split = read_rows(store, "split", slice(0, store.geometry.num_samples))
    return bool((split == Split.QUERY).any() and (split == Split.GALLERY).any())


def extract_embeddings(
    network: nn.Module,
    store: StoreReader,
    rows: np.ndarray,
    *,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
) -> torch.Tensor:
    """Embeddings float32 (N, D) on the CPU, L2-normalised, of the store's ``rows`` (int (N,)) in their order.

    The feature is ``config.evaluate.feature``; only what it needs is read, for ``f`` the image array
    alone. The network is put into evaluation mode and back.
    """
    was_training = network.training
    network.eval().to(device)
    embeddings = []
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                chosen = np.asarray(rows[start : start + batch_size])
                embeddings.append(_embed(network, store, chosen, config, device))
    finally:
        network.train(was_training)
    return torch.cat(embeddings) if embeddings else torch.zeros(0, as_reid(network).embedding_width)


def _embed(
    network: nn.Module, store: StoreReader, rows: np.ndarray, config: TrainConfig, device: torch.device | str
) -> torch.Tensor:
    needs = evaluation_arrays(config)
    tensors = read_tensors(store, rows, needs=needs, height=config.height, width=config.width)
    image = normalise_image(tensors["image"].to(device))
    dsap = None
    if "dsap" in tensors:
        dsap = normalise_dsap(tensors["dsap"].to(device), tensors["valid"].to(device), size=config.model.dsap_size)
    return as_reid(network).embed(image, dsap, feature=config.evaluate.feature).float().cpu()


def evaluate(
    network: nn.Module,
    store: StoreReader,
    *,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
) -> Scores:
    """CMC, mAP and mINP of the store's query images against its gallery; see :mod:`densereid.train.evaluation.metrics`.

    Raises UserError as :func:`protocol_embeddings`.
    """
    ranked = protocol_embeddings(network, store, config=config, device=device, batch_size=batch_size)
    return score_embeddings(*ranked[Split.QUERY], *ranked[Split.GALLERY])


def protocol_embeddings(
    network: nn.Module,
    store: StoreReader,
    *,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
) -> dict[Split, tuple[torch.Tensor, Labels]]:
    """Embeddings (N, D) on the CPU and labels of the store's query and gallery images.

    Images that preprocessing could not read are left out with a notice. Raises UserError for a store
    without query or gallery.
    """
    columns = read_labels(store)
    readable = columns.status != Status.FAILED
    rows = {role: np.flatnonzero((columns.split == role) & readable) for role in (Split.QUERY, Split.GALLERY)}
    for role, chosen in rows.items():
        if not len(chosen):
            raise UserError(
                f"{store.path} has no {role.name.lower()} images, so nothing can be ranked",
                "Evaluate on a dataset with query and gallery splits (market, synthetic).",
            )
    failed = int((~readable & (columns.split != Split.TRAIN)).sum())
    if failed:
        log.info("Left out of the evaluation: %d images that preprocessing could not read.", failed)
    ranked = {}
    for role, chosen in rows.items():
        embeddings = extract_embeddings(network, store, chosen, config=config, device=device, batch_size=batch_size)
        person_id, camera_id = (
            torch.from_numpy(values[chosen].astype(np.int64)) for values in (columns.person_id, columns.camera_id)
        )
        ranked[role] = embeddings, Labels(person_id, camera_id)
    return ranked
