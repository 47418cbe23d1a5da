"""Embeddings of a store's images, and the scores of a network on its query and gallery splits."""

from __future__ import annotations

import hashlib
import logging

import numpy as np
import torch
from torch import nn

from densereid.data_catalog.datasets.records import UNKNOWN
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split, Status
from densereid.train.config.train_config import TrainConfig
from densereid.train.data.augmentation import normalise_dsap, normalise_image
from densereid.train.data.dataset import LabelColumns, StoreReader, read_labels, read_rows, read_tensors
from densereid.train.evaluation.metrics import (
    Labels,
    Scores,
    ScoringError,
    check_embeddings,
    check_protocol,
    chunks,
    score_embeddings,
)
from densereid.train.families import as_reid, evaluation_arrays
from densereid.train.networks.finite import not_finite

log = logging.getLogger(__name__)

_IMAGES_AT_ONCE = 256


def has_protocol(store: StoreReader) -> bool:
    """Whether the store's query images can be scored against its gallery; where not, the log has the reason."""
    try:
        check_scorable(store)
    except ScoringError as error:
        log.warning("Nothing can be evaluated, training has no scores: %s. %s", error.problem, error.remedy)
        return False
    return True


def check_scorable(store: StoreReader) -> None:
    """Raise ScoringError where the store's labels leave nothing to score, whichever network embeds its images."""
    _protocol(store)


def _protocol(store: StoreReader) -> dict[Split, tuple[np.ndarray, Labels]]:
    """The rows of query and gallery that could be read, int64 (N,), and their labels; ScoringError as check_scorable.

    Where a camera is unknown, the labels know which images have the same pixels.
    """
    columns = read_labels(store)
    rows = {role: _rows_of(columns, role) for role in (Split.QUERY, Split.GALLERY)}
    for role, chosen in rows.items():
        if not len(chosen):
            raise ScoringError(
                f"{store.path} has no {role.name.lower()} images, so nothing can be ranked",
                "Evaluate on a dataset with query and gallery splits (market, synthetic). Of a folder, PATTERN's group "
                "split says which images these are.",
            )
    alike = any((columns.camera_id[chosen] == UNKNOWN).any() for chosen in rows.values())
    labels = {
        role: Labels(
            torch.from_numpy(columns.person_id[chosen].astype(np.int64)),
            torch.from_numpy(columns.camera_id[chosen].astype(np.int64)),
            _contents(store, chosen) if alike else None,
        )
        for role, chosen in rows.items()
    }
    check_protocol(labels[Split.QUERY], labels[Split.GALLERY])
    return {role: (rows[role], labels[role]) for role in rows}


def protocol_labels(store: StoreReader) -> dict[Split, Labels]:
    """The labels of :func:`protocol_embeddings`, without embedding anything. Raises ScoringError as check_scorable."""
    return {role: labels for role, (_, labels) in _protocol(store).items()}


def query_rows(store: StoreReader) -> np.ndarray:
    """The store's rows of the query images that are embedded, int64 (num_query,), in their order."""
    return _rows_of(read_labels(store), Split.QUERY)


def gallery_rows(store: StoreReader) -> np.ndarray:
    """The store's rows of the gallery images that are embedded, int64 (num_gallery,), in their order."""
    return _rows_of(read_labels(store), Split.GALLERY)


def _rows_of(columns: LabelColumns, role: Split) -> np.ndarray:
    return np.flatnonzero((columns.split == role) & (columns.status != Status.FAILED))


def _contents(store: StoreReader, rows: np.ndarray) -> torch.Tensor:
    """A number of each image's pixels, int64 (N,): the beginning of their SHA-256."""
    numbers = [
        int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "little", signed=True)
        for part in chunks(len(rows), _IMAGES_AT_ONCE)
        for image in read_rows(store, "image", rows[part])
    ]
    return torch.tensor(numbers)


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
    alone. The network is put into evaluation mode and back. Raises ScoringError where a weight, a
    buffer or an embedding is not finite.
    """
    if problem := not_finite(network.state_dict()):  # its embeddings could be numbers all the same
        raise ScoringError(f"the network cannot embed: {problem}", "Take another checkpoint of the run.")
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
    found = torch.cat(embeddings) if embeddings else torch.zeros(0, as_reid(network).embedding_width)
    check_embeddings(found, f"embeddings of {store.path}")
    return found


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

    Raises ScoringError as :func:`protocol_embeddings`.
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

    Images that preprocessing could not read are left out with a notice. Raises ScoringError as
    :func:`check_scorable` and :func:`extract_embeddings`.
    """
    columns = read_labels(store)
    failed = int(((columns.status == Status.FAILED) & (columns.split != Split.TRAIN)).sum())
    if failed:
        log.info("Left out of the evaluation: %s that preprocessing could not read.", plural(failed, "image"))
    return {
        role: (extract_embeddings(network, store, rows, config=config, device=device, batch_size=batch_size), labels)
        for role, (rows, labels) in _protocol(store).items()
    }
