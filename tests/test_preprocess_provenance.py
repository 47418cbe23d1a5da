"""Provenance: every run that writes is recorded beside the store, never in what equal stores share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import contents

from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.store import open_store
from densereid.preprocess.writing.fill import fill_store
from densereid.preprocess.writing.plan import Plan, prepare
from densereid.preprocess.writing.provenance import commit, device_name, record_run, recorded_runs


def test_each_run_adds_an_entry_and_the_store_stays_the_same(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    shards = prepare(plan, format="zarr")
    assert recorded_runs(plan.path) == []
    record_run(plan, command="make preprocess", workers="this process", shards=3)
    fill_store(plan, shards[:1])
    record_run(plan, command="make preprocess WORKERS=2", workers="2 Dask workers", shards=2)
    fill_store(plan, prepare(plan, format="zarr"))
    first, second = recorded_runs(plan.path)
    assert (first["command"], first["shards"]) == ("make preprocess", 3)
    assert (second["command"], second["computed_by"]) == ("make preprocess WORKERS=2", "2 Dask workers")
    assert first["config"]["estimator"] == {"name": "iuv", **plan.estimator.settings()}
    assert first["config"]["size"] == [64, 32]
    assert {"python", "numpy", "torch", "zarr"} <= first["versions"].keys()
    expected = contents(stores["zarr"])
    expected.pop("failures.csv")
    assert contents(plan.path) == expected
    assert "provenance" not in open_store(plan.path).attributes


def test_provenance_goes_with_a_converted_store(
    tmp_path: Path, synthetic_root: Path, make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    shards = prepare(plan, format="zarr")
    record_run(plan, command="make preprocess", workers="this process", shards=3)
    fill_store(plan, shards)
    convert_store(open_store(plan.path), tmp_path / "copy.hdf5", format="hdf5")
    assert recorded_runs(tmp_path / "copy.hdf5") == recorded_runs(plan.path)


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert commit(tmp_path) is None

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *names, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    assert commit(tmp_path) is None
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    assert commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "code.py").write_text("2")
    assert commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": True}


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) is None


def test_the_processor_has_a_name() -> None:
    assert device_name("cpu").startswith("cpu: ")
    assert len(device_name("cpu")) > len("cpu: ")
