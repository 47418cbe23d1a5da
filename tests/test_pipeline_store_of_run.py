"""A run finds its store from any folder, also after the project was moved; otherwise the option that helps is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import write_random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.store_choice import store_of_run
from densereid.train.engine.checkpoint import store_fingerprint

GEOMETRY = Geometry(5, 16, 8, dsap_size=8, shard_rows=32)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    (project / "runs" / "first").mkdir(parents=True)
    (project / "stores").mkdir()
    write_random_store(project / "stores" / "x.zarr", "zarr", GEOMETRY)
    monkeypatch.chdir(project)
    return project


def test_a_run_records_where_its_store_is_from_any_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = store_fingerprint(open_store("stores/x.zarr"))
    assert recorded["path"] == str(project / "stores" / "x.zarr")
    monkeypatch.chdir("/")
    assert store_of_run(project / "runs" / "first", recorded).path == project / "stores" / "x.zarr"


def test_a_relative_path_of_an_older_run_is_found_beside_it_and_known_by_its_digest(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded = {**store_fingerprint(open_store("stores/x.zarr")), "path": "stores/x.zarr"}
    run = Path("runs/first")
    assert store_of_run(run, recorded).path == project / "stores" / "x.zarr"
    other = tmp_path / "other"
    write_random_store(other / "stores" / "x.zarr", "zarr", Geometry(6, 16, 8, dsap_size=8, shard_rows=32))
    monkeypatch.chdir(other)  # a store of the same name is there, and it is not the run's
    assert store_of_run(project / run, recorded).path == project / "stores" / "x.zarr"


def test_a_project_that_was_moved_keeps_working(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = store_fingerprint(open_store("stores/x.zarr"))
    monkeypatch.chdir("/")
    moved = Path(shutil.move(project, tmp_path / "elsewhere"))
    assert store_of_run(moved / "runs" / "first", recorded).path == moved / "stores" / "x.zarr"
    store = shutil.move(moved / "stores" / "x.zarr", tmp_path / "x.zarr")
    shutil.move(store, tmp_path / "y.zarr")
    with pytest.raises(UserError, match=rf"the store that .*first was trained on is not at {project}") as told:
        store_of_run(moved / "runs" / "first", recorded)
    assert "STORE_PATH=..." in told.value.remedy
    assert store_of_run(moved / "runs" / "first", recorded, tmp_path / "y.zarr").path == tmp_path / "y.zarr"
