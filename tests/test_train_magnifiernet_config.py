"""MagnifierNet's settings: mistakes, and how those of one dataset meet variants and commands."""

from __future__ import annotations

import pytest

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import from_dict, load_config, to_dict
from densereid.train.config.validation import flatten
from densereid.train.engine.describe import settings_by_dataset

SMALL = "magnifiernet-small"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (SMALL, {"magnifier.keep": 3}, r"magnifier.keep is 3; expected an even number, 2 to 6"),
        (SMALL, {"magnifier.keep": 8}, r"magnifier.keep is 8; expected an even number, 2 to 6"),
        (SMALL, {"magnifier.keep": 9, "magnifier.sampling": "baseline"}, r"is 9; expected 1 to 7 regions"),
        (
            SMALL,
            {"magnifier.keep_upper": 5},
            r"magnifier.keep_upper is 5; expected a whole number, at least 0, at most 4",
        ),
        (
            SMALL,
            {"magnifier.mask_module": "off"},
            r"magnifier.mask_module is off; expected on: SAB, SRB and SFB need masks",
        ),
        (SMALL, {"magnifier.fusion": "none"}, r"loss.diversity is 0.002; expected 0 where magnifier.fusion is none"),
        (SMALL, {"magnifier.fusion": "rnn"}, r"magnifier.fusion is 'rnn'; expected none or gru or lstm or ab"),
        (SMALL, {"height": 200}, r"height is 200; expected a whole number, a multiple of 16"),
        (SMALL, {"evaluate.feature": "z"}, r"is 'z'; expected f or f_global or f_regularisation or f_fusion"),
        ("magnifiernet-sab-small", {"evaluate.feature": "f_fusion"}, r"expected f or f_global or f_regularisation"),
        (
            "magnifiernet-sab-small",
            {"magnifier.facilitator": "on"},
            r"magnifier.facilitator is on; expected auto or off where fusion",
        ),
        ("dsa-reid", {"evaluate.feature": "f_fusion"}, r"is 'f_fusion'; expected a feature of the global or local"),
        (SMALL, {"schedule.kind": "milestones"}, r"schedule.milestones is \[\]; expected epochs, as 40,70"),
        (
            SMALL,
            {"schedule.milestones": "4,x"},
            r"schedule.milestones is '4,x'; expected numbers with commas, as 40,70",
        ),
        (SMALL, {"loss.mask": -1}, r"loss.mask is -1; expected a number, at least 0"),
        (SMALL, {"tuned_for": "market"}, r"magnifiernet-small has no settings for dataset 'market'"),
    ],
)
def test_mistakes_are_named(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(name, changes)


def test_settings_by_dataset_give_way_to_variants_and_commands() -> None:
    variant = load_config("magnifiernet-v1-srb-sfb", dataset="dukemtmc")
    assert (variant.loss.diversity, variant.loss.mask) == (0, 0.5)
    commanded = load_config("magnifiernet-v1", {"loss.mask": 1, "tuned_for": "dukemtmc"}, dataset="market")
    assert (commanded.loss.mask, commanded.loss.diversity, commanded.tuned_for) == (1, 0.05, "dukemtmc")
    small = load_config("magnifiernet-v1-small", dataset="dukemtmc")
    assert (small.epochs, small.tuned_for) == (load_config(SMALL).epochs, "")
    assert load_config("magnifiernet-v1", dataset="folder") == load_config("magnifiernet-v1")
    assert load_config("dsa-reid", dataset="market") == load_config("dsa-reid")


def test_a_variant_of_a_named_base_keeps_the_settings_of_the_dataset() -> None:
    """As the ablation loads it: the base's file is applied once, before its settings for the dataset."""
    row = load_config("magnifiernet-v1-srb-sfb-attributes-sd", base="magnifiernet-v1", dataset="dukemtmc")
    assert row.loss.diversity == 0.05
    small = load_config("magnifiernet-v1-srb-sfb", base="magnifiernet-v1-small", dataset="dukemtmc")
    assert (small.epochs, small.magnifier.fusion, small.tuned_for) == (load_config(SMALL).epochs, "lstm", "")


def test_files_of_before_a_setting_mean_what_was_done_before() -> None:
    """Checkpoints, exports and config.yaml hold all settings of their time; a newer one is what was done then."""
    values = flatten(to_dict(load_config("magnifiernet")))
    newer = {
        "magnifier.test_masks": "hard", "augmentation.crop": "pad", "augmentation.crop_probability": 1.0,
        "augmentation.pad_colour": "mean",
    }  # fmt: skip
    before = flatten(to_dict(from_dict({key: value for key, value in values.items() if key not in newer})))
    assert before == {**values, **newer}
    assert values["magnifier.test_masks"] == "soft"


def test_describe_lists_what_differs_by_dataset() -> None:
    found = settings_by_dataset("magnifiernet-v1-srb-sfb")
    assert found["dukemtmc"] == {"loss.mask": 0.5}
    assert found["cuhk03-detected"] == {"epochs": 600, "stages.first_epochs": 560, "schedule.milestones": [40]}
    assert settings_by_dataset("magnifiernet-small") == settings_by_dataset("dsa-reid") == {}
