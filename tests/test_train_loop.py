from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_train import TINY, MemoryStore, random_store

import densereid.train.engine.loop as loop_module
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split, Status
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.engine.checkpoint import load_checkpoint, load_trained_network
from densereid.train.engine.events import Evaluated, Event, StepsDone, console_progress, describe_event
from densereid.train.engine.loop import FitResult, fit
from densereid.train.engine.tracking import read_metrics
from densereid.train.evaluation.evaluate import evaluate, extract_embeddings, has_protocol
from densereid.train.families import build_network
from densereid.train.losses.metric_learning import Loss


def _config(**changes: object) -> TrainConfig:
    return load_config("dsa-reid-small", {**TINY, **changes})


@pytest.fixture
def store() -> MemoryStore:
    return random_store()


def _fit(store: MemoryStore, folder: Path, config: TrainConfig | None = None, **options: object) -> FitResult:
    on_event: Callable[[Event], None] = options.pop("on_event", lambda event: None)  # type: ignore[assignment]
    return fit(config or _config(), store, folder, device="cpu", on_event=on_event, **options)  # type: ignore[arg-type]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "last.pt").model


def _equal(first: Path, second: Path) -> bool:
    left, right = _weights(first), _weights(second)
    return all(torch.equal(left[name], right[name]) for name in left)


def test_same_seed_gives_the_same_weights_and_another_seed_others(store: MemoryStore, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _fit(store, tmp_path / name, seed=seed)
    assert _equal(tmp_path / "a", tmp_path / "b")
    assert not _equal(tmp_path / "a", tmp_path / "c")


def test_workers_change_nothing(store: MemoryStore, tmp_path: Path) -> None:
    _fit(store, tmp_path / "here", _config(epochs=1))
    _fit(store, tmp_path / "spawned", _config(epochs=1), workers=1)
    assert _equal(tmp_path / "here", tmp_path / "spawned")


def test_an_interrupted_run_continues_to_the_same_weights(store: MemoryStore, tmp_path: Path) -> None:
    config = _config(**{"schedule.kind": "constant"})
    _fit(store, tmp_path / "whole", config)

    def interrupt(event: Event) -> None:
        if isinstance(event, StepsDone) and (event.epoch, event.step) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(store, tmp_path / "stopped", config, on_event=interrupt)
    assert load_checkpoint(tmp_path / "stopped" / "last.pt").epoch == 1
    result = _fit(store, tmp_path / "stopped", config)
    assert _equal(tmp_path / "whole", tmp_path / "stopped")
    assert result.steps == load_checkpoint(tmp_path / "whole" / "last.pt").step
    rows = [tuple(row.values())[:3] for row in read_metrics(tmp_path / "stopped")]
    assert len(rows) == len(set(rows)) == len(read_metrics(tmp_path / "whole"))


def test_a_finished_run_is_not_repeated_and_can_be_lengthened(store: MemoryStore, tmp_path: Path) -> None:
    config = {"schedule.kind": "constant"}
    first = _fit(store, tmp_path, _config(**config))
    events: list[Event] = []
    again = _fit(store, tmp_path, _config(**config), on_event=events.append)
    assert (events, again.scores, again.steps) == ([], first.scores, first.steps)
    longer = _fit(store, tmp_path, _config(**config, epochs=4), on_event=events.append)
    assert longer.epochs == 4
    assert {event.epoch for event in events} == {4}


def test_what_is_reported_logged_and_saved(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    result = _fit(store, tmp_path, on_event=events.append)
    steps = [event for event in events if isinstance(event, StepsDone)]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert [(event.epoch, event.step) for event in steps] == [(e, s) for e in (1, 2, 3) for s in (1, 2, 3, 4)]
    assert [event.epoch for event in evaluated] == [2, 3]
    for event in steps:
        assert event.loss == pytest.approx(sum(event.terms.values()), rel=1e-5)
        assert 0 <= event.data_wait <= 1
    assert steps[0].learning_rate == pytest.approx(1e-3)
    assert result.scores == evaluated[-1].scores
    assert result.best_path == tmp_path / "best.pt"
    rows = read_metrics(tmp_path)
    assert {row["name"] for row in rows} >= {"loss", "loss/triplet_z_global", "scores/rank_1", "images_per_second"}
    assert list((tmp_path / "tensorboard").glob("events*"))
    with caplog.at_level(logging.INFO), console_progress() as show:
        for event in events:
            show(event)
    assert caplog.text.count("epoch 1/3") == 1
    assert "Rank-1" in caplog.text
    assert describe_event(evaluated[0]) in caplog.text
    network, checkpoint = load_trained_network(tmp_path)
    assert checkpoint.config == _config()
    scores = evaluate(network, store, config=checkpoint.config)
    assert scores.mean_average_precision == max(event.scores.mean_average_precision for event in evaluated)


def test_overfits_eight_identities(tmp_path: Path) -> None:
    """mAP of the training images themselves, split into query and gallery by camera."""
    store = random_store(train_identities=8, test_identities=0, images=4, seed=3)
    options = {"epochs": 12, "evaluate_every": 0, "sampling.identities": 4, "schedule.peak": 3e-3}
    _fit(store, tmp_path, _config(**options))
    network, checkpoint = load_trained_network(tmp_path)
    store.arrays["split"][:] = np.where(store.arrays["camera_id"] == 1, Split.QUERY, Split.GALLERY)
    assert evaluate(network, store, config=checkpoint.config).mean_average_precision > 0.95


def test_a_loss_that_is_not_a_number_stops_and_keeps_finished_epochs(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fit(store, tmp_path, _config(epochs=1, **{"schedule.kind": "constant"}))
    before = (tmp_path / "last.pt").read_bytes()
    original = loop_module.loss_of

    def broken(*arguments: object, epoch: float) -> Loss:
        loss = original(*arguments, epoch=epoch)  # type: ignore[arg-type]
        return Loss(loss.total * torch.nan, loss.terms)

    monkeypatch.setattr(loop_module, "loss_of", broken)
    with pytest.raises(UserError, match=r"the loss is nan in epoch 2, step 5: training has diverged\nLower schedule"):
        _fit(store, tmp_path, _config(epochs=2, **{"schedule.kind": "constant"}))
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "seed", "message"),
    [
        ({"loss.margin": 0.5}, 0, "other settings: loss.margin differ"),
        ({}, 9, "seed 0, not 9"),
    ],
)
def test_another_run_in_the_folder_is_refused(
    store: MemoryStore, tmp_path: Path, changes: dict[str, object], seed: int, message: str
) -> None:
    _fit(store, tmp_path, _config(epochs=1))
    with pytest.raises(UserError, match=message):
        _fit(store, tmp_path, _config(epochs=1, **changes), seed=seed)
    _fit(store, tmp_path, _config(epochs=1, **changes), seed=seed, resume=False)


def test_another_store_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    _fit(store, tmp_path, _config(epochs=1))
    store.arrays["camera_id"][0] += 1
    with pytest.raises(UserError, match="trained on another store"):
        _fit(store, tmp_path, _config(epochs=1))


def test_a_store_without_protocol_trains_and_says_why_it_cannot_be_ranked(tmp_path: Path) -> None:
    store = random_store(test_identities=0)
    assert not has_protocol(store)
    result = _fit(store, tmp_path, _config(epochs=1))
    assert (result.scores, result.best_path) == (None, None)
    with pytest.raises(UserError, match="has no query images"):
        evaluate(*_untrained(store), config=_config())


def test_a_dsap_size_the_store_cannot_give_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.dsap_size is 16, the store's DSAP images are 8x8"):
        _fit(store, tmp_path, _config(**{"model.dsap_size": 16}))


def _untrained(store: MemoryStore) -> tuple[torch.nn.Module, MemoryStore]:
    return build_network(_config(), 6, seed=0), store


def test_extract_reads_images_only_and_gives_normalised_rows_in_order(store: MemoryStore) -> None:
    network, _ = _untrained(store)
    store.reads.clear()
    rows = np.array([5, 0, 30, 5])
    embeddings = extract_embeddings(network, store, rows, config=_config(), batch_size=3)
    assert set(store.reads) == {"image"}
    assert network.training
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(embeddings[0], embeddings[3])
    assert not torch.allclose(embeddings[0], embeddings[1])
    assert extract_embeddings(network, store, rows[:0], config=_config()).shape == (0, embeddings.shape[1])


def test_evaluation_leaves_out_unreadable_images(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    network, _ = _untrained(store)
    gallery = np.flatnonzero(store.arrays["split"] == Split.GALLERY)
    store.arrays["status"][gallery[0]] = Status.FAILED
    with caplog.at_level(logging.INFO):
        scores = evaluate(network, store, config=_config())
    assert "1 image that preprocessing could not read" in caplog.text
    assert (scores.num_gallery, scores.num_valid_queries) == (8, 3)
    assert all(0 <= value <= 1 for name, value in asdict(scores).items() if not name.startswith("num_"))
