from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import torch
from reference_train import MemoryStore, random_store
from torch.utils.data import DataLoader

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split, Status
from densereid.train.data.dataset import StoreDataset, read_images

EVERYTHING = ("image", "dsap", "dsap_valid", "mask")


def _dataset(store: MemoryStore, needs: tuple[str, ...] = EVERYTHING, size: tuple[int, int] = (32, 32)) -> StoreDataset:
    return StoreDataset(store, Split.TRAIN, needs=needs, height=size[0], width=size[1])


def test_a_batch_holds_the_stored_values_in_the_order_asked() -> None:
    store = random_store()
    batch = _dataset(store).read_batch([7, 2, 7])
    rows = batch.row.numpy()
    assert rows.tolist() == [7, 2, 7]
    assert np.array_equal(batch.image.permute(0, 2, 3, 1), store.arrays["image"][rows])
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert batch.dsap is not None
    assert batch.valid is not None
    assert batch.mask is not None
    assert np.array_equal(batch.dsap.permute(0, 1, 3, 4, 2), store.arrays["dsap"][rows])
    assert np.array_equal(np.packbits(batch.valid.numpy(), axis=-1), store.arrays["dsap_valid"][rows])
    assert np.array_equal(batch.mask, store.arrays["mask"][rows])
    assert batch.identity.tolist() == [1, 0, 1]
    assert batch.camera.tolist() == store.arrays["camera_id"][rows].tolist()
    assert (batch.valid.dtype, batch.identity.dtype) == (torch.bool, torch.int64)


def test_only_what_the_network_needs_is_read_once_a_batch() -> None:
    store = random_store()
    dataset = _dataset(store, ("image",))
    store.reads.clear()
    batch = dataset.read_batch([0, 1, 2])
    assert store.reads == ["image"]
    assert (batch.dsap, batch.valid, batch.mask) == (None, None, None)
    assert len(batch) == 3
    assert len(batch.to("cpu")) == len(dataset.read_batch([0])) + 2


def test_identities_are_ranks_of_sorted_person_ids_and_unusable_images_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = random_store(train_identities=4, images=4)
    store.arrays["person_id"][:16] = np.repeat([900, 0, -1, 31], 4)
    store.arrays["status"][[0, 12]] = Status.FAILED
    with caplog.at_level(logging.INFO):
        dataset = _dataset(store)
    assert dataset.rows.tolist() == [1, 2, 3, 13, 14, 15]
    assert dataset.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert dataset.num_identities == 2
    assert "2 images that could not be read, 8 distractors, junk or unknown" in caplog.text


@pytest.mark.parametrize(
    ("array", "value", "words"),
    [
        ("split", Split.QUERY, "the split is empty"),
        ("status", Status.FAILED, r"none of its \d+ images could be read"),
        ("person_id", -1, r"no identity is known of its \d+ images\n.*PATTERN, whose group person"),
        ("person_id", 0, r"its \d+ images are distractors or junk"),
    ],
)
def test_an_empty_split_is_a_user_error_that_says_why(array: str, value: int, words: str) -> None:
    store = random_store()
    store.arrays[array][:] = value
    with pytest.raises(UserError, match=f"no usable image in its train split: {words}"):
        _dataset(store)


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_own_loader_takes_the_dataset_as_it_is(workers: int) -> None:
    dataset = _dataset(random_store())
    batches = list(DataLoader(dataset, batch_size=8, num_workers=workers))
    assert [len(batch["image"]) for batch in batches] == [8, 8, 8]
    for first, batch in zip((0, 8, 16), batches, strict=True):
        expected = dataset.read_batch(range(first, first + 8)).tensors()
        assert set(batch) == set(expected) == {"image", "dsap", "valid", "mask", "identity", "camera", "row"}
        assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert "dsap" not in _dataset(random_store(), ("image",))[3]
    assert torch.equal(dataset[3]["image"], batches[0]["image"][3])


def test_other_sizes_are_resized_with_a_notice(caplog: pytest.LogCaptureFixture) -> None:
    store = random_store()
    with caplog.at_level(logging.INFO):
        dataset = _dataset(store, size=(64, 16))
    assert "are 32x32; resized to 64x16" in caplog.text
    batch = dataset.read_batch([0, 5])
    assert batch.image.shape == (2, 3, 64, 16)
    assert batch.image.dtype == torch.uint8
    mean = store.arrays["image"][5].mean((0, 1))
    np.testing.assert_allclose(batch.image[1].float().mean((1, 2)), mean, atol=1)
    assert batch.mask is not None
    # Nearest: each stored row twice, every second stored column.
    assert np.array_equal(batch.mask[1, ::2], batch.mask[1, 1::2])
    assert set(np.unique(batch.mask[1])) <= set(np.unique(store.arrays["mask"][5]))
    assert np.array_equal(batch.mask[1, ::2], store.arrays["mask"][5][:, 1::2])


def test_the_dataset_pickles_for_a_spawned_worker() -> None:
    dataset = pickle.loads(pickle.dumps(_dataset(random_store())))
    assert len(dataset.read_batch([1, 3])) == 2


def test_images_are_read_at_their_own_size_unchanged() -> None:
    store = random_store()
    image = read_images(store, np.array([4]), height=32, width=32)
    assert np.array_equal(image[0].permute(1, 2, 0), store.arrays["image"][4])
