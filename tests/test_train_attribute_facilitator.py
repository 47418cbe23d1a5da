"""The attribute facilitator of MagnifierNet v1, section 3.5, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from densereid.data_catalog.datasets.attributes import GROUPS
from densereid.train.losses.magnifiernet import attribute_loss
from densereid.train.networks.attribute_facilitator import AttributeFacilitator, add_activations

CHANNELS = 16
MIXED = ("upper", "general", "lower", "upper", "head", "general", "lower", "upper")
NO_HEAD = ("general", "upper")


def _maps(channels: int, height: int = 6, width: int = 3) -> Tensor:
    return torch.rand(3, channels, height, width, generator=torch.Generator().manual_seed(0))


def _slow_logits(network: AttributeFacilitator, features: Tensor, masks: Tensor, groups: tuple[str, ...]) -> np.ndarray:
    """Group by group as the paper draws it: weigh the map, average it, a classifier of the group's own attributes."""
    logits = np.zeros((len(features), len(groups)))
    for index, name in enumerate(GROUPS):
        own = [place for place, group in enumerate(groups) if group == name]
        for sample in range(len(features)):
            weighed = np.zeros(features.shape[1])
            for y in range(features.shape[2]):
                for x in range(features.shape[3]):
                    weighed += features[sample, :, y, x].numpy() * masks[sample, index, y, x].item()
            mean = weighed / (features.shape[2] * features.shape[3])
            for place in own:
                weight, bias = network.classify.weight[place].detach().numpy(), network.classify.bias[place].item()
                logits[sample, place] = mean @ weight + bias
    return logits


@pytest.mark.parametrize("groups", [MIXED, NO_HEAD])
def test_section_3_5_masks_weigh_the_map_and_each_group_has_its_own_classifier(groups: tuple[str, ...]) -> None:
    torch.manual_seed(1)
    network = AttributeFacilitator(CHANNELS, groups).eval()
    features = _maps(CHANNELS)
    with torch.no_grad():
        logits, activations = network(features)
        inner = network.bottleneck(features)
        expected = 1 / (1 + torch.exp(-torch.einsum("bchw,gc->bghw", inner, network.activate.weight[:, :, 0, 0])
                                      - network.activate.bias[:, None, None]))  # fmt: skip
    torch.testing.assert_close(activations, expected)
    assert activations.shape == (3, 4, 6, 3)
    np.testing.assert_allclose(logits, _slow_logits(network, features, activations, groups), rtol=1e-4, atol=1e-5)


def test_the_published_size_is_resnets_bottleneck_and_one_weight_a_channel() -> None:
    with torch.device("meta"):
        network = AttributeFacilitator(2048, ("upper",) * 30)
    shapes = [tuple(weight.shape) for weight in network.bottleneck.parameters() if weight.ndim == 4]
    assert shapes == [(512, 2048, 1, 1), (512, 512, 3, 3), (2048, 512, 1, 1)]
    assert tuple(network.activate.weight.shape) == (4, 2048, 1, 1)
    assert tuple(network.classify.weight.shape) == (30, 2048)


@pytest.mark.parametrize("size", [(6, 3), (12, 6)])
def test_section_3_5_activations_are_added_to_the_masks_of_their_region(size: tuple[int, int]) -> None:
    masks, activations = _maps(8).round(), _maps(4, *size)
    added = add_activations(masks, activations)
    tall, across = size[0] // 6, size[1] // 3
    region = {1: 1, 2: 2, 3: 2, 4: 2, 5: 3, 6: 3, 7: 3}  # head; torso and arms; legs and feet
    for sample in range(3):
        for label in range(8):
            for y in range(6):
                for x in range(3):
                    expected = masks[sample, label, y, x].item()
                    if label in region:
                        cell = activations[
                            sample, region[label], y * tall : (y + 1) * tall, x * across : (x + 1) * across
                        ]
                        expected += cell.mean().item()
                    assert added[sample, label, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_attributes_train_the_activations_and_the_part_masks_do_not() -> None:
    network = AttributeFacilitator(CHANNELS, MIXED)
    features = _maps(CHANNELS).requires_grad_()
    logits, activations = network(features)
    assert not add_activations(torch.zeros(3, 8, 6, 3), activations).requires_grad
    attribute_loss(logits, torch.zeros(3, len(MIXED))).backward()
    gradient = network.activate.weight.grad
    assert gradient is not None
    assert (gradient.abs().sum((1, 2, 3)) > 0).all()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_the_loss_is_the_binary_cross_entropy_of_each_attribute() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    targets = (torch.rand(5, 4, generator=torch.Generator().manual_seed(3)) < 0.5).float()
    total = 0.0
    for logit, target in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        probability = 1 / (1 + math.exp(-logit))
        total -= math.log(probability if target else 1 - probability)
    assert attribute_loss(logits, targets).item() == pytest.approx(total / 20, rel=1e-5)
