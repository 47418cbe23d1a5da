"""A run with the store that it is evaluated on: its network, and the embeddings that are kept beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import Store
from densereid.pipeline.settings import resolve_device
from densereid.pipeline.store_choice import store_of_run
from densereid.train.config.train_config import TrainConfig, with_settings
from densereid.train.engine.checkpoint import Checkpoint, checkpoint_path, load_trained_network
from densereid.train.evaluation.kept_embeddings import once_embedded
from densereid.train.evaluation.metrics import Labels

EVALUATIONS = "evaluations"
"""The folder of an evaluation's files, in a run's folder."""

Embedded = Mapping[Split, tuple[torch.Tensor, Labels]]
"""Embeddings (N, D) on the CPU and labels of query and gallery."""


@dataclass(frozen=True)
class OpenRun:
    """A trained network, and what it is evaluated on and how."""

    run: Path
    """As it was given: a run's folder, or a checkpoint."""
    checkpoint_file: Path
    network: nn.Module
    checkpoint: Checkpoint
    config: TrainConfig
    """The checkpoint's, with the feature that is ranked."""
    store: Store
    device: str
    device_reason: str

    @property
    def files(self) -> Path:
        """Where the files of this evaluation lie, without their suffix: their name says what was evaluated."""
        name = f"{self.store.path.stem}-{self.checkpoint_file.stem}-{self.config.evaluate.feature}"
        return self.checkpoint_file.parent / EVALUATIONS / name

    def embedded(self) -> Embedded:
        """The embeddings of the store's query and gallery, extracted once and kept. Raises ScoringError."""
        return once_embedded(
            self.network, self.store, config=self.config, checkpoint=self.checkpoint_file,
            path=self.files.with_name(f"{self.files.name}.zarr"), device=self.device,
        )  # fmt: skip


def open_run(
    run: Path, *, store_path: AnyPath | None, device: str, feature: str | None, checkpoint_name: str
) -> OpenRun:
    """A run folder's checkpoint of that name, or a checkpoint, with its own store or another; nothing is computed.

    ``feature`` is ranked instead of the config's own. Raises UserError where run or store cannot be used.
    """
    network, checkpoint = load_trained_network(run, name=checkpoint_name)
    config = checkpoint.config if feature is None else with_settings(checkpoint.config, {"evaluate.feature": feature})
    chosen, why = resolve_device(device)
    store = store_of_run(run, checkpoint.store, store_path)
    file = checkpoint_path(run, name=checkpoint_name)
    return OpenRun(run, file, network, checkpoint, config, store, chosen, why)
