from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import yaml

from densereid.data_catalog.errors import UserError
from densereid.train.config.sections import ModelConfig
from densereid.train.config.train_config import (
    TrainConfig,
    config_diff,
    describe_settings,
    from_dict,
    known_configs,
    load_config,
    to_dict,
    with_settings,
)
from densereid.train.config.validation import setting_text


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


def test_only_the_small_networks_start_without_imagenet() -> None:
    """The papers' networks stop where its weights cannot be had; what runs without a network asks for none."""
    never = {name for name in known_configs() if load_config(name).model.pretrained == "never"}
    assert never == {name for name in known_configs() if name.endswith("-small")}


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
        ({"optimiser.epochs": 1}, r"unknown setting 'optimiser.epochs'\nDid you mean epochs\?"),
        ({"margin": 1}, r"unknown setting 'margin'\nDid you mean loss.margin"),
        ({"epochs": "many"}, "epochs is 'many'; expected a whole number, at least 1"),
        ({"epochs": 2.5}, "epochs is 2.5; expected a whole number"),
        ({"epochs": None}, "epochs is None; expected a whole number"),
        ({"epochs": 0}, "epochs is 0; expected a whole number, at least 1"),
        ({"width": 100}, "width is 100; expected a whole number, a multiple of 16, at least 32"),
        ({"model.streams": "one"}, "model.streams is 'one'; expected two or mf"),
        ({"loss.margin": "nan"}, "loss.margin is 'nan'; expected a finite number"),
        ({"schedule.peak": float("inf")}, "schedule.peak is inf; expected a finite number"),
        ({"schedule.milestones": "40,nan"}, "schedule.milestones is nan; expected a finite number"),
        ({"schedule.decay_from": -1}, "schedule.decay_from is -1; expected a number, at least 0"),
        ({"epochs": "1" + "0" * 40}, "expected a whole number, at least 1, at most 1000000"),
        ({"height": 100_000}, "a multiple of 16, at least 32, at most 4096"),
        ({"augmentation.flip": 2}, "augmentation.flip is 2; expected a number, at least 0, at most 1"),
        (
            {"sampling.images": 1},
            r"sampling.images is 1; expected a whole number, at least 2, at most 65536\nCorrect it .* It is: K, images",
        ),
        ({"precision": "fp8"}, "precision is 'fp8'"),
    ],
)
def test_mistakes_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("dsa-reid", overrides)


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"unknown model 'dsa-ried'\nDid you mean dsa-reid\? `densereid describe` lists the"
    ):
        load_config("dsa-ried")
    with pytest.raises(
        UserError, match=r"none.yaml does not exist\nGive its path, or a name such as dsa-reid; `densereid"
    ):
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


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("compile", "on", True),
        ("compile", "false", False),
        ("magnifier.mask_module", "on", True),
        ("magnifier.mask_module", True, True),
        ("magnifier.facilitator", "off", False),
        ("magnifier.facilitator", False, False),
        ("magnifier.facilitator", "auto", "auto"),
        ("schedule.milestones", "40,70", (40.0, 70.0)),
        ("schedule.milestones", "[40, 70]", (40.0, 70.0)),
        ("schedule.milestones", [40, 70.5], (40.0, 70.5)),
        ("schedule.milestones", 40, (40.0,)),
        ("schedule.milestones", "", ()),
        ("name", 2020, "2020"),
        ("loss.margin", "3e-1", 0.3),
        ("epochs", 4.0, 4),
    ],
)
def test_values_may_be_as_commands_and_older_files_have_them(key: str, given: object, expected: object) -> None:
    config = load_config("dsa-reid", {key: given})
    section, _, name = key.rpartition(".")
    value = getattr(getattr(config, section) if section else config, name)
    assert (value, type(value)) == (expected, type(expected))


def test_files_hold_plain_values() -> None:
    values = to_dict(load_config("magnifiernet", {"magnifier.facilitator": "off"}))
    assert values["compile"] is False
    assert values["magnifier"]["facilitator"] is False
    assert values["schedule"]["milestones"] == [40.0, 70.0]
    assert from_dict(yaml.safe_load(yaml.safe_dump(values))) == from_dict(values)
    shown = (values["magnifier"]["mask_module"], values["schedule"]["milestones"], values["loss"]["margin"], "")
    assert [setting_text(value) for value in shown] == ["on", "40,70", "0.3", ""]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"loss.margin": False}, "loss.margin is off; expected a number, at least 0"),
        ({"sampling": {"images": True}}, "sampling.images is on; expected a whole number"),
        ({"compile": "maybe"}, "compile is 'maybe'; expected on or off"),
        ({"magnifier.facilitator": 3}, "magnifier.facilitator is 3; expected auto or on or off"),
        ({"name": None}, "name is None; expected text"),
        ({"schedule.milestones": [40, None]}, "schedule.milestones is None; expected numbers with commas"),
        ({"schedule.milestones": [True]}, "schedule.milestones is on; expected numbers with commas"),
        ({"schedule.milestones": True}, "schedule.milestones is on; expected numbers with commas"),
        ({"loss.label_smoothing": 1}, "is 1; expected a number, at least 0, less than 1"),
        ({"schedule.peak": 0}, "is 0; expected a number, more than 0"),
        ({"augmentation.erase_area_min": 0.5}, r"erase_area_min and _max is \(0.5, 0.4\); expected 0 < min <= max < 1"),
        ({"sampling": None}, r"unknown setting 'sampling'\nDid you mean sampling.identities or sampling.images\?"),
        ({"quux": 1}, r"unknown setting 'quux'\n`densereid describe dsa-reid` lists all"),
    ],
)
def test_mistakes_of_type_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("dsa-reid", overrides)


def test_a_section_built_by_itself_is_checked_too() -> None:
    with pytest.raises(UserError, match="streams is 'one'; expected two or mf"):
        ModelConfig(streams="one")
    with pytest.raises(UserError, match="unknown setting 'epoch'"):
        TrainConfig(epoch=3)
    with pytest.raises(UserError, match="epochs is 0; expected a whole number, at least 1"):
        replace(TrainConfig(), epochs=0)
    with pytest.raises(FrozenInstanceError):
        TrainConfig().epochs = 3


def test_configs_are_values() -> None:
    """Data loader workers get them pickled, caches hash them."""
    config = load_config("magnifiernet")
    assert pickle.loads(pickle.dumps(config)) == config
    assert {config: 1}[load_config("magnifiernet")] == 1
    assert with_settings(config, {"epochs": 3}) == replace(config, epochs=3)


def test_importing_reads_no_experiment() -> None:
    code = (
        "import sys; opened = []; sys.addaudithook(lambda name, about: opened.append(str(about[0])) "
        "if name == 'open' else None); from densereid.train.config.train_config import load_config; "
        "before = [path for path in opened if path.endswith('.yaml')]; load_config('csa'); "
        "print(before, any(path.endswith('variants.yaml') for path in opened))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[] True"
