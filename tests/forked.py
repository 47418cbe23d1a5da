"""Processes of their own in which torch and our modules are loaded: forks of one server, which loads them once.

Starting Python and importing them takes three to six seconds, most of the time of tests that kill what they start.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from unittest import mock

from helpers import ROOT

_LOADED = [
    "densereid.pipeline.cli.dataset_commands",
    "densereid.pipeline.cli.model_commands",
    "densereid.pipeline.cli.store_commands",
    "densereid.pipeline.reports.network_tables",
    "faults.attack",
    "faults.warm",
    "densereid.pipeline.stores",
    "densereid.preprocess.writing.verify",
    "densereid.train.engine.loop",
    "forked",
]


@cache
def server() -> ForkServerContext:
    """The server's way of starting processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    search = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    with mock.patch.dict(os.environ, {"PYTHONPATH": search, "CUDA_VISIBLE_DEVICES": ""}):
        multiprocessing.forkserver.ensure_running()
    return context


def start_forked(
    code: str, words: Sequence[object] = (), *, output: Path, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """Start ``python -c code words``, in the project's folder; what it prints goes to the file ``output``."""
    process = server().Process(
        target=_execute, args=(code, list(map(str, words)), {**os.environ, **(environment or {})}, output)
    )
    process.start()
    return process


def run_forked(
    code: str, words: Sequence[object] = (), *, output: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """How it ended, within two minutes; ``stderr`` is all that it printed."""
    process = start_forked(code, words, output=output, environment=environment)
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(code, 120, stderr=output.read_bytes())
    return subprocess.CompletedProcess(code, process.exitcode, stderr=output.read_text(encoding="utf-8"))


def run_ranks(code: str, folder: Path) -> None:
    """Run ``python -c code folder`` twice, as torchrun starts the two ranks of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    launched = {**shared, "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}
    said = [folder.with_name(f"{folder.name}-said-{rank}") for rank in (0, 1)]
    own = [{**launched, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    ranks = [start_forked(code, [folder], output=said[rank], environment=own[rank]) for rank in (0, 1)]
    for rank, process in enumerate(ranks):
        process.join(150)
        process.kill()
        assert process.exitcode == 0, said[rank].read_text(encoding="utf-8")


def _execute(code: str, words: list[str], environment: Mapping[str, str], output: Path) -> None:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *words]
    with output.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
    exec(compile(code, "<forked>", "exec"), {"__name__": "__main__"})
