"""k-reciprocal re-ranking with neighbours only, against the equations on full matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import score_distances
from reference_reranking import slow_rerank
from torch import Tensor

from bench.evaluation.reranking import as_formerly
from densereid.data_catalog.errors import UserError
from densereid.train.evaluation.metrics import Labels, score_embeddings, squared_distances
from densereid.train.evaluation.reranking import Reranking, reranked_distances, reranked_scores


def _people(number: int, images: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """L2-normalised embeddings (number * images, 12) around a centre for each person, and who they are."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(number, 12, generator=random)
    person = torch.arange(number * images) % number
    return F.normalize(centres[person] + noise * torch.randn(len(person), 12, generator=random)), person + 1


def _distances(query: Tensor, gallery: Tensor, settings: Reranking, chunk: int = 256) -> np.ndarray:
    return torch.cat([part for part, _ in reranked_distances(query, gallery, settings, chunk=chunk)]).numpy()


@pytest.mark.parametrize(
    ("k1", "k2", "weight", "chunk"),
    [(20, 6, 0.3, 256), (7, 3, 0.3, 5), (5, 1, 0.0, 7), (1, 2, 0.5, 1), (55, 56, 0.3, 16)],
)
def test_every_step_of_the_paper_on_random_people(k1: int, k2: int, weight: float, chunk: int) -> None:
    for seed, noise in enumerate((0.2, 0.8, 2.0)):
        images, _ = _people(8, 7, noise, seed)
        expected = slow_rerank(squared_distances(images, images).double().numpy(), 9, k1=k1, k2=k2, weight=weight)
        found = _distances(images[:9], images[9:], Reranking(k1, k2, weight), chunk)
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_distances_and_duplicates_are_ordered_by_index(seed: int) -> None:
    """Small whole numbers: arithmetic is exact, a third of the images have a duplicate, and most distances tie."""
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(0, 3, (40, 4)).astype(np.float32))
    expected = slow_rerank(squared_distances(images, images).double().numpy(), 10, k1=6, k2=4, weight=0.3)
    np.testing.assert_allclose(_distances(images[:10], images[10:], Reranking(6, 4), 9), expected, atol=2e-5)


def test_with_lambda_1_the_order_is_that_of_the_plain_distances() -> None:
    images, _ = _people(6, 6, 1.0, 3)
    plain = squared_distances(images[:8], images[8:]).numpy()
    np.testing.assert_array_equal(
        _distances(images[:8], images[8:], Reranking(weight=1.0)).argsort(1, kind="stable"),
        plain.argsort(1, kind="stable"),
    )


def test_re_ranking_helps_where_neighbours_agree() -> None:
    images, person = _people(20, 8, 0.75, 4)
    camera = torch.arange(len(images)) // 20 % 4
    query, gallery = Labels(person[:40], camera[:40]), Labels(person[40:], camera[40:] + 4)
    plain = score_embeddings(images[:40], query, images[40:], gallery)
    better = reranked_scores(images[:40], query, images[40:], gallery, Reranking(k1=8, k2=3))
    assert better.mean_average_precision > plain.mean_average_precision + 0.02
    assert (better.num_valid_queries, better.num_gallery) == (plain.num_valid_queries, plain.num_gallery)


@pytest.mark.parametrize("keep_junk", [False, True])
def test_junk_is_never_ranked_and_may_help(keep_junk: bool) -> None:
    images, person = _people(6, 8, 0.8, 5)
    person[12:24] = -1
    camera = torch.arange(len(images)) % 5
    query, gallery = Labels(person[:6], camera[:6]), Labels(person[6:], camera[6:])
    scores = reranked_scores(images[:6], query, images[6:], gallery, Reranking(5, 3, keep_junk=keep_junk))
    present = gallery.person_id >= (-1 if keep_junk else 0)
    known = torch.cat((images[:6], images[6:][present]))
    distances = slow_rerank(squared_distances(known, known).double().numpy(), 6, k1=5, k2=3, weight=0.3)
    left = Labels(gallery.person_id[present], gallery.camera_id[present])
    assert scores == score_distances(torch.from_numpy(distances), query, left)
    assert scores.num_gallery == 30


def test_memory_is_for_neighbours_and_not_for_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest table of distances that is ever asked for has ``chunk`` rows."""
    asked: list[tuple[int, int]] = []

    def counting(first: Tensor, second: Tensor) -> Tensor:
        asked.append((len(first), len(second)))
        return squared_distances(first, second)

    monkeypatch.setattr("densereid.train.evaluation.reranking.squared_distances", counting)
    images, _ = _people(10, 20, 0.5, 6)
    _distances(images[:50], images[50:], Reranking(), chunk=16)
    assert max(rows for rows, _ in asked) == 16


@pytest.mark.parametrize(("number", "chunk"), [(40, 256), (193, 64), (300, 128), (300, 7)])
def test_the_distances_are_those_of_two_products_of_all_pairs(number: int, chunk: int) -> None:
    """On MKL they are equal to the last bit; elsewhere sums of few products may be added in another order."""
    for seed, noise in enumerate((0.5, 2.0)):
        images, _ = _people(number // 5, 5, noise, seed)
        for settings in (Reranking(), Reranking(1, 1), Reranking(8, 9)):
            found = _distances(images[:17], images[17:], settings, chunk)
            with as_formerly():
                expected = _distances(images[:17], images[17:], settings, chunk)
            np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)


def test_all_pairs_are_multiplied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(first: Tensor, second: Tensor) -> Tensor:
        asked.append(len(first) * len(second))
        return squared_distances(first, second)

    monkeypatch.setattr("densereid.train.evaluation.reranking.squared_distances", counting)
    images, _ = _people(60, 20, 0.3, 8)
    _distances(images[:100], images[100:], Reranking(), chunk=128)
    assert 1200**2 + 100 * 1100 <= sum(asked) < 1.3 * 1200**2


@pytest.mark.parametrize("settings", [{"k1": 0}, {"k2": 0}, {"weight": 1.5}])
def test_numbers_out_of_range_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"re-ranking with k1=.*\n.*the paper has 20, 6 and 0\.3"):
        Reranking(**settings)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_re_ranks_as_the_reference() -> None:
    images, _ = _people(8, 7, 0.8, 7)
    expected = slow_rerank(squared_distances(images, images).double().numpy(), 9, k1=7, k2=3, weight=0.3)
    parts = reranked_distances(images[:9].cuda(), images[9:].cuda(), Reranking(7, 3), chunk=5)
    np.testing.assert_allclose(torch.cat([part.cpu() for part, _ in parts]).numpy(), expected, atol=1e-4)
