from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import plain_inputs
from reference_train import random_store, slow_augment, slow_flip_parts, slow_pool

from densereid.data_catalog.store.schema import DSAP_FILL, Split
from densereid.train.config.train_config import AugmentationConfig
from densereid.train.data.augmentation import augment, draw_augmentation, mirror_parts, normalise_dsap, normalise_image
from densereid.train.data.batch import Batch
from densereid.train.data.dataset import StoreDataset
from densereid.train.data.randomness import generator

HEIGHT, WIDTH, PAD = 32, 16, 5


@pytest.fixture(scope="module")
def batch() -> Batch:
    store = random_store(height=HEIGHT, width=WIDTH)
    needs = ("image", "dsap", "dsap_valid", "mask")
    return StoreDataset(store, Split.TRAIN, needs=needs, height=HEIGHT, width=WIDTH).read_batch(list(range(12)))


def _draw(seed: int, num_samples: int = 12):
    config = AugmentationConfig(pad=PAD)
    return draw_augmentation(num_samples, config, height=HEIGHT, width=WIDTH, generator=generator(seed))


def test_batched_augmentation_equals_the_per_image_reference(batch: Batch) -> None:
    draw = _draw(0)
    inputs = augment(batch, draw, pad=PAD)
    assert 0 < draw.flip.sum() < 12
    assert 0 < (draw.erase[:, 2] > 0).sum() < 12
    for index in range(len(batch)):
        sample = {name: getattr(batch, name)[index].numpy() for name in ("image", "mask", "dsap", "valid")}
        one = {"flip": bool(draw.flip[index]), "top": int(draw.top[index]), "left": int(draw.left[index])}
        expected = slow_augment(sample, {**one, "erase": draw.erase[index].tolist()}, pad=PAD)
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(inputs, name)[index], value, atol=2e-6, err_msg=name)


def test_flip_of_parts_follows_the_measured_table(batch: Batch) -> None:
    assert batch.dsap is not None
    assert batch.valid is not None
    dsap, valid = slow_flip_parts(batch.dsap[0].numpy(), batch.valid[0].numpy())
    assert np.array_equal(mirror_parts(batch.dsap)[0], dsap)
    assert np.array_equal(mirror_parts(batch.valid)[0], valid)
    assert torch.equal(mirror_parts(mirror_parts(batch.dsap)), batch.dsap)


def test_a_mirrored_byte_map_has_the_mirrored_dsap_row() -> None:
    # The store's rule, row = min(31, 32 q // 255), and the flip of the row agree for every byte q.
    byte = np.arange(256)
    row = np.minimum(31, 32 * byte // 255)
    assert np.array_equal(np.minimum(31, 32 * (255 - byte) // 255), 31 - row)


def test_invalid_texels_are_exactly_zero_and_the_fill_nearly() -> None:
    random = np.random.default_rng(0)
    dsap = torch.from_numpy(random.integers(0, 256, (2, 24, 3, 8, 8), dtype=np.uint8))
    valid = torch.from_numpy(random.random((2, 24, 8, 8)) < 0.5)
    values = normalise_dsap(dsap, valid)
    assert (values.permute(0, 1, 3, 4, 2)[~valid] == 0).all()
    fill = torch.tensor(DSAP_FILL, dtype=torch.uint8)[:, None, None]
    assert normalise_image(fill).abs().max() < 0.01


def test_pooled_dsap_is_the_mean_of_valid_texels() -> None:
    random = np.random.default_rng(1)
    dsap = torch.from_numpy(random.integers(0, 256, (2, 24, 3, 8, 8), dtype=np.uint8))
    valid = torch.from_numpy(random.random((2, 24, 8, 8)) < 0.3)
    pooled = normalise_dsap(dsap, valid, size=4)
    for index in range(2):
        expected = slow_pool(normalise_image(dsap)[index].numpy(), valid[index].numpy(), 4)
        np.testing.assert_allclose(pooled[index], expected, atol=1e-5)


def test_draws_are_reproducible_and_within_their_ranges() -> None:
    config = AugmentationConfig()
    draw = draw_augmentation(500, config, height=256, width=128, generator=generator(1))
    again = draw_augmentation(500, config, height=256, width=128, generator=generator(1))
    assert all(torch.equal(getattr(draw, name), getattr(again, name)) for name in ("flip", "top", "left", "erase"))
    assert 0.4 < draw.flip.float().mean() < 0.6
    for corner in (draw.top, draw.left):
        assert (int(corner.min()), int(corner.max())) == (0, 20)
    top, left, tall, wide = draw.erase[draw.erase[:, 2] > 0].T
    assert 0.4 < len(top) / 500 < 0.6
    assert ((top >= 0) & (left >= 0) & (top + tall <= 256) & (left + wide <= 128)).all()
    share = tall * wide / (256 * 128)
    assert share.min() > 0.018
    assert share.max() < 0.42


def test_nothing_changes_without_augmentation(batch: Batch) -> None:
    config = AugmentationConfig(flip=0, pad=0, erase=0)
    draw = draw_augmentation(len(batch), config, height=HEIGHT, width=WIDTH, generator=generator(0))
    changed, plain = augment(batch, draw, pad=0), plain_inputs(batch)
    for name in ("image", "dsap", "mask"):
        assert torch.equal(getattr(changed, name), getattr(plain, name)), name


def test_a_network_without_semantics_gets_none(batch: Batch) -> None:
    inputs = augment(replace(batch, dsap=None, valid=None, mask=None), _draw(2), pad=PAD)
    assert inputs.dsap is None
    assert inputs.mask is None
