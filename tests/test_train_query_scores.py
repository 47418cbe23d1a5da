"""The scores of each query, and their means by cameras and visible parts, against slow twins on random input."""

from __future__ import annotations

from dataclasses import asdict, astuple

import numpy as np
import pytest
import torch
from reference_train import random_store
from torch import Tensor

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.train.evaluation import comparison
from densereid.train.evaluation.breakdown import by_camera_pair, by_visible_parts, visible_parts
from densereid.train.evaluation.comparison import differences, estimates
from densereid.train.evaluation.metrics import Labels, score_embeddings
from densereid.train.evaluation.query_scores import score_queries

Sample = tuple[Tensor, Labels, Tensor, Labels]


def random_sample(seed: int, *, unknown: bool = False) -> Sample:
    """Embeddings of few values, so that many distances are equal; persons without a match, distractors, junk."""
    random = torch.Generator().manual_seed(seed)

    def number(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=random)

    query, gallery = number(0, 3, 20, 3).float(), number(0, 3, 60, 3).float()
    cameras = (number(-1 if unknown else 1, 4, 20), number(-1 if unknown else 1, 4, 60))
    contents = (number(0, 9, 20), number(0, 9, 60)) if unknown else (None, None)
    return query, Labels(number(1, 9, 20), cameras[0], contents[0]), gallery, Labels(
        number(-1, 7, 60), cameras[1], contents[1]
    )  # fmt: skip


def slow_query(sample: Sample, row: int, columns: list[int]) -> dict[str, float] | None:
    """One query's scores over some gallery images, image by image in the order of their distances."""
    query, labels, gallery, others = sample
    person, camera = int(labels.person_id[row]), int(labels.camera_id[row])
    distances = {column: float((query[row] - gallery[column]).square().sum()) for column in columns}
    hits = []
    for column in sorted(columns, key=lambda column: (distances[column], column)):
        other, view = int(others.person_id[column]), int(others.camera_id[column])
        copy = False
        if labels.content is not None and others.content is not None and -1 in (camera, view):
            copy = bool(labels.content[row] == others.content[column])
        if other == -1 or (other == person and ((camera == view != -1) or copy)):
            continue
        hits.append(other == person)
    if not any(hits):
        return None
    places = [rank for rank, hit in enumerate(hits, 1) if hit]
    recall, precision, area = 0.0, 1.0, 0.0  # the original Market-1501 code's compute_AP.m
    for rank in range(1, len(hits) + 1):
        found = sum(hits[:rank])
        new_recall, new_precision = found / len(places), found / rank
        area += (new_recall - recall) * (precision + new_precision) / 2
        recall, precision = new_recall, new_precision
    return {
        **{f"rank_{k}": float(places[0] <= k) for k in (1, 5, 10, 20)},
        "mean_average_precision": sum((index + 1) / rank for index, rank in enumerate(places)) / len(places),
        "trapezoid_average_precision": area,
        "mean_inverse_negative_penalty": len(places) / places[-1],
    }


def slow_means(sample: Sample, rows: list[int], columns: list[int]) -> dict[str, float] | None:
    found = [slow_query(sample, row, columns) for row in rows]
    valid = [scores for scores in found if scores is not None]
    if not valid:
        return None
    means = {name: sum(scores[name] for scores in valid) / len(valid) for name in valid[0]}
    return means | {"queries": len(valid), "queries_without_match": len(found) - len(valid)}


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_means_are_those_of_the_slow_twin_and_of_the_scores(seed: int, unknown: bool) -> None:
    sample = random_sample(seed, unknown=unknown)
    means = score_queries(*sample).means()
    assert means == pytest.approx(slow_means(sample, list(range(20)), list(range(60))), abs=1e-12)
    assert means["queries_without_match"] > 0  # persons 7 and 8 are not in the gallery
    scores = asdict(score_embeddings(*sample))
    assert {name: scores[name] for name in set(scores) & set(means)} == pytest.approx(
        {name: means[name] for name in set(scores) & set(means)}, abs=1e-12
    )
    assert (scores["num_valid_queries"], scores["num_queries"]) == (means["queries"], 20)


@pytest.mark.parametrize("seed", range(3))
def test_camera_pairs_are_those_of_the_slow_twin(seed: int) -> None:
    sample = random_sample(seed)
    cameras = [labels.camera_id.tolist() for labels in (sample[1], sample[3])]
    expected = {}
    for own in set(cameras[0]):
        for other in set(cameras[1]):
            rows = [row for row, camera in enumerate(cameras[0]) if camera == own]
            means = slow_means(sample, rows, [column for column, camera in enumerate(cameras[1]) if camera == other])
            if means is not None:
                expected[own, other] = means
    found = by_camera_pair(*sample)
    assert list(found) == sorted(expected)
    assert not any(own == other for own, other in found)
    for pair, means in found.items():
        assert means == pytest.approx(expected[pair], abs=1e-12), pair


def test_visible_parts_are_those_that_the_masks_have() -> None:
    store = random_store()
    rows = np.flatnonzero(store.arrays["split"] == Split.QUERY)
    for index, row in enumerate(rows):
        store.arrays["mask"][row] = 0
        store.arrays["mask"][row, :index, 0] = range(1, index + 1)
    visible = visible_parts(store, rows)
    assert visible.tolist() == list(range(len(rows)))
    sample = random_sample(1)
    scores, numbers = score_queries(*sample), torch.arange(20) % 3
    found = by_visible_parts(scores, numbers)
    for number in range(3):
        expected = slow_means(sample, list(range(number, 20, 3)), list(range(60)))
        assert found[number] == pytest.approx(expected, abs=1e-12)


def test_differences_are_paired_and_their_interval_is_the_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", 50)
    query, labels, gallery, others = random_sample(3)
    first, second = (score_queries(points, labels, gallery, others) for points in (query, query.flip(0)))
    found = differences(first, second, seed=4)
    valid = [row for row in range(20) if first.num_matches[row]]
    own = [float(first.average_precision[row]) for row in valid]
    values = [float(second.average_precision[row]) - value for row, value in zip(valid, own, strict=True)]
    drawn = torch.randint(0, len(valid), (50, len(valid)), generator=torch.Generator().manual_seed(4)).tolist()

    def interval(values: list[float]) -> tuple[float, ...]:
        means = [sum(values[index] for index in rows) / len(rows) for rows in drawn]
        return (sum(values) / len(values), *np.percentile(means, [2.5, 97.5]))

    assert astuple(found["mean_average_precision"]) == pytest.approx(interval(values))
    assert astuple(estimates(first, seed=4)["mean_average_precision"]) == pytest.approx(interval(own))
    means = first.means()
    assert {name: each.value for name, each in estimates(first).items()} == pytest.approx(
        {name: means[name] for name in means if not name.startswith("queries")}
    )
    assert found["rank_1"].value == pytest.approx(second.means()["rank_1"] - first.means()["rank_1"])
    assert astuple(differences(first, first)["rank_1"]) == (0, 0, 0)
    with pytest.raises(UserError, match=r"not ranked on the same queries and gallery\nEvaluate them on one store"):
        differences(first, score_queries(*random_sample(4)))
