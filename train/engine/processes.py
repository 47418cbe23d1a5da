"""One training in one process or, under torchrun, in several: how they start, and what the first does for all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric

from densereid.data_catalog.files.writer_lock import only_writer

_Result = TypeVar("_Result")


def start_fabric(device: torch.device | str, *, precision: str) -> Fabric:
    """Fabric on ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:N``; under torchrun, one of its processes.

    Processes share gradients (DDP); batch norm and the triplet loss see each process's own share.
    """
    if str(device) == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    several: dict[str, Any]
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        several = {"devices": here, "num_nodes": world // here, "strategy": "ddp"}
    else:
        several = {"devices": 1 if chosen.type == "cpu" else [chosen.index or 0]}
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # or every process tells its number
    fabric = Fabric(accelerator=chosen.type, precision=precision, **several)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder in the first process of a training, for all of them.

    Raises UserError that names the holder where another training writes there.
    """
    first = int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"
    with only_writer(folder, "the run") if first else nullcontext():
        yield


def by_the_first(fabric: Fabric, work: Callable[[], _Result]) -> _Result:
    """What ``work`` gives in the first process, in every process; the others wait for it, however long it takes."""
    done: list[_Result] = []
    with fabric.rank_zero_first():
        if fabric.is_global_zero:
            done.append(work())
    result: _Result = fabric.broadcast(done[0] if done else None)  # type: ignore[assignment]
    return result
