"""The network families by name: what every one of them offers, and which loss trains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from densereid.train.config.train_config import TrainConfig, second_stage
from densereid.train.data.batch import Inputs
from densereid.train.data.randomness import seed_everything
from densereid.train.losses.magnifiernet import magnifier_loss
from densereid.train.losses.metric_learning import Loss, dsa_loss
from densereid.train.networks.dsa_reid import DSAReid, dsa_arrays
from densereid.train.networks.magnifiernet import MagnifierReid, magnifiernet_arrays
from densereid.train.networks.regions import draw_regions


class ReidNetwork(Protocol):
    """A network that is trained; every family is an ``nn.Module`` with these."""

    embedding_width: int
    """D of an embedding."""

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Named features and logits for the family's loss."""

    def embed(self, image: Tensor, dsap: Tensor | None = None, *, feature: str = "f") -> Tensor:
        """L2-normalised embeddings, float32 (B, D), of normalised images (B, 3, H, W).

        Another ``feature`` than ``f`` may need the part images too: :func:`evaluation_arrays`.
        """

    def inference_network(self, feature: str = "f") -> nn.Module:
        """A copy that only embeds: a module from images to embeddings, by a feature of the image alone (``f...``)."""


@dataclass(frozen=True)
class Family:
    """What training asks of a network family; all of it follows from the config."""

    build: Callable[[TrainConfig, int], nn.Module]
    """A :class:`ReidNetwork` for a number of identities."""
    training_arrays: Callable[[TrainConfig], tuple[str, ...]]
    """The arrays that training reads."""
    evaluation_arrays: Callable[[TrainConfig], tuple[str, ...]]
    """The arrays that ranking the config's feature reads."""
    loss: Callable[[TrainConfig, dict[str, Tensor], Inputs, float], Loss]
    """The loss of a batch's outputs at an epoch."""
    draw: Callable[[TrainConfig, torch.Generator], Tensor | None]
    """What is drawn for a whole batch, the same in every process: its regions."""


def _dsa_evaluation_arrays(config: TrainConfig) -> tuple[str, ...]:
    """The image alone, unless streams are fused."""
    return dsa_arrays(config.model) if config.evaluate.feature.startswith("z") else ("image",)


def _magnifier_loss(config: TrainConfig, outputs: dict[str, Tensor], inputs: Inputs, epoch: float) -> Loss:
    return magnifier_loss(outputs, inputs.identity, config, second_stage=second_stage(config, epoch))


FAMILIES = {
    "dsa-reid": Family(
        build=lambda config, num_identities: DSAReid(
            config.model,
            num_identities,
            size=(config.height, config.width),
            repeat_on_main=config.loss.repeat_on_main > 0,
        ),
        training_arrays=lambda config: dsa_arrays(config.model),
        evaluation_arrays=_dsa_evaluation_arrays,
        loss=lambda config, outputs, inputs, _: dsa_loss(outputs, inputs.identity, config.loss),
        draw=lambda _config, _random: None,
    ),
    "magnifiernet": Family(
        build=MagnifierReid,
        training_arrays=magnifiernet_arrays,
        evaluation_arrays=lambda _: ("image",),
        loss=_magnifier_loss,
        draw=lambda config, random: draw_regions(config.magnifier, random),
    ),
}
"""By ``model.family``."""


def build_network(config: TrainConfig, num_identities: int, *, seed: int) -> nn.Module:
    """The config's network on the CPU, with weights that depend on ``seed`` only; a :class:`ReidNetwork`."""
    seed_everything(seed)
    if config.model.initial:  # weights that another run's will replace need no download
        config = _without_download(config)
    return FAMILIES[config.model.family].build(config, num_identities)


def build_empty_network(config: TrainConfig, num_identities: int) -> nn.Module:
    """As build_network, for weights that a checkpoint will replace: nothing is downloaded."""
    return build_network(_without_download(config), num_identities, seed=0)


def check_network(config: TrainConfig) -> None:
    """Raise UserError where the config's network cannot be built; in a moment, without its weights."""
    with torch.device("meta"):
        build_empty_network(config, num_identities=1)


def _without_download(config: TrainConfig) -> TrainConfig:
    return replace(config, model=replace(config.model, pretrained="never"))


def training_arrays(config: TrainConfig) -> tuple[str, ...]:
    """The arrays that training the config's network reads."""
    return FAMILIES[config.model.family].training_arrays(config)


def evaluation_arrays(config: TrainConfig) -> tuple[str, ...]:
    """The arrays that ranking the config's feature reads."""
    return FAMILIES[config.model.family].evaluation_arrays(config)


def inference_feature(config: TrainConfig) -> str:
    """The feature that the config's inference network gives: the one that is ranked; ``f`` where that is ``z``, which
    needs part images."""
    feature = config.evaluate.feature
    return "f" if feature.startswith("z") else feature


def draw_regions_of_batch(config: TrainConfig, random: torch.Generator) -> Tensor | None:
    """What the config's family draws for a whole batch (MagnifierNet's regions), on the CPU."""
    return FAMILIES[config.model.family].draw(config, random)


def as_reid(network: nn.Module) -> ReidNetwork:
    """The same module, typed as what every family offers."""
    return cast(ReidNetwork, network)


def loss_of(config: TrainConfig, outputs: dict[str, Tensor], inputs: Inputs, *, epoch: float = 0.0) -> Loss:
    """The loss that the config's family is trained with, at ``epoch`` (MagnifierNet's has two stages)."""
    return FAMILIES[config.model.family].loss(config, outputs, inputs, epoch)
