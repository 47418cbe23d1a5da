"""What networks start from: the weights of their branches, and what is padded around an image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from densereid.train.config.train_config import config_diff, known_configs, load_config
from densereid.train.families import build_network
from densereid.train.networks.backbone import build_backbone
from densereid.train.networks.dsa_reid import DSAReid
from densereid.train.networks.magnifiernet_branches import AblationCell, RegularisingBranch


@pytest.mark.parametrize("channels", [64, 256])
def test_reductions_of_magnifiernet_start_as_the_official_codes(channels: int) -> None:
    """Its 1x1 convolutions have torch's own start: uniform within 1/sqrt(n), of deviation 1/sqrt(3n)."""
    torch.manual_seed(0)
    for weight in (RegularisingBranch(channels).reduce.weight.detach(), AblationCell(channels).weight.detach()):
        assert float(weight.std()) == pytest.approx((3 * channels) ** -0.5, rel=0.05)
        assert float(weight.abs().max()) <= channels**-0.5


def test_magnifiernet_pads_black_and_dsa_reid_with_the_mean() -> None:
    for name in known_configs():
        config = load_config(name)
        expected = "black" if config.model.family == "magnifiernet" else "mean"
        assert config.augmentation.pad_colour == expected, name


def test_f_g_and_f_l_start_under_one_rule_and_at_one_norm() -> None:
    """Both are under one joint norm: no branch starts with its last batch norm at 0 beside one that does not."""
    config = load_config("dsa-reid-small", {"height": 64, "width": 32})
    network = build_network(config, 5, seed=0)
    assert isinstance(network, DSAReid)
    image = torch.randn(8, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    norms = {name: float(f.detach().flatten(1).norm(dim=1).mean()) for name, f in network.main(image).items()}
    assert 0.7 < norms["global"] / norms["local"] < 1.4


@pytest.mark.parametrize("name", ["small", "resnet50"])
def test_random_stages_start_with_batch_norms_of_1_and_he_convolutions(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name)
    for stage in (backbone.conv5, backbone.branch_stage(branches=8)):
        for layer in stage.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert bool((layer.weight == 1).all())
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.weight[0].numel()
                assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)


def test_table_3_rows_start_conv5_alike() -> None:
    """Section 4.2: the head of the MF-Stream starts at random; a row differs from the one before in what it names."""
    dsa = [name for name in known_configs() if load_config(name).model.family == "dsa-reid"]
    assert {load_config(name).model.conv5 for name in dsa} == {"random"}
    baseline, branches = load_config("baseline-re-ls"), load_config("two-branches")
    assert set(config_diff(baseline, branches)) == {"name", "model.branches"}
    assert set(config_diff(branches, load_config("dsa-reid"))) == {"name", "model.streams"}
