"""The experiments by name: bases, small forms, files of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from densereid.data_catalog.errors import UserError
from densereid.train.config.experiment import experiments, find_experiment, small_form, with_bases
from densereid.train.config.train_config import load_config

ROOTS = {"dsa-reid", "dsa-reid-small", "magnifiernet", "magnifiernet-small"}


def _names(name: str, base: str | Path | None = None) -> list[str]:
    return [experiment.name for experiment in with_bases(name, base)]


def test_every_variant_ends_in_a_network_and_has_a_small_form() -> None:
    full = {name: found for name, found in experiments().items() if found.small is not None}
    assert {name for name, found in experiments().items() if found.base is None} == ROOTS
    assert set(experiments()) == set(full) | {found.small for found in full.values()}
    for name, found in full.items():
        assert load_config(small_form(name)).model.backbone == "small"
        assert found.base is None or found.paper or found.datasets, name


def test_a_small_form_lies_over_the_small_forms_of_its_bases() -> None:
    assert _names("baseline-re-ls-small") == ["baseline-re-ls-small", "baseline-re-small", "baseline-small",
                                              "dsa-reid-small"]  # fmt: skip
    assert _names("magnifiernet-v1-srb-small") == ["magnifiernet-v1-srb-small", "magnifiernet-v1-small",
                                                   "magnifiernet-small"]  # fmt: skip


def test_another_base_takes_the_place_of_the_last_or_of_the_one_it_is() -> None:
    assert _names("baseline-re", "csa-small") == ["baseline-re", "baseline", "csa-small", "dsa-reid-small"]
    assert _names("magnifiernet-v1-srb", "magnifiernet-v1")[1:] == ["magnifiernet-v1", "magnifiernet"]
    assert _names("magnifiernet-v1-srb", "magnifiernet-v1-small")[1:] == ["magnifiernet-v1-small", "magnifiernet-small"]
    assert _names("magnifiernet-v1", "magnifiernet-v1") == ["magnifiernet-v1", "magnifiernet-v1", "magnifiernet"]
    above, own, _ = with_bases("magnifiernet-v1-srb", "magnifiernet-v1")
    assert (set(above.datasets), "dukemtmc" in own.datasets) == (set(), True)


def test_files_of_ones_own(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("base: csa\nname: mine\nepochs: 7\n")
    second.write_text(f"base: {first}\nwidth: 64\n")
    assert _names(str(second)) == ["second", "first", "csa", "dsa-reid"]
    config = load_config(second)
    assert (config.name, config.epochs, config.width, config.model.part_images) == ("second", 7, 64, "crops")
    assert load_config(first).name == "mine"
    first.write_text(f"base: {second}\n")
    with pytest.raises(UserError, match=r"first.yaml is its own base: \S+first.yaml -> \S+second.yaml\nLet `base`"):
        load_config(first)
    first.write_text("base: dsa-ried\n")
    with pytest.raises(UserError, match=r"unknown model 'dsa-ried'\nDid you mean dsa-reid\?"):
        load_config(first)
    first.write_text("base: 3\n")
    with pytest.raises(UserError, match="unknown model '3'"):
        load_config(first)
    first.write_text("small: csa-small\n")  # a word of our own files, not of a user's
    with pytest.raises(UserError, match="unknown setting 'small'"):
        load_config(first)


def test_an_unknown_name_gets_a_short_hint() -> None:
    with pytest.raises(UserError) as caught:
        find_experiment("magnifiernet-v3")
    hint = "Did you mean magnifiernet-v1? `densereid describe` lists the experiments."
    assert str(caught.value) == f"unknown model 'magnifiernet-v3'\n{hint} Or give the path of a .yaml file."
