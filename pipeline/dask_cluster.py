"""Where shards are computed: this process, local Dask workers or a Dask scheduler. Only this imports distributed.

Local workers share the machine: each has a GPU of its own where there are GPUs, else its share of the cores. A worker
with a GPU has two threads, of which one writes a shard while the other computes the next
(:mod:`densereid.preprocess.writing.shard_pipeline`); workers that share the cores keep them busy without that.

Whoever reaches a Dask worker can have it run code, and every user of a machine reaches its local ports. So scheduler
and workers talk by TLS with a certificate of their own, which lives in their memory alone, and serve no HTTP.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from distributed import Client, Nanny, Scheduler, Security, SpecCluster, Worker
from distributed.system import MEMORY_LIMIT

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural

_CONNECT_SECONDS = 20
_RETRIES = 2
"""Times a shard is computed again after its worker died."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Where the libraries read how many threads they may use; Dask's own default is 1."""


def worker_environments(workers: int, *, gpus: Sequence[str], cores: int) -> list[dict[str, str]]:
    """The environment variables of each local worker.

    ``gpus`` are the devices to give out, as CUDA_VISIBLE_DEVICES names them: worker i sees one of them only, as its
    ``cuda:0``; where workers outnumber them they are given out in turn. Without GPUs the workers share ``cores``
    evenly, unless the user's own environment already says how many threads there are to be.
    """
    share = str(max(1, cores // max(1, workers)))
    threads = {name: os.environ.get(name, share) for name in _THREADS}
    if not gpus:
        return [threads] * workers
    return [{**threads, "CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} for worker in range(workers)]


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class QuietScheduler(Scheduler):
    """Has no HTTP server, which would tell every user of the machine what is computed."""

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Nothing."""


class QuietWorker(Worker):
    """Has no HTTP server either."""

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Nothing."""


class PinnedNanny(Nanny):
    """Starts a worker in the environment of its number."""

    def __init__(self, scheduler: str, *, environments: Sequence[Mapping[str, str]], **options: Any) -> None:
        # A terminal sends Ctrl-C to every process, and a worker would answer it with a traceback. Workers inherit what
        # the thread that starts them blocks; starting Python's resource tracker, which they need, would unblock it.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        super().__init__(scheduler, **options, env=dict(environments[int(options["name"])]))


@contextmanager
def shard_executor(
    *, workers: int, scheduler: str | None, gpus: Sequence[str] = ()
) -> Iterator[tuple[Executor | None, str]]:
    """An executor of shards and the sentence saying what it is; None computes in this process.

    ``scheduler`` is the address of a running Dask scheduler (tcp://host:port), whose workers see the same
    file system and have DenseReID installed; otherwise ``workers`` local processes are started, on ``gpus``
    (:func:`worker_environments`). Raises UserError where the scheduler does not answer or has no workers.
    """
    if scheduler is None and workers == 0:
        yield None, "this process"
        return
    # A lost worker is retried and reported by us; its traceback is not for the terminal.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    environments = worker_environments(workers, gpus=gpus, cores=usable_cores())
    threads = 2 if gpus else 1
    with _cluster(environments, scheduler, threads) as cluster, _client(cluster) as client:
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        if not count:
            raise UserError(
                f"the Dask scheduler at {scheduler} has no workers", f"start some: dask worker {scheduler} --nthreads 2"
            )
        on_gpus = f" on {plural(min(count, len(gpus)), 'GPU')}" if gpus and scheduler is None else ""
        yield client.get_executor(retries=_RETRIES), f"{plural(count, 'Dask worker')}{on_gpus}"


@contextmanager
def _cluster(
    environments: Sequence[Mapping[str, str]], scheduler: str | None, threads: int
) -> Iterator[SpecCluster | str]:
    if scheduler is not None:
        yield scheduler
        return
    reach = {"host": "127.0.0.1", "protocol": "tls://", "security": _own_security(), "dashboard": False}
    with tempfile.TemporaryDirectory(prefix="densereid-workers-") as private:  # what a worker spills is code, too
        options = {
            **reach,
            "nthreads": threads,
            "memory_limit": MEMORY_LIMIT // len(environments),
            "silence_logs": logging.CRITICAL,
            "environments": environments,
            "worker_class": QuietWorker,
            "local_directory": private,
        }
        with SpecCluster(
            workers={number: {"cls": PinnedNanny, "options": options} for number in range(len(environments))},
            scheduler={"cls": QuietScheduler, "options": {**reach, "port": 0}},
            security=reach["security"],
            silence_logs=logging.CRITICAL,
        ) as cluster:
            yield cluster


def _own_security() -> Security:
    """Keys that are made for one run, and are written nowhere."""
    try:
        return Security.temporary()
    except ImportError as error:
        raise UserError(
            "local workers need the package cryptography, by which they talk to this process alone",
            "install it (pip install cryptography), or leave out WORKERS: this process computes by itself",
        ) from error


@contextmanager
def _client(cluster: SpecCluster | str) -> Iterator[Client]:
    try:
        client = Client(cluster, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {cluster}: {error}",
            "start one: dask scheduler, then dask worker ADDRESS --nthreads 2 for each worker",
        ) from error
    with client:
        yield client
