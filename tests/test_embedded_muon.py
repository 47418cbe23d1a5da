"""Muon: orthogonal matrices against singular values, and its steps against one weight at a time in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from densereid.preprocess.embedded_training.muon import MOMENTUM, Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 48, 20), (1, 5, 5)])
def test_newton_schulz_against_the_singular_value_decomposition(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonal(matrices).float()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    cosine = (found * (u @ v)).sum(dim=(1, 2)) / found.norm(dim=(1, 2)) / (u @ v).norm(dim=(1, 2))
    assert cosine.min() > 0.95


def test_steps_against_one_weight_at_a_time() -> None:
    torch.manual_seed(1)
    weights = [nn.Parameter(torch.randn(6, 3, 3, 3)) for _ in range(2)] + [nn.Parameter(torch.randn(8, 4, 1, 1))]
    unused = nn.Parameter(torch.ones(2, 2))
    slow = [weight.detach().double().clone() for weight in weights]
    momentum = [torch.zeros_like(each) for each in slow]
    optimizer = Muon([*weights, unused], lr=0.05, weight_decay=0.1)
    for _ in range(3):
        gradients = [torch.randn_like(weight) for weight in weights]
        for index, gradient in enumerate(gradients):
            weights[index].grad = gradient
            momentum[index] = MOMENTUM * momentum[index] + (1 - MOMENTUM) * gradient.double()
            ahead = (1 - MOMENTUM) * gradient.double() + MOMENTUM * momentum[index]
            matrix = ahead.flatten(1)
            step = orthogonal(matrix[None])[0].double().reshape(gradient.shape)
            slow[index] = slow[index] * (1 - 0.05 * 0.1) - 0.05 * 0.2 * max(matrix.shape) ** 0.5 * step
        optimizer.step()
    for weight, expected in zip(weights, slow, strict=True):
        torch.testing.assert_close(weight.detach().double(), expected, atol=2e-3, rtol=0)
    assert torch.equal(unused.detach(), torch.ones(2, 2))
