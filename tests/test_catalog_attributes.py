"""Person attributes: files of the published structure, their traps, the groups, and the synthetic pedestrians' own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densereid.data_catalog.datasets.attributes import (
    AttributeTable,
    attribute_matrix,
    find_attributes,
    has_attributes,
    read_person_attributes,
)
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.matlab.variables import write_matlab
from densereid.data_catalog.synthetic.body import Bag, Hair
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.sample import identity_appearance

MARKET = (
    "age backpack bag handbag downblack downblue downbrown downgray downgreen downpink downpurple downwhite downyellow "
    "upblack upblue upgreen upgray uppurple upred upwhite upyellow clothes down up hair hat gender"
)
DUKE = (
    "backpack bag handbag boots gender hat shoes top downblack downwhite downred downgray downblue downgreen downbrown "
    "upblack upwhite upred uppurple upgray upblue upgreen upbrown"
)


def _write(path: Path, fields: str, **changes: dict[str, list[int]]) -> Path:
    """A file of the published structure: persons 2, 7, 11 train and 1, 370 test, every value 1 but the changed ones.

    The test split has its fields in another order, as the published files do.
    """
    persons = {"train": ["0002", "0007", "0011"], "test": ["0001", "0370"]}
    splits: dict[str, Any] = {}
    for split, names in persons.items():
        ordered = fields.split() if split == "train" else fields.split()[::-1]
        vectors: dict[str, Any] = {field: np.ones(len(names)) for field in ordered}
        vectors |= {field: np.array(values) for field, values in changes.get(split, {}).items()}
        splits[split] = {**vectors, "image_index": np.array(names, object)}
    write_matlab(path, {path.stem: splits})
    return path


def _true(table: AttributeTable, person: int) -> list[str]:
    return [name for name, value in zip(table.names, table.values[person], strict=True) if value]


def test_market_has_30_binary_attributes_in_the_sound_grouping(tmp_path: Path) -> None:
    table = read_person_attributes(_write(tmp_path / "market_attribute.mat", MARKET))
    assert len(table.names) == len(set(table.names)) == 30
    assert Counter(table.groups) == {"general": 5, "head": 2, "upper": 11, "lower": 12}
    assert list(table.groups) == sorted(table.groups, key=["general", "head", "upper", "lower"].index)
    group = dict(zip(table.names, table.groups, strict=True))
    # The two that the official code's split at 10 gives to the lower body, and the two it misplaces by type.
    assert group["upper blue"] == group["upper green"] == "upper"
    assert (group["trousers"], group["handbag"]) == ("lower", "lower")


def test_duke_has_23_binary_attributes(tmp_path: Path) -> None:
    table = read_person_attributes(_write(tmp_path / "duke_attribute.mat", DUKE))
    assert Counter(table.groups) == {"general": 1, "head": 1, "upper": 12, "lower": 9}
    assert len(table.names) == 23


def test_fields_are_read_by_name_and_ids_are_numbers(tmp_path: Path) -> None:
    changes = {
        "train": {"age": [1, 3, 4], "hat": [1, 2, 1], "upred": [2, 1, 1], "upblue": [2, 1, 1]},
        "test": {"age": [2, 2], "downblack": [1, 2]},
    }
    table = read_person_attributes(_write(tmp_path / "market_attribute.mat", MARKET, **changes))
    assert sorted(table.values) == [1, 2, 7, 11, 370]
    assert _true(table, 2) == ["age young", "upper blue", "upper red"]  # two colours
    assert _true(table, 7) == ["age adult", "hat"]  # no colour at all
    assert _true(table, 11) == ["age old"]
    assert _true(table, 370) == ["age teenager", "lower black"]
    assert all(row.dtype == np.uint8 for row in table.values.values())


def test_the_known_gap_in_dukes_file_is_filled_and_another_is_named(tmp_path: Path) -> None:
    filled = _write(tmp_path / "duke_attribute.mat", DUKE, test={"top": [2, 0]})  # person 0370
    table = read_person_attributes(filled)
    assert ("long top" in _true(table, 1), "long top" in _true(table, 370)) == (True, False)
    _write(filled, DUKE, train={"top": [1, 0, 1]})
    with pytest.raises(UserError, match=r"duke_attribute\.mat: train\.top of person 7 is 0; expected 1 to 2"):
        read_person_attributes(filled)
    _write(filled, DUKE, train={"hat": [1, 1, 3]})
    with pytest.raises(UserError, match=r"train\.hat of person 11 is 3; expected 1 to 2"):
        read_person_attributes(filled)


def test_a_file_of_another_structure_is_named(tmp_path: Path) -> None:
    path = tmp_path / "market_attribute.mat"
    write_matlab(path, {"other": 3})
    with pytest.raises(UserError, match=r"holds other; expected one of market_attribute, duke_attribute"):
        read_person_attributes(path)
    write_matlab(path, {"market_attribute": {"train": {"hat": [1, 2]}}})
    with pytest.raises(UserError, match=r"market_attribute has no train and test"):
        read_person_attributes(path)
    _write(path, MARKET.replace(" hair", ""))
    with pytest.raises(UserError, match=r"market_attribute\.train lacks, or has beyond what is known: hair"):
        read_person_attributes(path)
    _write(path, MARKET, train={"hat": [1, 2]})
    with pytest.raises(UserError, match=r"train\.hat has \(2,\) values for 3 persons"):
        read_person_attributes(path)


def test_a_matrix_follows_the_given_persons(tmp_path: Path) -> None:
    table = read_person_attributes(_write(tmp_path / "market_attribute.mat", MARKET, train={"hat": [1, 2, 1]}))
    matrix = attribute_matrix(table, np.array([7, 2, 7]))
    assert (matrix.dtype, matrix.shape) == (np.float32, (3, 30))
    assert matrix[:, table.names.index("hat")].tolist() == [1, 0, 1]
    assert attribute_matrix(table, np.zeros(0, int)).shape == (0, 30)
    with pytest.raises(UserError, match=r"2 persons without attributes: 3, 12\n.*another dataset"):
        attribute_matrix(table, np.array([12, 7, 3]))


def test_datasets_without_attributes_and_missing_files_are_named(tmp_path: Path) -> None:
    assert [name for name in ("market", "cuhk03-labeled", "folder") if has_attributes(name)] == ["market"]
    with pytest.raises(UserError, match=r"no person attributes for 'cuhk03-labeled'\n(.|\n)*dukemtmc: duke_attribute"):
        find_attributes("cuhk03-labeled", [tmp_path])
    with pytest.raises(UserError, match=r"market_attribute\.mat, .*is not in .*\n.*vana77/Market-1501_Attribute"):
        find_attributes("market", [tmp_path])
    path = _write(tmp_path / "duke_attribute.mat", DUKE)
    assert find_attributes("occluded-duke", [tmp_path / "elsewhere", tmp_path]) == path


def test_the_synthetic_dataset_says_what_its_identities_wear(synthetic_root: Path) -> None:
    table = read_person_attributes(find_attributes("synthetic", [synthetic_root / "synthetic"]))
    assert sorted(table.values) == list(range(1, 13))
    assert set(table.groups) == {"general", "head", "upper", "lower"}
    for person in table.values:
        appearance = identity_appearance(SyntheticConfig().seed, person)
        worn = _true(table, person)
        assert ("backpack" in worn) == (appearance.build.bag is Bag.BACKPACK)
        assert ("hat" in worn) == (appearance.clothes.hair_style is Hair.CAP)
        assert sum(name.startswith("upper ") for name in worn) == 1
        assert sum(name.startswith("lower ") for name in worn) == 1
    first = identity_appearance(SyntheticConfig().seed, 1)
    named = {"white": (232, 232, 230), "black": (36, 36, 40), "red": (164, 42, 44), "green": (62, 110, 72)}
    for name, colour in named.items():
        assert (f"upper {name}" in _true(table, 1)) == (first.clothes.top == colour)


def test_the_same_attributes_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _write(tmp_path / "duke_attribute.mat", DUKE).read_bytes()
    monkeypatch.setattr("time.asctime", lambda *_: "another time")
    assert _write(tmp_path / "duke_attribute.mat", DUKE).read_bytes() == first
    assert b"another time" not in first
