"""Batches for a network: sizes, groups, colour order, and memory that runs out."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.preprocess.densepose.batching import (
    Size,
    group_by_network_size,
    network_input,
    network_size,
    run_alone,
    run_in_batches,
)
from densereid.preprocess.images import Crop


def crop(height: int, width: int, colour: tuple[int, int, int] = (10, 20, 30)) -> Crop:
    return Crop(ImageRecord("0.jpg", 1, 1, Split.TRAIN), np.full((height, width, 3), colour, np.uint8))


@pytest.mark.parametrize(
    ("size", "short_edge", "expected"),
    [
        ((128, 64), 256, (512, 256)),
        ((128, 64), 800, (1333, 667)),  # the long edge caps it
        ((64, 128), 256, (256, 512)),
        ((57, 60), 256, (256, 269)),
        ((1, 4000), 256, (1, 1333)),
    ],
)
def test_network_size(size: tuple[int, int], short_edge: int, expected: tuple[int, int]) -> None:
    assert network_size(*size, short_edge) == expected


def test_crops_of_one_network_size_are_batched_together() -> None:
    crops = [crop(128, 64), crop(100, 50), crop(90, 60), crop(128, 64)]
    assert group_by_network_size(crops, 64) == {(128, 64): [0, 1, 3], (96, 64): [2]}


def test_the_networks_input_is_bgr() -> None:
    images = network_input([crop(4, 2), crop(8, 4)], (8, 4), "cpu")
    assert images.shape == (2, 3, 8, 4)
    assert images.dtype == torch.float32
    assert images[0, :, 0, 0].tolist() == [30, 20, 10]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    sizes_tried: list[int] = []

    def compute(indices: list[int], size: Size) -> list[int]:
        sizes_tried.append(len(indices))
        if len(indices) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [index * 10 for index in indices]

    limits = {(8, 4): 16}
    batches = list(run_in_batches(compute, {(8, 4): range(10)}, device="cuda", limits=limits))
    assert [index for batch, _ in batches for index in batch] == list(range(10))
    assert [value for _, values in batches for value in values] == [index * 10 for index in range(10)]
    assert sizes_tried == [10, 5, 2, 2, 2, 2, 2]
    sizes_tried.clear()
    list(run_in_batches(compute, {(8, 4): range(4)}, device="cuda", limits=limits))
    assert sizes_tried == [2, 2]  # what fitted is remembered


def test_one_crop_that_does_not_fit_is_explained() -> None:
    def compute(indices: list[int], size: Size) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"cuda has not enough memory for one crop at 512x256(.|\n)*SHORT_EDGE"):
        list(run_in_batches(compute, {(512, 256): [0, 1]}, device="cuda", limits={}))


def test_other_errors_are_not_swallowed() -> None:
    def compute(indices: list[int], size: Size) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(run_in_batches(compute, {(8, 4): [0]}, device="cuda", limits={}))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_cpu_computes_every_crop_alone_on_one_thread(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    at_once = threading.Barrier(threads, timeout=20)

    def compute(indices: list[int], size: Size) -> tuple[list[int], Size, int, str]:
        at_once.wait()  # breaks unless so many run at the same time
        return indices, size, torch.get_num_threads(), threading.current_thread().name

    groups = {(8, 4): [5, 3], (8, 6): [8], (4, 4): [1, 7, 2]}

    try:
        batches, taken_with = [], []
        for batch in run_in_batches(compute, groups, device="cpu", limits={}):
            batches.append(batch)
            taken_with.append(torch.get_num_threads())
        assert taken_with == [1] * len(batches)  # more would spin between the results
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == threads  # also of threads begun later
    finally:
        torch.set_num_threads(before)
    expected = [([index], size) for size, indices in groups.items() for index in indices]
    assert [(batch, size) for batch, (_, size, _, _) in batches] == expected
    assert [(indices, number) for _, (indices, _, number, _) in batches] == [(batch, 1) for batch, _ in expected]
    assert len({name for _, (_, _, _, name) in batches}) == threads


def test_an_error_in_one_crop_arrives_and_warnings_stay_as_they_were() -> None:
    def compute(indices: list[int], size: Size) -> None:
        with warnings.catch_warnings(record=True):  # as Detectron2 does, in every convolution
            warnings.simplefilter("ignore")
            if indices == [2]:
                raise RuntimeError("broken")

    filters = list(warnings.filters)
    with pytest.raises(RuntimeError, match="broken"):
        list(run_alone(compute, {(8, 4): range(20)}))
    assert list(warnings.filters) == filters
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)
