"""What every network-based estimator does with a batch of crops: network size, equal sizes together, room in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.images import Crop
from densereid.preprocess.resizing import resized_batch

MAX_LONG_EDGE = 1333
"""Detectron2's INPUT.MAX_SIZE_TEST."""

_BATCH_PIXELS = 2**23
"""Network input pixels in a batch on a GPU, to begin with: 64 crops of 512x256."""

Size = tuple[int, int]
_Result = TypeVar("_Result")


def network_size(height: int, width: int, short_edge: int) -> Size:
    """(height, width) of the network's input: the short edge scaled, unless the long one would pass 1333.

    The rule and its rounding are Detectron2's (``ResizeShortestEdge``).
    """
    scale = short_edge / min(height, width)
    scaled = (short_edge * 1.0, scale * width) if height < width else (scale * height, short_edge * 1.0)
    if max(scaled) > MAX_LONG_EDGE:
        shrink = MAX_LONG_EDGE / max(scaled)
        scaled = scaled[0] * shrink, scaled[1] * shrink
    return max(1, int(scaled[0] + 0.5)), max(1, int(scaled[1] + 0.5))


def group_by_network_size(crops: Sequence[Crop], short_edge: int) -> dict[Size, list[int]]:
    """Positions of the crops that enter the network at one size, by that size, so that no batch is padded unevenly."""
    groups: dict[Size, list[int]] = {}
    for index, crop in enumerate(crops):
        groups.setdefault(network_size(*crop.size, short_edge), []).append(index)
    return groups


def network_input(crops: Sequence[Crop], size: Size, device: str) -> torch.Tensor:
    """The crops at ``size`` as DensePose takes them: float32 (batch, 3, height, width), BGR, 0..255."""
    return resized_batch([crop.pixels for crop in crops], size, device).flip(3).permute(0, 3, 1, 2).float()


def run_in_batches(
    compute: Callable[[list[int], Size], _Result],
    groups: Mapping[Size, Sequence[int]],
    *,
    device: str,
    limits: MutableMapping[Size, int],
) -> Iterator[tuple[list[int], _Result]]:
    """``compute`` of every batch of positions and their input size; a batch is of one group.

    A batch that does not fit into memory is halved and tried again; ``limits`` remembers what fitted at each input
    size. On a CPU every crop is a batch (see :func:`run_alone`), and ``compute`` is called from several threads.
    Raises UserError when not even one crop fits.
    """
    if torch.device(device).type == "cpu":
        yield from run_alone(compute, groups)
        return
    for size, indices in groups.items():
        limits.setdefault(size, max(1, _BATCH_PIXELS // (size[0] * size[1])))
        yield from _run_group(compute, indices, size, device=device, limits=limits)


def _run_group(
    compute: Callable[[list[int], Size], _Result],
    indices: Sequence[int],
    size: Size,
    *,
    device: str,
    limits: MutableMapping[Size, int],
) -> Iterator[tuple[list[int], _Result]]:
    start = 0
    while start < len(indices):
        batch = list(indices[start : start + limits[size]])
        try:
            result = compute(batch, size)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise _no_room(device, size) from error
            limits[size] = len(batch) // 2
        else:
            start += len(batch)
            yield batch, result
            continue
        # Out of the except clause: the error held the failed batch's tensors until here.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _no_room(device: str, size: Size) -> UserError:
    return UserError(
        f"{device} has not enough memory for one crop at {size[0]}x{size[1]}",
        "use a smaller SHORT_EDGE, PRECISION=bf16, or DEVICE=cpu",
    )


def run_alone(
    compute: Callable[[list[int], Size], _Result], groups: Mapping[Size, Sequence[int]]
) -> Iterator[tuple[list[int], _Result]]:
    """``compute`` of each position by itself, on one thread; as many at a time as torch has threads.

    So a result depends neither on the number of threads nor on what else is in the batch: sums are rounded in another
    order by every division of the work. On a CPU a batch is no faster than its crops one by one. The caller has one
    thread, too, until all results are taken: more would spin after each of its operations.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    jobs = [(index, size) for size, indices in groups.items() for index in indices]

    def alone(job: tuple[int, Size]) -> _Result:
        torch.set_num_threads(1)  # of this thread
        return compute([job[0]], job[1])

    try:
        # Detectron2 catches warnings in every convolution, which several threads would leave switched off.
        with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
            for (index, _), result in zip(jobs, pool.map(alone, jobs), strict=True):
                yield [index], result
    finally:
        torch.set_num_threads(threads)  # new threads use the number that was set last, in any thread
