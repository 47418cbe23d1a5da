from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_train import slow_identity_loss, slow_triplet_loss

from densereid.train.config.train_config import LossConfig
from densereid.train.losses.metric_learning import batch_hard_triplet_loss, dsa_loss, identity_loss, pairwise_distances


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), people=st.integers(1, 4), images=st.integers(1, 3), margin=st.floats(0, 2))
def test_batch_hard_triplet_loss_equals_three_loops(seed: int, people: int, images: int, margin: float) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(people * images, 5)).astype(np.float32)
    identity = random.permutation(np.repeat(np.arange(people), images))
    loss = batch_hard_triplet_loss(torch.from_numpy(features), torch.from_numpy(identity), margin=margin)
    assert loss.item() == pytest.approx(slow_triplet_loss(features, identity, margin), abs=2e-3)


def test_triplet_gradient_is_finite_where_features_coincide() -> None:
    features = torch.zeros(4, 3, requires_grad=True)
    batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.3).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_pairwise_distances_equal_the_definition() -> None:
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    expected = (features[:, None] - features[None]).norm(dim=2)
    torch.testing.assert_close(pairwise_distances(features), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_identity_loss_equals_the_reference_and_sums_branches(smoothing: float) -> None:
    random = np.random.default_rng(0)
    logits, identity = random.normal(size=(5, 3, 7)), random.integers(0, 7, 5)
    loss = identity_loss(torch.from_numpy(logits), torch.from_numpy(identity), label_smoothing=smoothing)
    expected = sum(slow_identity_loss(logits[:, branch], identity, smoothing) for branch in range(3))
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    single = identity_loss(torch.from_numpy(logits[:, 0]), torch.from_numpy(identity), label_smoothing=smoothing)
    assert single.item() == pytest.approx(slow_identity_loss(logits[:, 0], identity, smoothing), abs=1e-5)


def test_section_3_2_4_losses_and_weights() -> None:
    """Which feature gets which loss with which weight, computed one by one."""
    random = np.random.default_rng(1)
    identity = np.array([0, 0, 1, 1, 2, 2])
    arrays = {
        "z_global": random.normal(size=(6, 4)),
        "z_local": random.normal(size=(6, 8)),
        "logits_f_global": random.normal(size=(6, 1, 3)),
        "logits_f_local": random.normal(size=(6, 8, 3)),
        "logits_z_global": random.normal(size=(6, 1, 3)),
        "logits_z_local": random.normal(size=(6, 1, 3)),
    }
    outputs = {name: torch.from_numpy(values) for name, values in arrays.items()}
    loss = dsa_loss(outputs, torch.from_numpy(identity), LossConfig())

    def identity_of(name: str, branch: int = 0) -> float:
        return slow_identity_loss(arrays[f"logits_{name}"][:, branch], identity, 0.1)

    expected = {
        "identity_f_global": 0.5 * identity_of("f_global"),
        "identity_f_local": sum(0.5 * identity_of("f_local", branch) for branch in range(8)),
        "identity_z_global": 1.0 * identity_of("z_global"),
        "identity_z_local": 1.0 * identity_of("z_local"),
        "triplet_z_global": 1.5 * slow_triplet_loss(arrays["z_global"], identity, 0.3),
        "triplet_z_local": 1.5 * slow_triplet_loss(arrays["z_local"], identity, 0.3),
    }
    assert {name: term.item() for name, term in loss.terms.items()} == pytest.approx(expected, abs=1e-4)
    assert loss.total.item() == pytest.approx(sum(expected.values()), abs=1e-3)


def test_z_losses_can_be_repeated_on_f() -> None:
    """With the weights of z's, times the factor; the paper's terms stay."""
    random = torch.Generator().manual_seed(1)
    identity = torch.tensor([0, 0, 1, 1, 2, 2])
    outputs = {
        **{name: torch.randn(6, 4, generator=random) for name in ("z_global", "f_global")},
        **{
            f"logits_{name}": torch.randn(6, 1, 3, generator=random)
            for name in ("f_global", "z_global", "whole_f_global")
        },
    }
    without = dsa_loss(
        {name: value for name, value in outputs.items() if "whole" not in name and name != "f_global"},
        identity,
        LossConfig(),
    )
    terms = dsa_loss(outputs, identity, LossConfig(repeat_on_main=0.5)).terms
    expected = {name: value.item() for name, value in without.terms.items()}
    logits, features = outputs["logits_whole_f_global"][:, 0].numpy(), outputs["f_global"].numpy()
    expected["identity_whole_f_global"] = 0.5 * 1.0 * slow_identity_loss(logits, identity.numpy(), 0.1)
    expected["triplet_f_global"] = 0.5 * 1.5 * slow_triplet_loss(features, identity.numpy(), 0.3)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-4)
