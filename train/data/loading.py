"""Three ways to feed a training step, all with the same batches in the same order.

``disk``: workers read and decode each batch from the store. ``memory``: the training split is decoded
once into RAM that the workers share. ``device``: it is decoded once onto the device; a batch is an
index there, and no worker exists. Augmentation follows on the device in every case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from rich import filesize
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from densereid.data_catalog.errors import UserError
from densereid.train.data.batch import Batch
from densereid.train.data.dataset import StoreDataset
from densereid.train.data.randomness import Purpose, generator
from densereid.train.data.sampler import PKSampler
from densereid.train.data.workers import PATIENCE

FEEDS = ("auto", "disk", "memory", "device")

MEMORY_SHARE = {"cuda": 0.4, "cpu": 0.5}
"""Share of the free memory that decoded images may take: a GPU needs the rest for activations."""

_DECODE_ROWS = 512


class Feeder(Protocol):
    """Yields the batches of the sampler's epoch, each on its way to the device; ``len`` is their number."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Feed:
    """A chosen way of feeding, and why."""

    mode: str
    reason: str


def choose_feed(feed: str, dataset: StoreDataset, device: torch.device, *, processes: int = 1) -> Feed:
    """``feed`` itself where it names a way; for ``auto`` the fastest one that fits into free memory.

    ``processes`` of one machine each decode the split for themselves. Raises UserError for an unknown name.
    """
    if feed not in FEEDS:
        raise UserError(f"FEED is '{feed}'", f"expected {', '.join(FEEDS)}")
    if feed != "auto":
        return Feed(feed, "asked for")
    size = decoded_bytes(dataset)
    need = f"{len(dataset)} decoded images take {filesize.decimal(size)}"
    if device.type == "cuda":
        free = free_memory(device)
        if size <= MEMORY_SHARE["cuda"] * free:
            return Feed("device", f"{need}, {filesize.decimal(free)} are free on {device}")
        need = f"{need}, too much for the {filesize.decimal(free)} free on {device}"
    free = free_memory(torch.device("cpu")) // processes
    if size <= MEMORY_SHARE["cpu"] * free:
        return Feed("memory", f"{need}, {filesize.decimal(free)} of RAM are free")
    return Feed("disk", f"{need}, too much for {filesize.decimal(free)} of free RAM")


def decoded_bytes(dataset: StoreDataset) -> int:
    """Bytes of every sample decoded, estimated from the first."""
    return sum(tensor.nbytes for tensor in dataset.read_batch([0]).tensors().values()) * len(dataset)


def make_feeder(
    mode: str, dataset: StoreDataset, sampler: PKSampler, *, device: torch.device, workers: int, seed: int
) -> Feeder:
    """The feeder for ``mode`` (disk, memory or device); ``workers`` processes read ahead for the first two."""
    if mode == "device":
        return DeviceFeeder(DecodedDataset(decode_rows(dataset, device)), sampler)
    source: StoreDataset | DecodedDataset = dataset
    if mode == "memory":
        source = DecodedDataset(decode_rows(dataset, torch.device("cpu"), shared=workers > 0))
    return DataLoader(
        _ErrorsAsBatches(source),
        batch_sampler=sampler,
        collate_fn=_as_read,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        timeout=PATIENCE if workers else 0,
        pin_memory=device.type == "cuda",
        # Its own generator: the loader draws one number per epoch, which must not move dropout's.
        generator=generator(seed, Purpose.LOADER),
    )


def decode_rows(dataset: StoreDataset, device: torch.device, *, shared: bool = False) -> Batch:
    """Every sample of the dataset as one Batch on ``device``; ``shared`` puts it where spawned workers see it."""
    whole: dict[str, Tensor] = {}
    for start in range(0, len(dataset), _DECODE_ROWS):
        part = dataset.read_batch(range(start, min(start + _DECODE_ROWS, len(dataset))))
        for name, values in part.tensors().items():
            if name not in whole:
                room = torch.empty((len(dataset), *_stored(values).shape[1:]), dtype=values.dtype, device=device)
                whole[name] = _shown(room.share_memory_() if shared and device.type == "cpu" else room)
            whole[name][start : start + len(values)] = values.to(device)
    return Batch(**whole)


class DecodedDataset:
    """Samples that are decoded already, on the CPU or on a GPU."""

    def __init__(self, whole: Batch) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """The samples at ``indices`` as one Batch on the device where they lie, with the strides of a read one."""
        index = torch.tensor(indices).to(self.whole.image.device, non_blocking=True)
        return Batch(**{name: _shown(_rows(_stored(values), index)) for name, values in self.whole.tensors().items()})


class DeviceFeeder:
    """Batches of a decoded dataset in the sampler's order, without a process or a copy between."""

    def __init__(self, dataset: DecodedDataset, sampler: PKSampler) -> None:
        self.dataset, self.sampler = dataset, sampler

    def __iter__(self) -> Iterator[Batch]:
        return (self.dataset.read_batch(indices) for indices in self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


class _ErrorsAsBatches(Dataset[Any]):
    """Whole batches; a UserError in a worker arrives as one: the DataLoader would wrap it in the worker's traceback."""

    def __init__(self, dataset: StoreDataset | DecodedDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: Sequence[int]) -> Batch | UserError:
        try:
            batch = self.dataset.read_batch(indices)
        except UserError as error:
            return error
        return batch


def _as_read(batch: Any) -> Any:
    """The dataset has made a batch already."""
    return batch


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]``. numpy copies a row at once; torch copies byte by byte on a CPU (bench/RESULTS.md)."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy()[index.numpy()])
    return values[index]


def _stored(values: Tensor) -> Tensor:
    """Images as they lie in memory, channels last; other tensors as they are."""
    return values.movedim(-3, -1) if _is_picture(values) else values


def _shown(values: Tensor) -> Tensor:
    """The inverse of :func:`_stored`: channels before height and width."""
    return values.movedim(-1, -3) if _is_picture(values) else values


def _is_picture(values: Tensor) -> bool:
    """image (B, 3, H, W) or dsap (B, 24, 3, S, S); not mask (B, H, W) and not valid, which is bool."""
    return values.dtype == torch.uint8 and values.ndim >= 4


_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken: of the GPU, or of this machine's RAM within the container's limit."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    available: int = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # "max", where there is no limit, is no number
        limit = int((_CGROUP / "memory.max").read_text(encoding="utf-8"))
        available = min(available, max(0, limit - int((_CGROUP / "memory.current").read_text(encoding="utf-8"))))
    return available
