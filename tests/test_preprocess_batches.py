"""Batches for a network: sizes, groups, colour order, and memory that runs out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_catalog.errors import UserError
from data_catalog.records import ImageRecord
from data_catalog.schema import Split
from preprocess.batches import group_by_network_size, network_input, network_size, run_in_batches
from preprocess.estimator import Crop


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

    def compute(indices: list[int]) -> list[int]:
        sizes_tried.append(len(indices))
        if len(indices) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [index * 10 for index in indices]

    limits = {(8, 4): 16}
    batches = list(run_in_batches(compute, range(10), (8, 4), device="cpu", limits=limits))
    assert [index for batch, _ in batches for index in batch] == list(range(10))
    assert [value for _, values in batches for value in values] == [index * 10 for index in range(10)]
    assert sizes_tried == [10, 5, 2, 2, 2, 2, 2]
    sizes_tried.clear()
    list(run_in_batches(compute, range(4), (8, 4), device="cpu", limits=limits))
    assert sizes_tried == [2, 2]  # what fitted is remembered


def test_one_crop_that_does_not_fit_is_explained() -> None:
    def compute(indices: list[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"cpu has not enough memory for one crop at 512x256(.|\n)*SHORT_EDGE"):
        list(run_in_batches(compute, [0, 1], (512, 256), device="cpu", limits={}))


def test_other_errors_are_not_swallowed() -> None:
    def compute(indices: list[int]) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(run_in_batches(compute, [0], (8, 4), device="cpu", limits={}))
