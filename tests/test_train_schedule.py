from __future__ import annotations

import math

import pytest

from densereid.train.config.train_config import ScheduleConfig, load_config
from densereid.train.engine.schedule import learning_rate


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 8e-6),
        (10, (8e-6 + 8e-4) / 2),
        (20, 8e-4),
        (59, 8e-4),
        (59.9, 8e-4),
        (60, 4e-4),
        (100, 2e-4),
        (319, 8e-4 / 2**7),
    ],
)
def test_section_4_2_learning_rate(epoch: float, expected: float) -> None:
    """Halved every 40 epochs, counted from the end of the warm-up: "then" in the paper."""
    config = load_config("dsa-reid")
    assert learning_rate(epoch, config.schedule, epochs=config.epochs) == pytest.approx(expected)


@pytest.mark.parametrize(("epoch", "expected"), [(39.9, 8e-4), (40, 4e-4), (100, 2e-4), (319, 8e-4 / 2**7)])
def test_milestones_can_be_counted_from_epoch_0(epoch: float, expected: float) -> None:
    assert ScheduleConfig().decay_from == 20  # SAN counts from the end of its warm-up
    assert learning_rate(epoch, ScheduleConfig(decay_from=0), epochs=320) == pytest.approx(expected)


def test_cosine_falls_from_peak_to_zero() -> None:
    config = ScheduleConfig(kind="cosine", warmup_epochs=2, warmup_start=0, peak=1)
    values = [learning_rate(epoch, config, epochs=12) for epoch in (0, 1, 2, 7, 12)]
    assert values == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert learning_rate(4.5, config, epochs=12) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_constant_and_no_warm_up() -> None:
    config = ScheduleConfig(kind="constant", warmup_epochs=0, peak=0.5)
    assert [learning_rate(epoch, config, epochs=3) for epoch in (0, 2.9)] == [0.5, 0.5]
