"""The two streams' bench: the guide is ranked by itself, and the table pairs the seeds."""

from __future__ import annotations

import torch

from bench.training.two_streams import GuideAlone, rows
from densereid.train.config.train_config import load_config
from densereid.train.networks.dsa_reid import DSAReid, concat_normalise


def test_the_guide_alone_is_what_it_adds_to_the_fused_feature() -> None:
    config = load_config("dsa-reid-small")
    torch.manual_seed(0)
    network = DSAReid(config.model, 4).eval()
    image, dsap = torch.randn(2, 3, 64, 32), torch.randn(2, 24, 3, 16, 16)
    with torch.inference_mode():
        main = network.main(image)
        fused = network.fuse(main, network.guiding(dsap))
        added = concat_normalise({name: z - main[name].flatten(1) for name, z in fused.items()})
        torch.testing.assert_close(GuideAlone(network).embed(image, dsap), added, atol=1e-5, rtol=1e-4)


def test_the_difference_is_taken_seed_by_seed() -> None:
    def scores(precision: float, *features: str) -> dict[str, tuple[float, float]]:
        return dict.fromkeys(features, (precision + 10, precision))

    alone = [scores(50.0, "f"), scores(70.0, "f")]
    guided = {
        "exact": [scores(53.0, "f", "z"), scores(75.0, "f", "z")],
        "wrong": [scores(49.0, "f"), scores(71.0, "f")],
    }
    *_, exact, wrong = rows(alone, guided)
    # The networks' own spread is 14 to 16; the difference hardly varies.
    assert exact == ("exact, against MF-Stream only", "f", "4.0 ± 1.4", "3.0 / 5.0", "4.0 ± 1.4")
    assert wrong == ("wrong, against MF-Stream only", "f", "0.0 ± 1.4", "-1.0 / 1.0", "0.0 ± 1.4")
