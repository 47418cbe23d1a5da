"""What is checked and looked up before a run starts: a store that has what the network learns from, attributes."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
from rich import filesize
from torch import nn

from densereid.data_catalog.datasets.attributes import (
    attribute_matrix,
    find_attributes,
    has_attributes,
    read_person_attributes,
)
from densereid.data_catalog.errors import UserError, first_line
from densereid.train.config.train_config import TrainConfig, with_settings
from densereid.train.data.dataset import StoreDataset, StoreReader
from densereid.train.engine.checkpoint import BEST, LAST, checkpoint_sizes
from densereid.train.families import training_arrays
from densereid.train.networks.magnifiernet import MagnifierReid

log = logging.getLogger(__name__)

_LOOKED_AT = 64


def check_disk(folder: Path, network: nn.Module) -> None:
    """Log what the run's checkpoints take on disk; raise UserError where they cannot fit."""
    last, best = checkpoint_sizes(network)
    there = sum((folder / name).stat().st_size for name in (LAST, BEST) if (folder / name).is_file())
    free = shutil.disk_usage(next(above for above in (folder, *folder.absolute().parents) if above.is_dir())).free
    words = (
        f"{LAST} {filesize.decimal(last)}, {BEST} {filesize.decimal(best)}, and once more {LAST} while it is replaced"
    )
    log.info("Disk: %s; %s are free in %s.", words, filesize.decimal(free), folder)
    if 2 * last + best > free + there:
        raise UserError(
            f"the checkpoints in {folder} do not fit: {words}; {filesize.decimal(free)} are free there",
            "Make room, or choose another RUN_ROOT. Nothing was written.",
        )


def check_store(config: TrainConfig, dataset: StoreDataset) -> None:
    """Raise UserError where the store's arrays cannot teach the config's network."""
    needs = training_arrays(config)
    if "dsap" in needs or "crops" in needs:
        _check_dsap_size(config, dataset.store)
    if "mask" in needs:
        _check_masks(config, dataset)


def _check_dsap_size(config: TrainConfig, store: StoreReader) -> None:
    stored, asked = store.geometry.dsap_size, config.model.dsap_size
    if asked > stored or stored % asked:
        raise UserError(
            f"model.dsap_size is {asked}, the store's DSAP images are {stored}x{stored}",
            f"Set model.dsap_size to {stored} or a divisor, or derive another store: `make derive DSAP_SIZE={asked}`.",
        )


def _check_masks(config: TrainConfig, dataset: StoreDataset) -> None:
    """Look at some training images' masks: they must exist, and one must show a person."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, _LOOKED_AT).astype(np.int64))
    remedy = "Preprocess the dataset with an estimator that finds persons, or train magnifiernet-global, without masks."
    try:
        masks = dataset.store.read("mask", dataset.rows[chosen])
    except (UserError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{config.name} learns from masks, and {dataset.store.path} has none: {first_line(error)}", remedy
        ) from error
    if not masks.any():
        raise UserError(
            f"{config.name} learns from masks, and {len(chosen)} of {dataset.store.path} that were looked at show "
            "background alone",
            remedy,
        )


def resolve_attributes(config: TrainConfig, dataset: str) -> TrainConfig:
    """The config with the groups of its attribute file's attributes; the same without a facilitator.

    ``dataset`` is the store's. Raises UserError where a facilitator lacks its file.
    """
    magnifier = config.magnifier
    if not config.has_facilitator:
        return config
    if not magnifier.attributes:
        if not has_attributes(dataset):
            find_attributes(dataset, ())
        raise UserError(
            f"{config.name} has an attribute facilitator, and magnifier.attributes names no file",
            f"Give the attribute file of {dataset}: --set magnifier.attributes=FILE.mat",
        )
    table = read_person_attributes(Path(magnifier.attributes))
    return with_settings(config, {"magnifier.attribute_groups": "".join(group[0] for group in table.groups)})


def add_attribute_targets(config: TrainConfig, network: nn.Module, person_ids: np.ndarray) -> None:
    """Give a network with a facilitator the attributes of its identities; raises UserError where a person has none."""
    if config.has_facilitator:
        assert isinstance(network, MagnifierReid)
        network.set_attribute_targets(
            attribute_matrix(read_person_attributes(Path(config.magnifier.attributes)), person_ids)
        )
