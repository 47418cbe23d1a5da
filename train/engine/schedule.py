"""The learning rate as a pure function of the epoch."""

from __future__ import annotations

import logging
from math import cos, floor, pi

from densereid.data_catalog.plural import plural
from densereid.train.config.train_config import ScheduleConfig, TrainConfig, second_stage

log = logging.getLogger(__name__)


def log_stages(config: TrainConfig) -> None:
    """Log where the second stage of a run begins, or that the run is too short for it."""
    if not config.two_stages:
        return
    first = config.stages.first_epochs
    if config.epochs <= first:
        epochs = plural(config.epochs, "epoch")
        log.info("One stage, without the diversity loss: %s, stages.first_epochs is %d.", epochs, first)
        return
    rate = config.stages.second_rate
    log.info(
        "Stage 2, with the diversity loss, from epoch %d of %d; %s.",
        first + 1, config.epochs, f"learning rate {rate:g}" if rate else "the schedule continues",
    )  # fmt: skip


def rate_at(config: TrainConfig, epoch: float) -> float:
    """Learning rate of a run at ``epoch``: the schedule's, or the second stage's own where it has one."""
    if config.stages.second_rate and second_stage(config, epoch):
        return config.stages.second_rate
    return learning_rate(epoch, config.schedule, epochs=config.epochs)


def learning_rate(epoch: float, config: ScheduleConfig, *, epochs: int) -> float:
    """Learning rate at ``epoch`` (0 = before the first step; 2.5 = halfway through the third of ``epochs``).

    DSA-reID section 4.2: linear growth over 20 epochs from 8e-6 to 8e-4, then halved every 40 epochs.
    The paper does not say from where the 40 are counted. ``decay_from`` does: 0 gives the milestones
    40, 80, ... of SAN (the same group's code), 20 gives 60, 100, ...; the warm-up is never halved.
    """
    if epoch < config.warmup_epochs:
        return config.warmup_start + (config.peak - config.warmup_start) * epoch / config.warmup_epochs
    if config.kind == "constant":
        return config.peak
    if config.kind == "cosine":
        length = max(epochs - config.warmup_epochs, 1e-9)
        share = min(1.0, (epoch - config.warmup_epochs) / length)
        return config.peak * (1 + cos(pi * share)) / 2
    if config.kind == "milestones":
        passed = sum(epoch >= milestone for milestone in config.milestones)
    else:
        passed = max(0, floor((epoch - config.decay_from) / config.decay_every))
    return float(config.peak * config.decay_factor**passed)
