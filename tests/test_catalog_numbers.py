"""Numbers of persons and cameras: what a store cannot keep is refused with its file, wherever it comes from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from densereid.data_catalog.datasets import cuhk03
from densereid.data_catalog.datasets.attributes import read_person_attributes
from densereid.data_catalog.datasets.folders import read_folder
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.datasets.records import LARGEST_ID, ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split

PATTERN = r"(?P<person>-?\d+)_c(?P<camera>-?\d+)"


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("20240101120001_c1.jpg", "is of person 20240101120001; a store has numbers from -1"),
        ("1_c3000000001.jpg", "is of camera 3000000001"),
        ("-2_c1.jpg", "is of person -2"),
        ("1_c-2.jpg", "is of camera -2"),
        (f"{LARGEST_ID + 1}_c1.jpg", f"is of person {LARGEST_ID + 1}"),
    ],
)
def test_a_number_that_a_store_cannot_keep_is_refused_with_its_file(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"{name} {words}") as told:
        read_folder(folder(tmp_path, name, "2_c2.jpg"), pattern=PATTERN, iuv_root=None)
    assert "PATTERN" in told.value.remedy
    assert "names are numbered from 1" in told.value.remedy


def test_the_largest_number_and_timestamps_with_a_letter_are_kept(tmp_path: Path) -> None:
    assert ImageRecord("a", LARGEST_ID, LARGEST_ID, Split.TRAIN).person_id == np.int32(LARGEST_ID)
    names = ("p20240101120001_c1.jpg", "p20240101120002_c1.jpg")
    records = read_folder(folder(tmp_path, *names), pattern=r"(?P<person>p\d+)_c(?P<camera>\d+)", iuv_root=None)
    assert [record.person_id for record in records] == [1, 2]


SHOP: dict[str, Any] = {
    "title": "T", "folders": ["shop"], "file_name": r"(?P<person>\d+)_c(?P<camera>\d+)\.png", "example": "x",
    "obtain": "y",
}  # fmt: skip
SPLITS = {"splits": {"train": "all"}}
LIST = {"file": "list.txt", "images": "all", "first_person": 1}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"lists": {"train": [{**LIST, "first_person": 3_000_000_000}]}}, "is of person 3000000000"),
        ({"lists": {"train": [{**LIST, "first_person": "x"}]}}, "dataset shop: a list is .*first_person as a number"),
        ({"lists": {"trian": [LIST]}}, "expected train, query and gallery"),
        ({"lists": {"train": [LIST]}, "file_name": r"\d+_c\d\.png"}, "a regular expression with the group camera"),
        ({"halves": {"folder": "all", "train_identities": -1}}, "train_identities and seed from 0"),
        ({"halves": {"folder": "all", "train_identities": 1, "seed": -1}}, "train_identities and seed from 0"),
        ({**SPLITS, "cameras": {1: 3_000_000_001}}, "is of camera 3000000001"),
        ({**SPLITS, "cameras": {1: "a"}}, "cameras is {1: 'a'}; expected a camera's number"),
        ({**SPLITS, "cameras": [1]}, r"cameras is \[1\]"),
        ({**SPLITS, "counts": {"train": 5}}, r"expected \[images, identities\] of splits"),
        ({**SPLITS, "folders": "shop"}, "folders is 'shop'; expected a list of folders"),
        ({**SPLITS, "iuv": 5}, "iuv is 5; expected text"),
        ({**SPLITS, "file_name": r"(?P<person>\d+)_c\d+\.png"}, "with the group camera"),
        (
            {**SPLITS, "file_name": r"(?P<person>\w+)_(?P<camera>c\d+)\.png"},
            "the group camera .*finds 'c1', which is no",
        ),
        ({**SPLITS, "file_name": r"(?P<person>\d+)_c(?P<camera>x)?.*"}, "the group camera .*finds None"),
    ],
)
def test_a_catalog_whose_numbers_or_kinds_are_wrong_is_explained(
    tmp_path: Path, entry: dict[str, Any], words: str
) -> None:
    folder(tmp_path, "shop/all/0001_c1.png")
    (tmp_path / "shop" / "list.txt").write_text("0001_c1.png 0\n")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"shop": {**SHOP, **entry}}))
    with pytest.raises(UserError, match=words):
        find_dataset("shop", tmp_path, catalog=tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"0001_c1.png 20240101120001\n", "is of person 20240101120002"),
        ("0001_c1.png ²\n".encode(), "line 1: '0001_c1.png ²' is not"),
        (b"0001_c1.png " + b"9" * 5000, "line 1: "),
        (b"0001_c1.png -3\n", "line 1: "),
        (b"\xff\xfe", "is no UTF-8 text"),
    ],
)
def test_a_list_whose_labels_are_wrong_is_explained(tmp_path: Path, line: bytes, words: str) -> None:
    folder(tmp_path, "shop/all/0001_c1.png")
    (tmp_path / "shop" / "list.txt").write_bytes(line)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"shop": {**SHOP, "lists": {"train": [LIST]}}}))
    with pytest.raises(UserError, match=words):
        find_dataset("shop", tmp_path, catalog=tmp_path / "own.yaml")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0, 1.5, 3e9])
@pytest.mark.parametrize("key", ["labels", "camId", "train_idx"])
def test_cuhk03s_numbers_are_checked(monkeypatch: pytest.MonkeyPatch, key: str, wrong: float) -> None:
    variables = {
        "filelist": np.array(["1_001_1_01.png"], object), "labels": np.array([1.0]), "camId": np.array([1.0]),
        "train_idx": np.array([1.0]), "query_idx": np.array([]), "gallery_idx": np.array([]),
    }  # fmt: skip
    monkeypatch.setattr(cuhk03, "read_matlab", lambda _: {**variables, key: np.array([wrong])})
    with pytest.raises(UserError, match=f"p.mat: {key} holds {wrong}; expected whole numbers from 0"):
        cuhk03.read_protocol("cuhk03-labeled", Path("p.mat"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_index": ["20240101120001"]}, "train.image_index holds '20240101120001'"),
        ({"image_index": ["x1"]}, "train.image_index holds 'x1'; expected a person's number"),
        ({"gender": [np.nan]}, "train.gender does not hold numbers"),
        ({"gender": [1e300]}, "train.gender does not hold numbers"),
        ({"gender": ["a"]}, "train.gender does not hold numbers"),
    ],
)
def test_numbers_of_an_attribute_file_are_checked(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, list[object]], words: str
) -> None:
    fields = ("gender", "hat", "backpack", "bag", "handbag", "top", "boots", "shoes")
    split = {"image_index": np.array(["0001"]), **{name: np.array([1]) for name in fields}}
    wrong = {**split, **{name: np.array(values) for name, values in changes.items()}}
    read = {"duke_attribute": {"train": wrong, "test": split}}
    monkeypatch.setattr("densereid.data_catalog.datasets.attributes.read_matlab", lambda _: read)
    with pytest.raises(UserError, match=words):
        read_person_attributes(Path("duke_attribute.mat"))


def test_person_0_of_a_folder_is_a_person_unless_it_is_in_the_gallery_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pattern = rf"(?P<split>\w+)/{PATTERN}"
    people = folder(tmp_path / "people", "train/0_c1.png", "train/1_c1.png", "gallery/0_c2.png", "train/-1_c1.png")
    records = read_folder(people, pattern=pattern, iuv_root=None)
    assert [record.person_id for record in records] == [-1, 1, 2, 2]
    assert "Person 0 is a person like the others, and is stored under the number 2 (2 images)" in caplog.text
    caplog.clear()
    market = folder(tmp_path / "market", "train/1_c1.png", "gallery/0000_c1.png", "gallery/0000_c2.png")
    assert [record.person_id for record in read_folder(market, pattern=pattern, iuv_root=None)] == [1, 0, 0]
    assert "Person 0 is in the gallery alone: distractors, which match no query (2 images)" in caplog.text
    caplog.clear()
    alone = read_folder(folder(tmp_path / "alone", "0_c1.png"), pattern=PATTERN, iuv_root=None)
    assert [record.person_id for record in alone] == [1]
