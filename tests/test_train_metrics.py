from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import score_distances
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_train import slow_scores

from densereid.data_catalog.errors import UserError
from densereid.train.evaluation.metrics import Labels, score_embeddings, squared_distances


def _labels(person: np.ndarray, camera: np.ndarray) -> Labels:
    return Labels(torch.from_numpy(person), torch.from_numpy(camera))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_query=st.integers(1, 8),
    num_gallery=st.integers(1, 30),
    levels=st.sampled_from([2, 4, 10**6]),
    chunk=st.sampled_from([1, 3, 256]),
)
def test_scores_equal_the_per_query_reference(
    seed: int, num_query: int, num_gallery: int, levels: int, chunk: int
) -> None:
    random = np.random.default_rng(seed)
    distances = random.integers(0, levels, (num_query, num_gallery)) / levels
    people = random.integers(0, 5, num_query), random.choice([-1, 0, 1, 2, 3, 4], num_gallery)
    cameras = random.integers(1, 4, num_query), random.integers(1, 4, num_gallery)
    query, gallery = _labels(people[0], cameras[0]), _labels(people[1], cameras[1])
    kept = people[1] != -1
    has_match = any(
        bool(((people[1] == p) & (cameras[1] != c) & kept).any()) and p > 0
        for p, c in zip(people[0], cameras[0], strict=True)
    )
    if not has_match:
        with pytest.raises(UserError, match=r"match|empty"):
            score_distances(torch.from_numpy(distances), query, gallery, chunk=chunk)
        return
    scores = score_distances(torch.from_numpy(distances), query, gallery, chunk=chunk)
    expected = slow_scores(distances, people[0], cameras[0], people[1], cameras[1])
    for name, value in expected.items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-12), name
    assert scores.num_queries == num_query
    assert scores.num_gallery == int(kept.sum())


@pytest.mark.parametrize(
    ("hits", "modern", "trapezoid", "penalty"),
    [
        ([1], 1.0, 1.0, 1.0),
        ([0, 1], 0.5, 0.25, 0.5),
        ([1, 0, 1], 0.8333, 0.7917, 0.6667),
        ([0, 1, 1], 0.5833, 0.4167, 0.6667),
        ([1, 1, 0, 0, 1], 0.8667, 0.85, 0.6),
        ([0, 0, 1], 0.3333, 0.1667, 0.3333),
    ],
)
def test_published_examples_of_average_precision(
    hits: list[int], modern: float, trapezoid: float, penalty: float
) -> None:
    person = np.where(np.array(hits) == 1, 7, 8)
    distances = torch.arange(len(hits)).float()[None]
    query = _labels(np.array([7]), np.array([1]))
    scores = score_distances(distances, query, _labels(person, np.full(len(hits), 2)))
    assert scores.mean_average_precision == pytest.approx(modern, abs=5e-5)
    assert scores.trapezoid_average_precision == pytest.approx(trapezoid, abs=5e-5)
    assert scores.mean_inverse_negative_penalty == pytest.approx(penalty, abs=5e-5)


def test_equal_distances_are_ordered_by_gallery_index() -> None:
    query = _labels(np.array([1]), np.array([1]))
    first = score_distances(torch.zeros(1, 3), query, _labels(np.array([1, 2, 3]), np.array([2, 2, 2])))
    last = score_distances(torch.zeros(1, 3), query, _labels(np.array([2, 3, 1]), np.array([2, 2, 2])))
    assert (first.mean_average_precision, last.mean_average_precision) == (1.0, pytest.approx(1 / 3))


def test_squared_distances_equal_the_definition() -> None:
    random = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(5, 7, generator=random), torch.randn(4, 7, generator=random)
    expected = (query[:, None] - gallery[None]).square().sum(2)
    torch.testing.assert_close(squared_distances(query, gallery), expected)
    assert squared_distances(query, query).diagonal().min() >= 0


def test_embeddings_are_scored_through_their_distances() -> None:
    random = torch.Generator().manual_seed(1)
    query, gallery = torch.randn(6, 5, generator=random), torch.randn(20, 5, generator=random)
    labels = Labels(torch.arange(6) % 3 + 1, torch.ones(6)), Labels(torch.arange(20) % 3 + 1, torch.full((20,), 2))
    by_embedding = score_embeddings(query, labels[0], gallery, labels[1], chunk=4)
    assert by_embedding == score_distances(squared_distances(query, gallery), *labels)
