"""Dask: the store does not depend on who computes it; a killed worker costs a retry, a bad shard only itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_estimators import FailsOn, KillsItsWorkerOnce
from test_preprocess_run import contents

from data_catalog.errors import UserError
from data_catalog.store import open_store
from pipeline.cluster import shard_executor
from preprocess.plan import Plan, prepare
from preprocess.run import fill_store

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _workers_can_import_our_estimators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parent}:{HERE}")


def expected(stores: dict[str, Path], format: str) -> dict[str, str]:
    files = contents(stores[format])
    files.pop("failures.csv")
    return files


@contextmanager
def scheduler_with_two_workers(folder: Path) -> Iterator[str]:
    """A scheduler and two workers as a user starts them, in processes of their own."""
    file = folder / "scheduler.json"
    options = ["--scheduler-file", str(file)]
    commands = [
        ["scheduler", *options, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        *[["worker", *options, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]] * 2,
    ]
    processes = [
        subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=folder, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        from distributed import Client

        with Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_four_local_workers_make_the_same_store(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], make_plan: Callable[..., Plan], format: str
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    seen = []
    with shard_executor(workers=4, scheduler=None) as (executor, where):
        assert where == "4 Dask workers"
        fill_store(plan, prepare(plan, format=format), executor=executor, on_progress=seen.append)
    assert contents(tmp_path / "store") == expected(stores, format)
    assert sum(progress.images for progress in seen) == len(plan.dataset.records)


def test_a_separate_scheduler_makes_the_same_store(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    with (
        scheduler_with_two_workers(tmp_path) as address,
        shard_executor(workers=0, scheduler=address) as (executor, where),
    ):
        assert where == "2 Dask workers"
        fill_store(plan, prepare(plan, format="zarr"), executor=executor)
    assert contents(tmp_path / "store") == expected(stores, "zarr")


def test_a_killed_worker_costs_a_retry_not_data(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    flag = tmp_path / "killed"
    deadly = KillsItsWorkerOnce(plan.estimator, plan.dataset.records[40].path, flag)  # type: ignore[arg-type]
    with shard_executor(workers=2, scheduler=None) as (executor, _):
        fill_store(replace(plan, estimator=deadly), prepare(plan, format="zarr"), executor=executor)
    assert flag.exists()
    assert contents(tmp_path / "store") == expected(stores, "zarr")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_always_fails_is_reported_and_does_not_stop_the_others(
    synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan], workers: int
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    path = plan.dataset.records[40].path
    failing = FailsOn(plan.estimator, path)  # type: ignore[arg-type]
    with (
        shard_executor(workers=workers, scheduler=None) as (executor, _),
        pytest.raises(UserError, match=rf"1 of 3 shards failed(.|\n)*shard 1: RuntimeError: cannot stand {path}"),
    ):
        fill_store(replace(plan, estimator=failing), prepare(plan, format="zarr"), executor=executor)
    assert open_store(plan.path, incomplete=True).missing_shards() == [1]


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster._CONNECT_SECONDS", 1)
    with (
        pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1(.|\n)*dask scheduler"),
        shard_executor(workers=0, scheduler="tcp://127.0.0.1:1"),
    ):
        pass
