"""Names from files are names, never paths: of a store's dataset, a catalog's, a folder's, a checkpoint's model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import GEOMETRY, files_below, random_rows, run
from PIL import Image

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.datasets.specs import known_datasets
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.names import MOST_BYTES, is_name
from densereid.data_catalog.store.store import FORMATS, create_store, open_store
from densereid.pipeline.store_request import StoreRequest
from densereid.train.config.train_config import load_config

PATHS = ["../../..", "..", ".", "", "a/b", "/etc/x", "a\\b", "..\\x", "a\nb", "a\x00b", "a\x9bb", "x" * 201, "é" * 101,
         "a\udce9", ".hidden", 7, None, ["a"]]  # fmt: skip
NAMES = ["market", "folder-my crops", "a..b", "行人", "x" * MOST_BYTES, "é" * 100, "-", "a.b"]


def test_what_is_a_name() -> None:
    assert [name for name in PATHS if is_name(name)] == []
    assert [name for name in NAMES if not is_name(name)] == []


@pytest.mark.parametrize("format", list(FORMATS))
@pytest.mark.parametrize("key", ["dataset", "collision"])
@pytest.mark.parametrize("name", ["../../..", "/tmp/x", "a\\b", "x" * 201, 7, ["a"]])
def test_a_store_whose_dataset_is_a_path_is_not_opened(tmp_path: Path, format: str, key: str, name: object) -> None:
    rows = random_rows(GEOMETRY, "create")
    create_store(tmp_path / "s", format=format, geometry=GEOMETRY, attributes={key: name}, rows=rows)
    with pytest.raises(UserError, match=r"s says that its \w+ is .*\nexpected a name of at most 200 bytes"):
        open_store(tmp_path / "s", incomplete=True)


def test_a_training_on_such_a_store_writes_nothing(tmp_path: Path) -> None:
    rows = random_rows(GEOMETRY, "create")
    attributes = {"dataset": "../../outside"}
    create_store(tmp_path / "s", format="zarr", geometry=GEOMETRY, attributes=attributes, rows=rows)
    before = files_below(tmp_path)
    ended = run("train", "--store-path", tmp_path / "s", RUN_ROOT=tmp_path / "deep" / "runs")
    assert ended.returncode == 1
    assert "dataset is '../../outside'" in ended.stderr
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("name", ["../up", "a/b", "''", "7", '"a\\nb"'])
def test_a_catalog_names_datasets_with_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.yaml").write_text(f"{name}: {{title: x}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"own\.yaml names a dataset .*\nexpected a name"):
        known_datasets(tmp_path / "own.yaml")


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "x" * 199])
def test_a_folder_that_cannot_name_a_store_is_told_before_anything_is_made(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(root / "a.png")
    with pytest.raises(UserError, match=r"cannot name a store: .*\nrename it; expected a name"):
        find_dataset("folder", root)


def test_no_option_of_a_store_leads_out_of_its_folder(tmp_path: Path) -> None:
    request = StoreRequest("market", tmp_path, tmp_path, "zarr", (64, 32), 32, "last")
    assert request.path().parent == tmp_path
    for changed in (replace(request, collision="/../../x"), replace(request, dataset="../x")):  # type: ignore[arg-type]
        with pytest.raises(UserError, match="cannot name a store"):
            changed.path()
    with pytest.raises(UserError, match="cannot name a store"):
        request.path("../../..")


@pytest.mark.parametrize("name", ["../../x", "a/b", ""])
def test_a_model_has_a_name(name: str) -> None:
    """It may come from a checkpoint, and names a run's folder and an exported file."""
    with pytest.raises(UserError, match=r"name is .*expected a name of at most 200 bytes"):
        load_config("dsa-reid", {"name": name})
