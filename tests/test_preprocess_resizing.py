"""Resizing on a device equals Pillow's to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.preprocess.estimators.base import EstimatorInputs
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.images import resize_image
from densereid.preprocess.resizing import _in_passes, _pass_order, bilinear_weights, resized_batch
from densereid.preprocess.writing.batch_rows import estimate, read_record

EDGES = st.integers(1, 90)


def _images(seed: int, number: int, height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (number, height, width, 3), np.uint8)
    images[0] = generator.choice(np.array([0, 255], np.uint8), images[0].shape)  # sums at both ends of the range
    return images


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=EDGES, width=EDGES, size=st.tuples(EDGES, EDGES))
def test_every_pixel_is_pillows(seed: int, height: int, width: int, size: tuple[int, int]) -> None:
    images = _images(seed, 2, height, width)
    order = _pass_order((height, width), size)
    assert order is not None
    found = _in_passes(torch.from_numpy(images), size, order).numpy()
    for image, ours in zip(images, found, strict=True):
        np.testing.assert_array_equal(ours, resize_image(image, size))


@pytest.mark.parametrize("size", [(512, 256), (256, 128), (192, 96), (37, 18)])
def test_the_sizes_in_use(size: tuple[int, int]) -> None:
    for height, width in ((128, 64), (213, 77), (900, 431)):
        images = _images(7, 1, height, width)
        order = _pass_order((height, width), size)
        assert order is not None
        found = _in_passes(torch.from_numpy(images), size, order)[0].numpy()
        np.testing.assert_array_equal(found, resize_image(images[0], size))


def test_weights_of_a_line_are_whole() -> None:
    for before, after in ((64, 256), (256, 64), (7, 5), (1, 3)):
        first, weights = bilinear_weights(before, after)
        assert np.abs(weights.sum(1, dtype=np.int64) - 2**22).max() <= weights.shape[1]
        assert (first >= 0).all()
        assert (first < before).all()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_batch_of_mixed_sizes_keeps_its_order(device: str) -> None:
    if device != "cpu" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = [_images(index, 1, *size)[0] for index, size in enumerate([(40, 20), (16, 8), (40, 20), (9, 30)])]
    found = resized_batch(images, (24, 12), device).cpu().numpy()
    np.testing.assert_array_equal(found, np.stack([resize_image(image, (24, 12)) for image in images]))
    assert resized_batch([], (24, 12), device).shape == (0, 24, 12, 3)


def test_images_resized_by_batches_are_those_resized_while_they_are_read(crops: Path) -> None:
    dataset = find_dataset("folder", crops)
    (crops / dataset.records[1].path).write_bytes(b"no image")
    estimator, nothing_else = open_iuv(dataset), EstimatorInputs()
    batches = [
        estimate(
            estimator, (24, 12), [read_record(dataset.root, each, size, nothing_else) for each in dataset.records],
            device="cpu",
        )
        for size in ((24, 12), None)
    ]  # fmt: skip
    assert torch.equal(batches[0].image, batches[1].image)
    assert batches[0].failures == batches[1].failures
    assert list(batches[0].failures) == [1]
