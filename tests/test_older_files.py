"""Stores and runs of the code before its modules moved into folders: opened, verified, resumed, evaluated, trained on.

``golden/flat_layout`` holds them: two stores of 56 rendered images at 64x32, and a MagnifierNet after 2 epochs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.named_codes import with_named_codes
from densereid.data_catalog.store.schema import ARRAYS, FORMAT_VERSION, Split
from densereid.data_catalog.store.store import FORMATS, Store, open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.pipeline.commands.status import verify_store
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig, prepare
from densereid.preprocess.writing.verify import damaged_shards, differing_rows
from densereid.train.config.train_config import with_settings
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.engine.events import Event, StepsDone
from densereid.train.engine.loop import fit
from densereid.train.evaluation.evaluate import evaluate

OLD = Path(__file__).parent / "golden" / "flat_layout"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
RENDERED = SyntheticConfig(
    train_identities=6, test_identities=3, images_per_identity=6, cameras=2, distractors=1, junk=1
)
"""The dataset of the stores."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the old ``stores`` and ``runs``."""
    for name in ("stores.zip", "run.zip"):
        with zipfile.ZipFile(OLD / name) as archive:
            archive.extractall(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA_ROOT with the dataset of the old stores, rendered again."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(root / "synthetic", RENDERED)
    return root


def old_store(folder: Path, format: str) -> Path:
    return folder / "stores" / f"synthetic-64x32-dsap16{FORMATS[format].SUFFIX}"


def digests(store: Store) -> dict[str, str]:
    """SHA-256 of each array's bytes; of text, as a JSON list."""
    values = {spec.name: store.read(spec.name) for spec in ARRAYS}
    content = {
        name: json.dumps(array.tolist()).encode() if array.dtype == object else array.tobytes()
        for name, array in values.items()
    }
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in content.items()}


@pytest.mark.parametrize("format", list(FORMATS))
def test_an_older_store_holds_what_was_written(folder: Path, format: str) -> None:
    store = open_store(old_store(folder, format))
    assert digests(store) == EXPECTED["arrays"]
    assert [names for _, names in damaged_shards(store)] == [[], []]
    assert [len(rows) for rows in differing_rows(store, np.arange(store.geometry.num_samples)).values()] == [0, 0, 0]


def test_an_older_store_gives_xarray_the_names_of_its_codes(folder: Path) -> None:
    path = old_store(folder, "zarr")
    store, dataset = open_store(path), with_named_codes(xarray.open_zarr(path))
    for split in Split:
        expected = store.read("path")[store.read("split") == split]
        assert len(expected)
        np.testing.assert_array_equal(dataset.sel(split=split.name.lower())["path"], expected)
    assert set(dataset["status"].values) == {"ok"}


@pytest.mark.parametrize("format", list(FORMATS))
def test_an_older_store_is_finished_by_todays_code(folder: Path, data_root: Path, format: str) -> None:
    path = old_store(folder, format)
    lost = [*path.glob("*/c/1"), *path.glob("shard-00001.h5"), path / "shards" / "00001.json"]
    assert len(lost) == {"zarr": 8, "hdf5": 2}[format]
    for entry in lost:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    dataset = find_dataset("synthetic", data_root)
    config = PreprocessConfig(size=(64, 32), dsap_size=16, collision="last", shard_rows=32)
    plan = Plan(dataset, path, open_iuv(dataset), config)
    assert prepare(plan, format=format) == [1]
    assert digests(write_store(plan, format=format)) == EXPECTED["arrays"]


@pytest.mark.parametrize("format", list(FORMATS))
def test_an_older_store_converts_to_the_current_version(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    old = open_store(old_store(folder, format))
    convert_store(old, tmp_path / "new", format=format)
    new = open_store(tmp_path / "new")
    assert (old.version, new.version) == (1, FORMAT_VERSION)
    assert digests(new) == EXPECTED["arrays"]
    verify_store(old, sample=5, seed=0)
    assert "has store format 1, whose labels, attributes and provenance have no checksums" in capsys.readouterr().err
    verify_store(new, sample=5, seed=0)
    assert "format 1" not in capsys.readouterr().err


def test_an_older_store_is_brought_up_to_date_in_the_current_version(folder: Path, data_root: Path) -> None:
    path, images = old_store(folder, "zarr"), data_root / "synthetic"
    shutil.copytree(images, folder / "data" / "synthetic", dirs_exist_ok=True)
    gone = find_dataset("synthetic", folder / "data").records[0].path
    (folder / "data" / "synthetic" / gone).unlink()
    dataset = find_dataset("synthetic", folder / "data")
    config = PreprocessConfig(size=(64, 32), dsap_size=16, collision="last", shard_rows=32)
    plan = Plan(dataset, path, open_iuv(dataset), config)
    updated = write_store(plan, format="zarr")
    at_once = write_store(replace(plan, path=folder / "at once"), format="zarr")
    assert updated.version == FORMAT_VERSION
    assert digests(updated) == digests(at_once)


@pytest.fixture
def one_thread() -> Any:
    """Sums in the order in which the old run took them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_an_older_run_is_ranked_and_trained_further(folder: Path, one_thread: None) -> None:
    run, store = folder / "runs" / "synthetic-magnifiernet-small-seed0", open_store(old_store(folder, "zarr"))
    network, checkpoint = load_trained_network(run)
    scores = evaluate(network, store, config=checkpoint.config)
    percent = {name: round(100 * getattr(scores, name), 1) for name in ("rank_1", "mean_average_precision")}
    assert {**percent, "queries": scores.num_queries} == EXPECTED["evaluate"]
    losses: list[float] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StepsDone):
            assert event.epoch == 3
            losses.append(event.loss)

    config = with_settings(checkpoint.config, {"epochs": 3, "log_every": 1})
    fit(config, store, run, device="cpu", seed=checkpoint.seed, on_event=on_event)
    assert losses == pytest.approx(EXPECTED["losses_of_epoch_3"], rel=1e-4)
