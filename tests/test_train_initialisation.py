"""What networks start from: the weights of their branches, and what is padded around an image."""

from __future__ import annotations

import pytest
import torch

from densereid.train.config.train_config import known_configs, load_config
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
