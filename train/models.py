"""The network families by name: what every one of them offers, and which loss trains it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, cast

from torch import Tensor, nn

from data_catalog.errors import UserError
from train.batch import Inputs
from train.config import TrainConfig
from train.determinism import seed_everything
from train.dsa import DSAReid
from train.dsa import network_needs as dsa_needs
from train.losses import Loss, dsa_loss


class ReidNetwork(Protocol):
    """A network that is trained; every family is an ``nn.Module`` with these."""

    needs: tuple[str, ...]
    """Arrays of a store that training reads: image, dsap, dsap_valid, mask."""
    embedding_width: int
    """D of an embedding."""

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Named features and logits for the family's loss."""

    def embed(self, image: Tensor, dsap: Tensor | None = None, *, feature: str = "f") -> Tensor:
        """L2-normalised embeddings, float32 (B, D), of normalised images (B, 3, H, W).

        Another ``feature`` than ``f`` may need the part images too: :func:`evaluation_needs`.
        """

    def inference_network(self) -> nn.Module:
        """A copy that only embeds: a module from images to embeddings."""


def build_network(config: TrainConfig, num_identities: int, *, seed: int) -> nn.Module:
    """The config's network on the CPU, with weights that depend on ``seed`` only; a :class:`ReidNetwork`."""
    seed_everything(seed)
    if config.model.family == "dsa-reid":
        # Weights that another run's will replace need no download.
        model = replace(config.model, pretrained="never") if config.model.initial else config.model
        return DSAReid(model, num_identities)
    raise UserError(f"unknown network family {config.model.family!r}", "Known: dsa-reid.")


def build_empty_network(config: TrainConfig, num_identities: int) -> nn.Module:
    """As build_network, for weights that a checkpoint will replace: nothing is downloaded."""
    return build_network(replace(config, model=replace(config.model, pretrained="never")), num_identities, seed=0)


def network_needs(config: TrainConfig) -> tuple[str, ...]:
    """The arrays that training the config's network reads."""
    return dsa_needs(config.model)


def evaluation_needs(config: TrainConfig) -> tuple[str, ...]:
    """The arrays that ranking the config's feature reads: the image alone, unless streams are fused."""
    return network_needs(config) if config.evaluate.feature.startswith("z") else ("image",)


def as_reid(network: nn.Module) -> ReidNetwork:
    """The same module, typed as what every family offers."""
    return cast(ReidNetwork, network)


def loss_of(config: TrainConfig, outputs: dict[str, Tensor], inputs: Inputs) -> Loss:
    """The loss that the config's family is trained with."""
    return dsa_loss(outputs, inputs.identity, config.loss)
