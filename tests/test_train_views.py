"""What of a ranking is looked at, against slow twins on random input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from densereid.train.evaluation.metrics import Labels, squared_distances
from densereid.train.evaluation.query_scores import score_queries
from densereid.train.evaluation.views import projection
from densereid.train.evaluation.views.distances import BINS, LARGEST, distance_histogram
from densereid.train.evaluation.views.projection import project
from densereid.train.evaluation.views.ranked_lists import LENGTH, extreme_queries, ranked_lists, worst_and_best

Sample = tuple[Tensor, Labels, Tensor, Labels]


def random_sample(seed: int, *, normalised: bool = False) -> Sample:
    """Few values, so that many distances are equal, and exactly; persons without a match, distractors, junk, unknown
    cameras."""
    random = torch.Generator().manual_seed(seed)

    def number(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=random)

    def embeddings(*shape: int) -> Tensor:
        values = number(1, 4, *shape).float()
        return torch.nn.functional.normalize(values) if normalised else values

    def labels(low: int, high: int, length: int) -> Labels:
        return Labels(number(low, high, length), number(-1, 3, length))

    return embeddings(12, 3), labels(1, 7, 12), embeddings(50, 3), labels(-1, 6, 50)


def kind(sample: Sample, row: int, column: int) -> str:
    """What a gallery image is for a query: right, wrong or junk."""
    _, own, _, others = sample
    person, camera = int(own.person_id[row]), int(own.camera_id[row])
    other, view = int(others.person_id[column]), int(others.camera_id[column])
    if other == -1 or (other == person and camera == view != -1):
        return "junk"
    return "right" if other == person else "wrong"


@pytest.mark.parametrize("seed", range(4))
def test_ranked_lists_are_those_of_the_slow_twin(seed: int) -> None:
    sample = random_sample(seed)
    distances, scores = squared_distances(sample[0], sample[2]), score_queries(*sample)
    found = ranked_lists(*sample, [3, 0, 7])
    assert [each.query for each in found] == [3, 0, 7]
    for each in found:
        order = sorted(range(50), key=lambda column: (float(distances[each.query, column]), column))
        rank, expected = 0, []
        for column in order:
            outcome = kind(sample, each.query, column)
            rank += outcome != "junk"
            expected.append((column, outcome, rank if outcome != "junk" else 0))
        listed = [(image.image, image.outcome.value, image.rank) for image in each.images]
        assert listed == expected[:LENGTH]
        lengths = [float(distances[each.query, image.image]) ** 0.5 for image in each.images]
        assert [image.distance for image in each.images] == pytest.approx(lengths)
        right = [image for image in expected if image[1] == "right"]
        if right and right[0] not in expected[:LENGTH]:
            assert each.first_match is not None
            assert (each.first_match.image, each.first_match.rank) == (right[0][0], right[0][2])
        else:
            assert each.first_match is None
        if right:
            assert right[0][2] == scores.first_match[each.query]


def test_the_worst_and_the_best_queries_have_a_match_and_are_different_ones() -> None:
    values, valid = torch.tensor([0.5, 0.1, 0.1, 0.9, 0.0, 0.9]), torch.tensor([1, 1, 1, 1, 0, 1]).bool()
    assert extreme_queries(values, valid, 2, 2) == ([1, 2], [3, 5])
    assert extreme_queries(values, valid, 4, 4) == ([1, 2, 0], [3, 5])
    scores = score_queries(*random_sample(0))
    worst, best = worst_and_best(scores, 3, 2)
    average = scores.average_precision
    assert all(scores.num_matches[query] for query in worst + best)
    assert average[worst[0]] == average[scores.num_matches > 0].min()
    assert average[best[0]] == average[scores.num_matches > 0].max()


@pytest.mark.parametrize("seed", range(2))
def test_distances_are_counted_as_by_the_slow_twin(seed: int) -> None:
    sample = random_sample(seed, normalised=True)
    distances = squared_distances(sample[0], sample[2]).sqrt()
    expected = {"right": [0] * BINS, "wrong": [0] * BINS, "junk": [0] * BINS}
    for row in range(12):
        for column in range(50):
            place = min(int(distances[row, column] * (BINS / LARGEST)), BINS - 1)
            expected[kind(sample, row, column)][place] += 1
    found = distance_histogram(*sample)
    assert found.same.tolist() == expected["right"]
    assert found.different.tolist() == expected["wrong"]
    assert (len(found.edges), float(found.edges[0]), float(found.edges[-1])) == (BINS + 1, 0, LARGEST)


def test_the_plane_is_that_of_the_singular_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "PERSONS", 2)
    monkeypatch.setattr(projection, "OTHERS", 4)
    embeddings = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    person_id = torch.tensor([7] * 6 + [3] * 6 + [5] * 4 + [0] * 9 + [-1] * 5)
    found = project(embeddings, person_id)
    assert found.person_id.tolist() == [7] * 6 + [3] * 6 + [0] * 4
    shown = [*range(12), 12, 17, 23, 29]
    centred = embeddings[shown].double().numpy() - embeddings[shown].double().numpy().mean(0)
    _, values, directions = np.linalg.svd(centred)
    expected = centred @ directions[:2].T
    assert np.abs(found.points.numpy()) == pytest.approx(np.abs(expected), abs=1e-9)
    assert (found.points.gather(0, found.points.abs().argmax(0, keepdim=True)) > 0).all()
    assert found.explained == pytest.approx(tuple(values[:2] ** 2 / (values**2).sum()))
    assert project(embeddings[:1], person_id[:1]).points.tolist() == [[0, 0]]
