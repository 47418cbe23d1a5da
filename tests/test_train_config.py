from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import (
    config_diff,
    describe_settings,
    from_dict,
    known_configs,
    load_config,
    to_dict,
)


def test_the_paper_config_holds_the_paper_numbers() -> None:
    config = load_config("dsa-reid")
    assert (config.height, config.width, config.epochs) == (256, 128, 320)
    assert (config.model.backbone, config.model.dsap_size) == ("resnet50", 32)
    assert (config.loss.identity_main, config.loss.identity_fused, config.loss.triplet_fused) == (0.5, 1.0, 1.5)
    assert (config.loss.margin, config.optimiser.weight_decay) == (0.3, 5e-4)
    assert (config.sampling.identities, config.sampling.images) == (16, 4)
    assert (config.augmentation.flip, config.augmentation.erase) == (0.5, 0.5)


@pytest.mark.parametrize("name", known_configs())
def test_every_config_loads_and_survives_a_round_trip(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert from_dict(to_dict(config)) == config


def test_every_setting_has_help() -> None:
    assert all(text for _, _, text in describe_settings())
    assert ("schedule.peak", 8e-4) in [(key, default) for key, default, _ in describe_settings()]


def test_overrides_may_be_dotted_nested_or_text() -> None:
    config = load_config("dsa-reid", {"schedule.peak": "1e-3", "model": {"backbone": "small"}, "epochs": "3"})
    assert (config.schedule.peak, config.model.backbone, config.epochs) == (1e-3, "small", 3)
    assert config_diff(config, load_config("dsa-reid")) == ("epochs", "model.backbone", "schedule.peak")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"schedule.peek": 1}, r"unknown setting 'schedule.peek'\nDid you mean schedule.peak"),
        ({"margin": 1}, r"unknown setting 'margin'\nDid you mean loss.margin"),
        ({"epochs": "many"}, "epochs is 'many'; expected int"),
        ({"epochs": 2.5}, "epochs is 2.5; expected int"),
        ({"epochs": None}, "epochs is None; expected int"),
        ({"epochs": 0}, "epochs is 0; expected at least 1"),
        ({"width": 100}, "width is 100; expected a multiple of 16"),
        ({"model.backbone": "vgg"}, "model.backbone is 'vgg'; expected resnet50 or small"),
        ({"augmentation.flip": 2}, "augmentation.flip is 2.0"),
        ({"sampling.images": 1}, "sampling.images is 1; expected at least 2"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
    ],
)
def test_mistakes_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("dsa-reid", overrides)


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"unknown model 'dsa-ried'\nDid you mean dsa-reid\? Known: baseline, baseline-re, "
    ):
        load_config("dsa-ried")
    with pytest.raises(UserError, match="does not exist"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(UserError, match="cannot be read as YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="holds list"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "mine.yaml").write_text("epochs: 7\nloss: {margin: 0.5}\n")
    config = load_config(tmp_path / "mine.yaml")
    assert (config.name, config.epochs, config.loss.margin) == ("mine", 7, 0.5)
    assert replace(config, epochs=8) != config
