"""What cannot be scored: unknown cameras, labels without a match, and numbers that are none."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import score_distances
from reference_train import TINY, MemoryStore, random_store, slow_scores

import densereid.train.engine.loop as loop_module
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split, Status
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.engine.checkpoint import load_checkpoint
from densereid.train.engine.loop import fit
from densereid.train.evaluation.evaluate import check_scorable, evaluate, has_protocol, protocol_embeddings
from densereid.train.evaluation.metrics import Labels, ScoringError, score_embeddings, squared_distances
from densereid.train.evaluation.reranking import Reranking, reranked_distances, reranked_scores
from densereid.train.families import build_network


def _config(**changes: object) -> TrainConfig:
    return load_config("dsa-reid-small", {**TINY, "schedule.kind": "constant", **changes})


def _labels(person: list[int], camera: list[int]) -> Labels:
    return Labels(torch.tensor(person), torch.tensor(camera))


def _without_cameras(store: MemoryStore) -> MemoryStore:
    store.arrays["camera_id"][:] = -1
    return store


# Unknown cameras


def test_an_unknown_camera_is_the_same_as_no_other() -> None:
    distances = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    gallery = _labels([5, 6, 5, 5], [-1, -1, 2, 0])
    for camera, average in ((-1, (1 + 2 / 3 + 3 / 4) / 3), (2, (1 + 2 / 3) / 2), (7, (1 + 2 / 3 + 3 / 4) / 3)):
        scores = score_distances(distances, _labels([5], [camera]), gallery)
        assert scores.mean_average_precision == pytest.approx(average), camera


def test_a_copy_under_another_known_camera_is_a_match_and_under_an_unknown_one_is_not() -> None:
    distances, content = torch.tensor([[0.0, 0.1, 0.2]]), torch.tensor([7, 8, 9])
    for camera, average in ((2, (1 + 2 / 3) / 2), (-1, 1 / 2)):
        gallery = Labels(torch.tensor([5, 6, 5]), torch.tensor([camera, 2, 2]), content)
        query = Labels(torch.tensor([5]), torch.tensor([1]), content[:1])
        scores = score_distances(distances, query, gallery)
        assert scores.mean_average_precision == pytest.approx(average)


def test_scores_with_unknown_cameras_equal_the_reference() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        distances = random.random((6, 30))
        people, cameras = random.integers(1, 4, (2, 30)), random.integers(-1, 2, (2, 30))
        query, gallery = (_labels(list(p), list(c)) for p, c in zip(people, cameras, strict=True))
        found = score_distances(torch.from_numpy(distances), query.chosen(slice(0, 6)), gallery)
        expected = slow_scores(distances, people[0][:6], cameras[0][:6], people[1], cameras[1])
        for name, value in expected.items():
            assert getattr(found, name) == pytest.approx(value), name


def test_a_store_without_cameras_is_scored_plainly_and_re_ranked() -> None:
    store = _without_cameras(random_store())
    assert has_protocol(store)
    network, config = build_network(_config(), 6, seed=0), _config()
    found = protocol_embeddings(network, store, config=config)
    plain = score_embeddings(*found[Split.QUERY], *found[Split.GALLERY])
    assert plain.num_valid_queries == plain.num_queries == 3
    again = reranked_scores(*found[Split.QUERY], *found[Split.GALLERY], Reranking(4, 2))
    assert again.num_valid_queries == 3


def test_a_query_does_not_find_its_own_copy_where_cameras_are_unknown() -> None:
    """The same pixels under another name are the same photograph: at distance 0 they would be found first."""
    store = _without_cameras(random_store())
    query, gallery = (np.flatnonzero(store.arrays["split"] == split) for split in (Split.QUERY, Split.GALLERY))
    copies = [gallery[store.arrays["person_id"][gallery] == store.arrays["person_id"][row]][0] for row in query]
    store.arrays["image"][copies] = store.arrays["image"][query]
    network, config = build_network(_config(), 6, seed=0), _config()
    found = evaluate(network, store, config=config)
    assert found.num_valid_queries == 3
    store.arrays["status"][copies] = Status.FAILED  # as if the copies were not there
    without = evaluate(network, store, config=config)
    assert found.mean_average_precision == without.mean_average_precision
    assert found.rank_1 == without.rank_1


# Labels without a match


def test_unknown_cameras_are_not_what_is_wrong() -> None:
    store = random_store()
    _break(store, "other persons")
    store.arrays["camera_id"][:] = -1
    with pytest.raises(ScoringError, match=r"none of the 3 queries has a match in the gallery\nCheck identities"):
        check_scorable(store)


def _break(store: MemoryStore, how: str) -> None:
    split, camera = store.arrays["split"], store.arrays["camera_id"]
    test = split != Split.TRAIN
    if how == "one camera":
        camera[test] = 1
    elif how == "other persons":
        store.arrays["person_id"][split == Split.QUERY] += 100
    elif how == "junk alone":
        store.arrays["person_id"][split == Split.GALLERY] = -1
    elif how == "distractors":
        store.arrays["person_id"][test] = 0
    elif how == "all failed":
        store.arrays["status"][test] = Status.FAILED
    elif how == "no query":
        split[split == Split.QUERY] = Split.GALLERY
    else:
        split[split == Split.GALLERY] = Split.QUERY


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("one camera", "none of the 3 queries has a match in the gallery under another camera"),
        ("other persons", "none of the 3 queries has a match"),
        ("distractors", "none of the 3 queries has a match"),
        ("junk alone", "the gallery is empty"),
        ("all failed", "has no query images"),
        ("no query", "has no query images"),
        ("no gallery", "has no gallery images"),
    ],
)
def test_labels_that_cannot_be_scored_are_told_before_the_first_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, words: str
) -> None:
    store = random_store()
    _break(store, how)
    with pytest.raises(ScoringError, match=words):
        check_scorable(store)
    said_at: list[int] = []
    with caplog.at_level(logging.WARNING):
        result = fit(
            _config(epochs=1), store, tmp_path, device="cpu", on_event=lambda event: said_at.append(len(caplog.records))
        )
    assert said_at[0] == 1  # before the first step, and once
    assert words in caplog.text
    assert (result.epochs, result.scores, result.problem) == (1, None, "")
    assert fit(_config(epochs=1), store, tmp_path, device="cpu", on_event=lambda event: None).epochs == 1
    with pytest.raises(ScoringError, match=words):
        evaluate(build_network(_config(), 6, seed=0), store, config=_config())


@pytest.mark.parametrize("error", [ScoringError("no"), torch.OutOfMemoryError("DefaultCPUAllocator: no")])
def test_an_evaluation_that_fails_blocks_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_arguments: object, **_options: object) -> None:
        raise error

    store, config = random_store(), _config(epochs=3, evaluate_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "evaluate", failing)
        for _ in range(2):  # the same command finishes again
            result = fit(config, store, tmp_path, device="cpu", on_event=lambda event: None)
            assert (result.epochs, result.scores, result.best_path) == (3, None, None)
            assert result.problem
    assert "No scores after epoch 1: " in caplog.text
    assert f"evaluate {tmp_path} again when that is mended" in caplog.text
    assert load_checkpoint(tmp_path / "last.pt").epoch == 3
    repaired = fit(config, store, tmp_path, device="cpu", on_event=lambda event: None)
    assert repaired.scores is not None
    assert (repaired.problem, repaired.best_path) == ("", tmp_path / "best.pt")


def test_scores_of_an_earlier_epoch_are_not_those_of_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = loop_module.evaluate

    def failing_at_last(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise ScoringError("no")
        return original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop_module, "evaluate", failing_at_last)
    result = fit(_config(epochs=2, evaluate_every=1), random_store(), tmp_path, device="cpu", on_event=lambda e: None)
    assert (len(calls), result.scores, result.problem) == (2, None, "no")
    assert result.best_path == tmp_path / "best.pt"


# Numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("owner", ["query", "gallery"])
def test_embeddings_that_are_no_numbers_are_named_and_counted(value: float, owner: str) -> None:
    random = torch.Generator().manual_seed(0)
    embeddings = {"query": torch.randn(8, 5, generator=random), "gallery": torch.randn(30, 5, generator=random)}
    embeddings[owner][2:4, 1] = value
    labels = _labels([1, 2] * 4, [1] * 8), _labels([1, 2, 3] * 10, [2] * 30)
    words = rf"2 of {len(embeddings[owner])} {owner} embeddings are not finite numbers .*, the first is number 3"
    with pytest.raises(ScoringError, match=words):
        score_embeddings(embeddings["query"], labels[0], embeddings["gallery"], labels[1])
    with pytest.raises(ScoringError, match=words):
        squared_distances(embeddings["query"], embeddings["gallery"])
    with pytest.raises(ScoringError, match=r"2 of 38 embeddings of query and gallery are not finite"):
        reranked_scores(embeddings["query"], labels[0], embeddings["gallery"], labels[1], Reranking(4, 2))


def test_distances_that_overflow_or_are_no_numbers_are_errors() -> None:
    labels = _labels([1, 2], [1, 1]), _labels([1, 2, 3], [2, 2, 2])
    large = torch.full((3, 4), 1e19)  # its square is 1e38, and four of them are more than float32 holds
    with pytest.raises(ScoringError, match=r"of 6 distances are not finite numbers[\s\S]*overflow: normalise them"):
        score_embeddings(torch.zeros(2, 4), labels[0], large, labels[1])
    with pytest.raises(ScoringError, match="distances are not finite"):
        list(reranked_distances(torch.zeros(2, 4), large, Reranking(2, 1)))
    for value in (float("nan"), float("inf")):
        distances = torch.ones(2, 3)
        distances[1, 2] = value
        with pytest.raises(ScoringError, match="1 of 6 distances are not finite"):
            score_distances(distances, *labels)


def test_a_network_that_gives_no_numbers_is_not_scored() -> None:
    store, config = random_store(), _config()
    network = build_network(config, 6, seed=0)
    norm = network.main.trunk.bn1  # type: ignore[union-attr]
    norm.running_mean[2:4] = torch.inf  # type: ignore[union-attr, index]
    with pytest.raises(ScoringError, match=r"cannot embed: 1 of \d+ tensors .*: main.trunk.bn1.running_mean \(2 of 64"):
        evaluate(network, store, config=config)  # all embeddings are the same, and finite
    norm.running_mean.fill_(0)  # type: ignore[union-attr, operator]
    norm.running_var.fill_(-1.0)  # type: ignore[union-attr, operator]
    with pytest.raises(ScoringError, match=r"3 of 3 embeddings of memory\.zarr are not finite numbers"):
        evaluate(network, store, config=config)


def test_k2_beyond_the_neighbourhood_and_k1_beyond_the_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"k1=5, k2=7: the neighbourhood has k1 \+ 1 = 6 images[\s\S]*at most k1 \+ 1"):
        Reranking(k1=5, k2=7)
    assert Reranking(k1=5, k2=6).k2 == 6
    images = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=r"k1=6: query and gallery have 6 images together[\s\S]*at most 5"):
        list(reranked_distances(images[:2], images[2:], Reranking(6, 2)))
    assert len(list(reranked_distances(images[:2], images[2:], Reranking(5, 6)))) == 1
