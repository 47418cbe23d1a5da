from __future__ import annotations

import numpy as np
import torch
from reference_train import random_store, slow_crop_parts

from densereid.data_catalog.parts import MIRROR_PART
from densereid.data_catalog.store.schema import Split
from densereid.train.config.train_config import AugmentationConfig
from densereid.train.data.augmentation import augment, draw_augmentation, mirror_crops
from densereid.train.data.dataset import StoreDataset
from densereid.train.data.part_crops import crop_parts
from densereid.train.data.randomness import generator


def _image_and_parts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (2, 24, 16, 3)).astype(np.uint8)
    parts = np.zeros((2, 24, 16), np.uint8)
    for sample in range(2):
        for part in random.permutation(np.arange(1, 25))[:15]:
            y, x = random.integers(0, 24), random.integers(0, 16)
            parts[sample, y : y + random.integers(1, 12), x : x + random.integers(1, 9)] = part
    return image, parts


def test_table_4_crops_equal_the_pixel_by_pixel_reference() -> None:
    for seed in range(4):
        image, parts = _image_and_parts(seed)
        crops, valid = crop_parts(torch.from_numpy(image), torch.from_numpy(parts), size=8)
        assert (crops.dtype, crops.shape, valid.shape) == (torch.uint8, (2, 24, 3, 8, 8), (2, 24, 8, 8))
        for sample in range(2):
            expected, seen = slow_crop_parts(image[sample], parts[sample], 8)
            # One grey level: float32 here, float64 there, both rounded.
            np.testing.assert_allclose(crops[sample].float(), expected, atol=1, rtol=0)
            assert np.array_equal(valid[sample], seen)


def test_a_part_of_the_crops_size_is_copied_and_an_unseen_part_is_empty() -> None:
    image, parts = _image_and_parts(0)
    parts[:] = 0
    parts[0, 3:11, 5:13] = 7
    crops, valid = crop_parts(torch.from_numpy(image), torch.from_numpy(parts), size=8)
    assert np.array_equal(crops[0, 6].permute(1, 2, 0), image[0, 3:11, 5:13])
    assert valid[0].flatten(1).any(1).nonzero().flatten().tolist() == [6]
    assert not valid[1].any()
    assert not crops[1].any()


def test_crops_of_the_mirrored_image_are_the_mirrored_crops() -> None:
    image, parts = _image_and_parts(1)
    mirrored = crop_parts(
        torch.from_numpy(image[:, :, ::-1].copy()), torch.from_numpy(MIRROR_PART[parts[:, :, ::-1]]), size=8
    )
    straight = crop_parts(torch.from_numpy(image), torch.from_numpy(parts), size=8)
    for ours, expected in zip((mirror_crops(part) for part in straight), mirrored, strict=True):
        assert (ours.int() - expected.int()).abs().max() <= 1


def test_the_dataset_makes_crops_and_augmentation_flips_them() -> None:
    dataset = StoreDataset(random_store(), Split.TRAIN, needs=("image", "crops"), height=32, width=32)
    dataset.store.reads.clear()  # type: ignore[attr-defined]
    batch = dataset.read_batch([0, 1, 2])
    assert dataset.store.reads == ["image", "image", "iuv"]  # type: ignore[attr-defined]
    assert batch.dsap is not None
    assert batch.dsap.shape == (3, 24, 3, 8, 8)
    draw = draw_augmentation(3, AugmentationConfig(flip=1, erase=0), height=32, width=32, generator=generator(0))
    flipped = augment(batch, draw, pad=10, part_images="crops")
    straight = augment(batch, draw_augmentation(
        3, AugmentationConfig(flip=0, erase=0), height=32, width=32, generator=generator(0)
    ), pad=10, part_images="crops")  # fmt: skip
    assert flipped.dsap is not None
    assert straight.dsap is not None
    torch.testing.assert_close(flipped.dsap, mirror_crops(straight.dsap))
