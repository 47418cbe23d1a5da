"""Batches to train the embedded network on: mirror images, pictures shown again, and where a training goes on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V
from densereid.preprocess.embedded_training import feeding
from densereid.preprocess.embedded_training.feeding import ComposedPictures, batches, mirrored
from densereid.preprocess.embedded_training.pictures.composition import Library
from densereid.preprocess.embedded_training.recipe import Recipe, Stage


def test_mirror_images_against_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 5, 4, 3)).astype(np.uint8)
    iuv = np.concatenate((rng.integers(0, 25, (3, 5, 4, 1)), rng.integers(0, 256, (3, 5, 4, 2))), axis=3)
    found_images, found_iuv = mirrored(torch.from_numpy(images), torch.from_numpy(iuv.astype(np.uint8)))
    for n, y, x in np.ndindex(3, 5, 4):
        part, u, v = (int(each) for each in iuv[n, y, 3 - x])
        part = int(MIRROR_PART[part])
        expected = [part, 255 - u if part in MIRROR_TURNS_U else u, 255 - v if part in MIRROR_TURNS_V else v]
        assert found_iuv[n, y, x].tolist() == expected
        assert found_images[n, y, x].tolist() == images[n, y, 3 - x].tolist()


def test_every_picture_is_shown_as_often_as_the_recipe_says_and_half_of_the_time_mirrored(
    layer_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "HELD", 6)
    stage, uses = Stage(60, 8, (32, 32)), 3
    recipe = Recipe((stage,), uses=uses, seed=1)
    composed = ComposedPictures(layer_library, stage, 1, 0, (6 + 20) * 8)
    names: dict[bytes, tuple[int, bool]] = {}
    for index in range(len(composed)):
        pair = tuple(each[None] for each in composed[index])
        names[_bytes(*pair)], names[_bytes(*mirrored(*pair))] = (index, False), (index, True)
    shown = [
        names[_bytes(image[None], truth[None])]
        for _, images, iuv in batches(layer_library, recipe, 0, 0, "cpu")
        for image, truth in zip(images, iuv, strict=True)
    ]
    assert len(shown) == 480
    assert 0.4 < np.mean([turned for _, turned in shown]) < 0.6
    count = Counter(index for index, _ in shown)
    whole = [count[index] for index in range(6 * 8, 20 * 8)]  # at hand for as long as any
    assert abs(np.mean(whole) - uses) < 0.8


def test_batches_from_any_step_on_are_those_of_a_whole_training(
    layer_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "HELD", 3)
    recipe = Recipe((Stage(5, 2, (32, 32)), Stage(7, 4, (32, 32), uv_weight=9.0)), uses=3, seed=2)
    whole = list(batches(layer_library, recipe, 0, 0, "cpu"))
    assert [stage.uv_weight for stage, _, _ in whole] == [4.0] * 5 + [9.0] * 7
    assert len({_bytes(images, iuv) for _, images, iuv in whole}) == 12
    for step in range(12):
        again = list(batches(layer_library, recipe, step, 0, "cpu"))
        assert [_bytes(*pair) for _, *pair in again] == [_bytes(*pair) for _, *pair in whole[step:]]


def _bytes(images: Tensor, iuv: Tensor) -> bytes:
    return images.numpy().tobytes() + iuv.numpy().tobytes()
