"""MagnifierNet's losses against loops over pixels, parts and pairs, and which feature gets which loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_magnifiernet import slow_diversity, slow_mask_loss
from reference_train import slow_identity_loss, slow_triplet_loss

from densereid.train.config.train_config import TrainConfig, config_diff, load_config, second_stage
from densereid.train.data.batch import Inputs
from densereid.train.engine.schedule import rate_at
from densereid.train.families import loss_of
from densereid.train.losses.magnifiernet import diversity_loss, magnifier_loss, mask_loss, part_loss

IDENTITY = torch.tensor([0, 0, 1, 1])


def _outputs(branches: tuple[str, ...] = ("global", "regularisation", "fusion")) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    outputs = {}
    for name in branches:
        outputs[f"before_{name}"] = torch.randn(4, 6, generator=random)
        outputs[f"logits_{name}"] = torch.randn(4, 1, 5, generator=random)
    outputs["parts"] = torch.rand(4, 8, 6, generator=random)
    outputs["logits_parts"] = torch.randn(4, 8, 5, generator=random)
    outputs["part_weights"] = torch.rand(8, generator=random)
    outputs["mask_logits"] = torch.randn(4, 8, 6, 4, generator=random)
    outputs["mask_target"] = torch.randint(0, 5, (4, 6, 4), generator=random)
    return outputs


def _config(**changes: object) -> TrainConfig:
    return load_config("magnifiernet-small", {"loss.diversity": 0.5, "loss.mask": 3.0, "loss.part": 0.25, **changes})


def test_v2_equation_3_and_v1_equation_4_semantic_diversity_loss() -> None:
    parts = torch.rand(3, 8, 5, generator=torch.Generator().manual_seed(1))
    parts[0, 2] = 0  # a region that is not seen: its cosines are 0, not 0 / 0
    assert float(diversity_loss(parts)) == pytest.approx(slow_diversity(parts.double().numpy()), rel=1e-5)


def test_diversity_counts_strict_pairs_and_is_never_negative() -> None:
    same = torch.ones(2, 8, 3)
    assert float(diversity_loss(same)) == pytest.approx(1)  # all 28 cosines are 1; with i = j it would be 36 / 28
    assert float(diversity_loss(torch.eye(8)[None])) == 0
    opposed = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert float(diversity_loss(opposed)) == 0
    assert torch.isfinite(diversity_loss(torch.zeros(2, 8, 3)))


def test_diversity_gradient() -> None:
    parts = torch.rand(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1
    parts.requires_grad_()
    diversity_loss(parts).backward()
    assert parts.grad is not None
    step = 1e-3
    for index in np.ndindex(*parts.shape):
        up, down = parts.detach().numpy().copy(), parts.detach().numpy().copy()
        up[index] += step
        down[index] -= step
        slope = (slow_diversity(up) - slow_diversity(down)) / (2 * step)
        assert float(parts.grad[index]) == pytest.approx(slope, abs=1e-4)


def test_mask_loss_counts_every_label_that_occurs_the_same() -> None:
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 8, 4, 3, generator=random)
    target = torch.where(torch.rand(2, 4, 3, generator=random) < 0.8, 0, 6)  # labels 1 to 5 and 7 do not occur
    assert float(mask_loss(logits, target)) == pytest.approx(slow_mask_loss(logits.numpy(), target.numpy()), rel=1e-5)


def test_part_loss_weighs_each_part() -> None:
    outputs = _outputs()
    logits, weights = outputs["logits_parts"], outputs["part_weights"]
    each = [slow_identity_loss(logits[:, part].numpy(), IDENTITY.numpy(), 0.1) for part in range(8)]
    expected = sum(weight * loss for weight, loss in zip(weights.tolist(), each, strict=True))
    assert float(part_loss(logits, IDENTITY, weights, label_smoothing=0.1)) == pytest.approx(expected, rel=1e-5)


def test_v2_equation_4_and_v1_equation_5_which_feature_gets_which_loss() -> None:
    outputs, config = _outputs(), _config(**{"loss.triplet_regularisation": 1})
    terms = magnifier_loss(outputs, IDENTITY, config, second_stage=True).terms
    expected = {}
    for name in ("global", "regularisation", "fusion"):
        logits, before = outputs[f"logits_{name}"][:, 0], outputs[f"before_{name}"]
        expected[f"identity_{name}"] = slow_identity_loss(logits.numpy(), IDENTITY.numpy(), 0.1)
        expected[f"triplet_{name}"] = slow_triplet_loss(before.numpy(), IDENTITY.numpy(), 0.3)
    weights = outputs["part_weights"]
    expected["identity_parts"] = 0.25 * float(
        part_loss(outputs["logits_parts"], IDENTITY, weights, label_smoothing=0.1)
    )
    expected["mask"] = 3.0 * slow_mask_loss(outputs["mask_logits"].numpy(), outputs["mask_target"].numpy())
    expected["diversity"] = 0.5 * slow_diversity(outputs["parts"].numpy())
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)
    total = magnifier_loss(outputs, IDENTITY, config, second_stage=True).total
    assert float(total) == pytest.approx(sum(expected.values()), rel=1e-4)


def test_the_official_code_has_no_triplet_loss_on_the_regularising_branch() -> None:
    """So have ours; 1 is the papers' letter, "the first two terms optimize all branches"."""
    outputs = _outputs()
    for name in ("magnifiernet", "magnifiernet-v1"):
        terms = magnifier_loss(outputs, IDENTITY, load_config(name)).terms
        assert float(terms["triplet_regularisation"]) == 0
        assert float(terms["triplet_global"]) > 0
        letter = magnifier_loss(outputs, IDENTITY, load_config(name, {"loss.triplet_regularisation": 1})).terms
        assert float(letter["triplet_regularisation"]) > 0


def test_the_first_stage_has_no_diversity_loss() -> None:
    config = _config(**{"stages.first_epochs": 3, "epochs": 5})
    outputs, inputs = _outputs(), Inputs(torch.zeros(4, 3, 32, 32), IDENTITY, torch.zeros(4))
    present = ["diversity" in loss_of(config, outputs, inputs, epoch=epoch).terms for epoch in range(5)]
    assert present == [False, False, False, True, True]
    single = _config(**{"loss.diversity": 0, "stages.first_epochs": 0})
    assert not second_stage(single, 4)


def test_section_4_1_learning_rate_of_v2() -> None:
    """Strong baseline's warm-up and decay, which go on in the second stage as in the official code."""
    config, epochs = load_config("magnifiernet"), (0, 5, 10, 39.9, 40, 70, 459, 460, 499)
    rates = [rate_at(config, epoch) for epoch in epochs]
    assert rates == pytest.approx(
        [3.5e-6, (3.5e-6 + 3.5e-4) / 2, 3.5e-4, 3.5e-4, 3.5e-5, 3.5e-6, 3.5e-6, 3.5e-6, 3.5e-6]
    )
    letter = load_config("magnifiernet", {"stages.second_rate": 1e-3})
    assert [rate_at(letter, epoch) for epoch in epochs] == pytest.approx([*rates[:-2], 1e-3, 1e-3])


@pytest.mark.parametrize(
    ("with_sd", "without"),
    [("magnifiernet", "magnifiernet-sab-sfb"), ("magnifiernet-v1", "magnifiernet-v1-srb-sfb")],
)
@pytest.mark.parametrize("size", ["", "-small"])
def test_v2_table_2_and_v1_table_4_the_row_without_sd_differs_by_sd_alone(
    with_sd: str, without: str, size: str
) -> None:
    full, bare = load_config(with_sd + size), load_config(without + size)
    facilitator = {"magnifier.facilitator"} if "v1" in with_sd else set()  # its file decides in the row with SD
    assert set(config_diff(full, bare)) == {"name", "loss.diversity"} | facilitator
    epochs = [full.epochs * part / 100 for part in range(100)]
    assert [rate_at(full, epoch) for epoch in epochs] == [rate_at(bare, epoch) for epoch in epochs]


def test_cuhk03_decays_once() -> None:
    config = load_config("magnifiernet-v1", dataset="cuhk03-labeled")
    assert [rate_at(config, epoch) for epoch in (39, 40, 599)] == pytest.approx([3.5e-4, 3.5e-5, 3.5e-5])
    other = replace(config, schedule=replace(config.schedule, milestones=(40, 70)))
    assert rate_at(other, 599) == pytest.approx(3.5e-6)
