"""Where shards are computed: this process, local Dask workers or a Dask scheduler. Only this imports distributed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from distributed import Client, LocalCluster

from data_catalog.errors import UserError

_CONNECT_SECONDS = 20
_RETRIES = 2
"""Times a shard is computed again after its worker died."""


@contextmanager
def shard_executor(*, workers: int, scheduler: str | None) -> Iterator[tuple[Executor | None, str]]:
    """An executor of shards and the sentence saying what it is; None computes in this process.

    ``scheduler`` is the address of a running Dask scheduler (tcp://host:port), whose workers see the same
    file system and have DenseReID installed; otherwise ``workers`` local processes are started. Raises
    UserError where the scheduler does not answer or has no workers.
    """
    if scheduler is None and workers == 0:
        yield None, "this process"
        return
    # A lost worker is retried and reported by us; its traceback is not for the terminal.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with _cluster(workers, scheduler) as cluster, _client(cluster) as client:
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        if not count:
            raise UserError(
                f"the Dask scheduler at {scheduler} has no workers", f"start some: dask worker {scheduler} --nthreads 1"
            )
        yield client.get_executor(retries=_RETRIES), f"{count} Dask workers"


@contextmanager
def _cluster(workers: int, scheduler: str | None) -> Iterator[LocalCluster | str]:
    if scheduler is not None:
        yield scheduler
        return
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


@contextmanager
def _client(cluster: LocalCluster | str) -> Iterator[Client]:
    try:
        client = Client(cluster, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {cluster}: {error}",
            "start one: dask scheduler, then dask worker ADDRESS --nthreads 1 for each worker",
        ) from error
    with client:
        yield client
