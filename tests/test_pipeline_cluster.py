"""Dask: the store does not depend on who computes it; a killed worker costs a retry, a bad shard only itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_estimators import FailsOn, KillsItsWorkerOnce, seat
from distributed import Client
from helpers import contents

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.dask_cluster import shard_executor, usable_cores, worker_environments
from densereid.pipeline.settings import gpus_to_share, parse_workers
from densereid.preprocess.writing.fill import fill_store
from densereid.preprocess.writing.plan import Plan, prepare

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _workers_can_import_our_estimators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parent}:{HERE}")


def expected(stores: dict[str, Path], format: str) -> dict[str, str]:
    files = contents(stores[format])
    files.pop("failures.csv")
    return files


@contextmanager
def scheduler_with_a_worker(folder: Path) -> Iterator[str]:
    """A scheduler and a worker as a user starts them, in processes of their own."""
    file = folder / "scheduler.json"
    options = ["--scheduler-file", str(file)]
    commands = [
        ["scheduler", *options, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        ["worker", *options, "--nworkers", "1", "--nthreads", "2", "--no-dashboard", "--local-directory", str(folder)],
    ]
    processes = [
        subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=folder, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        with Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            address = client.scheduler.address
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def separate_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{HERE.parent}:{HERE}")
        with scheduler_with_a_worker(tmp_path_factory.mktemp("scheduler")) as address:
            yield address


@pytest.fixture(scope="module")
def local_workers() -> Iterator[Executor]:
    """Two workers that this process started."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{HERE.parent}:{HERE}")
        with shard_executor(workers=2, scheduler=None) as (executor, where):
            assert where == "2 Dask workers"
            assert executor is not None
            yield executor


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_local_workers_make_the_same_store(
    local_workers: Executor,
    synthetic_root: Path,
    tmp_path: Path,
    stores: dict[str, Path],
    make_plan: Callable[..., Plan],
    format: str,
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    seen = []
    fill_store(plan, prepare(plan, format=format), executor=local_workers, on_progress=seen.append)
    assert contents(tmp_path / "store") == expected(stores, format)
    assert sum(progress.images for progress in seen) == len(plan.dataset.records)


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_a_separate_scheduler_makes_the_same_store(
    separate_scheduler: str,
    synthetic_root: Path,
    tmp_path: Path,
    stores: dict[str, Path],
    make_plan: Callable[..., Plan],
    format: str,
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    with shard_executor(workers=0, scheduler=separate_scheduler) as (executor, where):
        assert where == "1 Dask worker"
        fill_store(plan, prepare(plan, format=format), executor=executor)
    assert contents(tmp_path / "store") == expected(stores, format)


def test_a_killed_worker_costs_a_retry_not_data(
    local_workers: Executor,
    synthetic_root: Path,
    tmp_path: Path,
    stores: dict[str, Path],
    make_plan: Callable[..., Plan],
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    flag = tmp_path / "killed"
    deadly = KillsItsWorkerOnce(plan.estimator, plan.dataset.records[40].path, flag)  # type: ignore[arg-type]
    fill_store(replace(plan, estimator=deadly), prepare(plan, format="zarr"), executor=local_workers)
    assert flag.exists()
    assert contents(tmp_path / "store") == expected(stores, "zarr")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_always_fails_is_reported_and_does_not_stop_the_others(
    local_workers: Executor, synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan], workers: int
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    path = plan.dataset.records[40].path
    failing = FailsOn(plan.estimator, path)  # type: ignore[arg-type]
    executor = local_workers if workers else None
    with pytest.raises(UserError, match=rf"1 of 3 shards failed(.|\n)*shard 1: RuntimeError: cannot stand {path}"):
        fill_store(replace(plan, estimator=failing), prepare(plan, format="zarr"), executor=executor)
    assert open_store(plan.path, incomplete=True).missing_shards() == [1]


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densereid.pipeline.dask_cluster._CONNECT_SECONDS", 1)
    with (
        pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1(.|\n)*dask scheduler"),
        shard_executor(workers=0, scheduler="tcp://127.0.0.1:1"),
    ):
        pass


@pytest.fixture
def _no_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)


THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [(1, 16, "16"), (4, 16, "4"), (3, 16, "5"), (4, 2, "1"), (2, 1, "1")]
)
@pytest.mark.usefixtures("_no_threads_asked_for")
def test_workers_without_gpus_share_the_cores(workers: int, cores: int, threads: str) -> None:
    assert worker_environments(workers, gpus=[], cores=cores) == [dict.fromkeys(THREADS, threads)] * workers


def test_threads_that_the_user_asks_for_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [one["OMP_NUM_THREADS"] for one in worker_environments(2, gpus=[], cores=16)] == ["3", "3"]


@pytest.mark.parametrize(
    ("workers", "gpus", "seen"),
    [
        (4, ["0", "1", "2", "3"], ["0", "1", "2", "3"]),
        (2, ["0", "1", "2", "3"], ["0", "1"]),
        (5, ["0", "1"], ["0", "1", "0", "1", "0"]),
        (2, ["GPU-a", "GPU-b"], ["GPU-a", "GPU-b"]),
    ],
)
def test_each_worker_sees_a_gpu_of_its_own(workers: int, gpus: list[str], seen: list[str]) -> None:
    environments = worker_environments(workers, gpus=gpus, cores=16)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == seen


@pytest.mark.parametrize(
    ("device", "count", "visible", "shared"),
    [
        ("auto", 3, None, ["0", "1", "2"]),
        ("cuda", 2, "5,7", ["5", "7"]),
        ("cuda", 1, "5,missing", ["5"]),
        ("cuda:1", 3, None, []),
        ("cpu", 3, None, []),
        ("auto", 0, None, []),
    ],
)
def test_the_gpus_that_workers_share(
    monkeypatch: pytest.MonkeyPatch, device: str, count: int, visible: str | None, shared: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_to_share(device) == shared


@pytest.mark.parametrize(("count", "workers"), [(0, 0), (1, 0), (4, 4)])
def test_auto_is_a_worker_for_each_of_several_gpus(monkeypatch: pytest.MonkeyPatch, count: int, workers: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert parse_workers("auto") == workers
    assert parse_workers("7") == 7


@pytest.mark.parametrize("text", ["-1", "many", ""])
def test_a_number_of_workers_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"WORKERS is '{text}'(.|\n)*or auto"):
        parse_workers(text)


@pytest.mark.usefixtures("_no_threads_asked_for")
def test_a_worker_process_has_its_threads_and_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before torch is imported there, or it would not look."""
    monkeypatch.setattr("densereid.pipeline.dask_cluster.usable_cores", lambda: 4)
    with shard_executor(workers=2, scheduler=None, gpus=["5", "7"]) as (executor, where):
        assert where == "2 Dask workers on 2 GPUs"
        assert executor is not None
        assert list(executor._client.nthreads().values()) == [2, 2]  # one computes while the other writes
        found = {future.result() for future in [executor.submit(seat, number) for number in range(8)]}
    threads = min(2, usable_cores())  # torch takes no more than there are; Dask's own default would be 1
    assert found == {(threads, "5"), (threads, "7")}


def interrupt() -> int:
    """What a terminal does to each process at Ctrl-C; the process's number."""
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpid()


def answer(_number: int) -> int:
    """The process's number, so late that the next question goes to another one."""
    time.sleep(0.1)
    return os.getpid()


def test_ctrl_c_is_for_the_process_that_started_the_workers(local_workers: Executor) -> None:
    """A worker that answered it would print a traceback over the message."""
    asked = local_workers.submit(interrupt).result()
    time.sleep(0.5)
    assert asked in {future.result() for future in [local_workers.submit(answer, number) for number in range(8)]}
