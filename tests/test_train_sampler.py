from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densereid.data_catalog.errors import UserError
from densereid.train.data.sampler import PKSampler

CASES = {
    "counts": st.lists(st.integers(1, 25), min_size=4, max_size=30),
    "identities": st.sampled_from([2, 4]),
    "images": st.integers(2, 5),
    "seed": st.integers(0, 1000),
}


def _labels(counts: list[int], seed: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


@settings(max_examples=80, deadline=None)
@given(**CASES)
def test_invariants_of_random_cases(counts: list[int], identities: int, images: int, seed: int) -> None:
    labels = _labels(counts, seed)
    sampler = PKSampler(labels, identities=identities, images=images, seed=seed)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        for batch in batches:
            groups = np.array(batch).reshape(identities, images)
            assert (labels[groups] == labels[groups][:, :1]).all()
            assert len(set(labels[groups][:, 0])) == identities
            for group in groups:
                available = counts[labels[group[0]]]
                assert len(set(group)) == min(images, available)
        assert set(labels[np.concatenate(batches)]) == set(range(len(counts)))


@settings(max_examples=40, deadline=None)
@given(**CASES)
def test_places_are_shared_by_number_of_images(counts: list[int], identities: int, images: int, seed: int) -> None:
    labels = _labels(counts, seed)
    sampler = PKSampler(labels, identities=identities, images=images, seed=seed)
    places = Counter(labels[np.concatenate(list(sampler))])
    for label, count in enumerate(counts):
        assert places[label] // images >= min(max(1, count // images), len(sampler))


def test_same_seed_and_epoch_give_the_same_batches_and_others_differ() -> None:
    labels = _labels([7] * 12, 0)
    first, again, other = (PKSampler(labels, identities=4, images=4, seed=seed) for seed in (3, 3, 4))
    epoch_0 = list(first)
    assert epoch_0 == list(first) == list(again)
    assert epoch_0 != list(other)
    first.set_epoch(1)
    assert epoch_0 != list(first)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_make_the_single_process_batch(world_size: int) -> None:
    labels = _labels([3, 9, 20, 4, 6, 2, 8], 1)
    whole = list(PKSampler(labels, identities=4, images=4, seed=5))
    ranks = [
        list(PKSampler(labels, identities=4, images=4, seed=5, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [[index for part in parts for index in part] for parts in zip(*ranks, strict=True)] == whole


def test_an_epoch_shows_an_identity_different_images_before_it_repeats_any() -> None:
    labels = _labels([16] * 4, 2)
    seen = Counter(index for batch in PKSampler(labels, identities=4, images=4, seed=0) for index in batch)
    assert len(seen) == 64
    assert set(seen.values()) == {1}


def test_impossible_batches_are_refused() -> None:
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(UserError, match="needs 4 identities, the training split has 2"):
        PKSampler(labels, identities=4, images=2, seed=0)
    with pytest.raises(UserError, match="has one identity; a training needs two or more") as told:
        PKSampler(np.zeros(4, int), identities=8, images=2, seed=0)
    assert "PATTERN" in told.value.remedy
    assert "sampling.identities" not in str(told.value)
    with pytest.raises(UserError, match="cannot be shared evenly by 2"):
        PKSampler(np.arange(9), identities=3, images=2, seed=0, world_size=2)
