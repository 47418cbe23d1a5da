from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import score_distances
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_train import slow_ranks, slow_scores

from bench.evaluation.metrics import by_sorting, counted
from densereid.data_catalog.errors import UserError
from densereid.train.evaluation.metrics import Labels, score_embeddings, squared_distances
from densereid.train.evaluation.ranges import join_ranges
from densereid.train.evaluation.ranks import MOST_COUNTED, Cells, ranks_by_row, ranks_by_table


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


def test_the_distances_given_are_not_changed() -> None:
    distances = torch.rand(4, 30, generator=torch.Generator().manual_seed(2))
    copy = distances.clone()
    labels = Labels(torch.arange(4) + 1, torch.ones(4)), Labels(torch.arange(30) % 4 + 1, torch.arange(30) % 3)
    score_distances(distances, *labels)
    assert torch.equal(distances, copy)


def test_equal_scores_to_the_last_bit_as_with_a_sort_of_every_row() -> None:
    """Few whole numbers (ties and duplicates), or many; junk, distractors, unknown cameras, queries without a match."""
    for seed in range(12):
        random = torch.Generator().manual_seed(seed)
        sizes, people = (int(torch.randint(1, 400, (), generator=random)), 400), (1, 5, 60)[seed % 3]
        values = [torch.randn(size, 3 + seed, generator=random) for size in sizes]
        query, gallery = values if seed % 2 else [value.round() for value in values]
        labels = [
            Labels(
                torch.randint(-role, people + 1, (size,), generator=random),
                torch.randint(-1, 4, (size,), generator=random),
            )
            for role, size in enumerate(sizes)
        ]
        labels[0].person_id[0], labels[0].camera_id[0], labels[1].person_id[-1] = 1, -1, 1
        assert counted(query, gallery, *labels) == by_sorting(query, gallery, *labels), seed


# Ranks


def _cells(chosen: np.ndarray) -> Cells:
    row, column = (np.ascontiguousarray(index) for index in chosen.nonzero())
    return Cells(torch.from_numpy(row), torch.from_numpy(column))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 6),
    columns=st.sampled_from([1, 2, 7, 40, MOST_COUNTED + 30]),
    levels=st.sampled_from([1, 3, 10**6]),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    left=st.sampled_from([0.0, 0.2, 0.9]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16]),
)
def test_ranks_are_the_places_of_a_stable_sort(
    seed: int, rows: int, columns: int, levels: int, share: float, left: float, dtype: torch.dtype
) -> None:
    random = np.random.default_rng(seed)
    distances = torch.from_numpy(random.integers(0, levels, (rows, columns)) / levels - 0.5).to(dtype)
    left_out = random.random((rows, columns)) < left
    chosen = (random.random((rows, columns)) < share) & ~left_out
    expected = slow_ranks(distances.double().numpy(), chosen, left_out)
    for ranks in (ranks_by_row, ranks_by_table):
        assert ranks(distances, _cells(chosen), _cells(left_out)).tolist() == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_counts_as_the_reference() -> None:
    random = np.random.default_rng(0)
    distances = random.integers(0, 9, (5, 70)) / 9
    left_out = random.random((5, 70)) < 0.2
    chosen = (random.random((5, 70)) < 0.3) & ~left_out
    cells = _cells(chosen).to(torch.device("cuda")), _cells(left_out).to(torch.device("cuda"))
    expected = slow_ranks(distances, chosen, left_out)
    assert ranks_by_table(torch.from_numpy(distances).cuda(), *cells).tolist() == expected


def test_zeros_of_both_signs_are_equal() -> None:
    distances = torch.tensor([[0.0, -0.0, 0.0, -1.0]])
    everything, nothing = _cells(np.ones((1, 4), bool)), _cells(np.zeros((1, 4), bool))
    for ranks in (ranks_by_row, ranks_by_table):
        assert ranks(distances, everything, nothing).tolist() == [2, 3, 4, 1]


def test_ranges_are_laid_one_after_the_other() -> None:
    random = np.random.default_rng(0)
    for number in (0, 1, 20):
        first, length = random.integers(0, 50, number), random.integers(0, 4, number)
        expected = [(i, first[i] + step) for i in range(number) for step in range(length[i])]
        owner, position = join_ranges(torch.from_numpy(first), torch.from_numpy(length))
        assert list(zip(owner.tolist(), position.tolist(), strict=True)) == expected
