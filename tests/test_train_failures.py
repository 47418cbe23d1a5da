"""What can break while a run is going on: each ends in a clear message, and no finished checkpoint is lost."""

from __future__ import annotations

import logging
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_train import TINY, random_store

import densereid.train.engine.loop as loop_module
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Status
from densereid.data_catalog.store.store import open_store
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.data.dataset import StoreReader
from densereid.train.engine import checkpoint as checkpoint_module
from densereid.train.engine.checkpoint import load_checkpoint
from densereid.train.engine.events import Event, StepsDone
from densereid.train.engine.loop import fit
from densereid.train.engine.run import save_run
from densereid.train.engine.tracking import METRICS_FILE, read_metrics


def _config(**changes: object) -> TrainConfig:
    return load_config("dsa-reid-small", {**TINY, "evaluate_every": 0, "schedule.kind": "constant", **changes})


def _fit(store: StoreReader, folder: Path, config: TrainConfig, **options: object) -> None:
    on_event: Callable[[Event], None] = options.pop("on_event", lambda event: None)  # type: ignore[assignment]
    fit(config, store, folder, device="cpu", on_event=on_event, **options)  # type: ignore[arg-type]


def _in_second_epoch(action: Callable[[], object]) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        if isinstance(event, StepsDone) and (event.epoch, event.step) == (2, 1):
            action()

    return on_event


def _copy(stores: dict[str, Path], format: str, tmp_path: Path) -> Path:
    path = tmp_path / stores[format].name
    shutil.copytree(stores[format], path)
    return path


@pytest.mark.parametrize(("format", "workers"), [("zarr", 0), ("hdf5", 0), ("zarr", 1)])
def test_a_store_that_disappears_stops_the_run_and_keeps_its_epochs(
    stores: dict[str, Path], tmp_path: Path, format: str, workers: int
) -> None:
    """Without the check a zarr store would go on as black images: absent chunks are fill values."""
    path, moved, run = _copy(stores, format, tmp_path), tmp_path / "aside", tmp_path / "run"
    config = _config(epochs=3)
    gone = _in_second_epoch(lambda: path.rename(moved))
    with pytest.raises(
        UserError, match=r"(cannot be read|is not complete any more)[\s\S]*The store was moved or deleted"
    ):
        _fit(open_store(path), run, config, feed="disk", workers=workers, on_event=gone)
    assert load_checkpoint(run / "last.pt").epoch == 1
    moved.rename(path)
    _fit(open_store(path), run, config, feed="disk")
    assert load_checkpoint(run / "last.pt").epoch == 3


@pytest.mark.parametrize("every", [0, 1])
def test_a_store_that_disappears_after_decoding_is_missed_at_the_evaluation_only(
    stores: dict[str, Path], tmp_path: Path, every: int
) -> None:
    path, run = _copy(stores, "zarr", tmp_path), tmp_path / "run"
    gone = _in_second_epoch(lambda: shutil.rmtree(path))
    with pytest.raises(UserError, match=r"cannot be read|is not complete any more"):
        _fit(open_store(path), run, _config(epochs=3, evaluate_every=every), feed="memory", on_event=gone)
    assert load_checkpoint(run / "last.pt").epoch == 3
    shutil.copytree(stores["zarr"], path)  # once it is back, the same command has nothing to do but its scores
    result = fit(_config(epochs=3, evaluate_every=every), open_store(path), run, device="cpu")
    assert result.scores is not None


@pytest.mark.parametrize(("format", "workers"), [("zarr", 0), ("hdf5", 0)])
def test_a_corrupt_chunk_is_named_and_finished_epochs_stay(
    stores: dict[str, Path], tmp_path: Path, format: str, workers: int
) -> None:
    path, run = _copy(stores, format, tmp_path), tmp_path / "run"
    _fit(open_store(path), run, _config(epochs=1), feed="disk")
    before = (run / "last.pt").read_bytes()
    for file in path.glob("dsap/c/**/*") if format == "zarr" else path.glob("shard-*.h5"):
        if file.is_file():
            content = bytearray(file.read_bytes())
            content[1000:-5000:2] = bytes(len(content[1000:-5000:2]))
            file.write_bytes(content)
    with pytest.raises(UserError, match=r"'?(dsap|image|iuv|mask|person_id|split|status)\w*'? of .* cannot be read"):
        _fit(open_store(path), run, _config(epochs=2), feed="disk", workers=workers)
    assert (run / "last.pt").read_bytes() == before


def test_a_disk_that_is_full_at_checkpoint_time_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """The system itself refuses the bytes: a limit on the size of files, as a quota."""
    store, run = random_store(), tmp_path / "run"
    _fit(store, run, _config(epochs=1))
    before = (run / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(UserError, match=r"last.pt could not be written: .*File too large\nFree some space"):
            _fit(store, run, _config(epochs=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run / "last.pt").read_bytes() == before
    assert not list(run.glob(".*.partial"))
    _fit(store, run, _config(epochs=2))
    assert load_checkpoint(run / "last.pt").epoch == 2


def test_out_of_memory_says_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = random_store()
    _fit(store, tmp_path, _config(epochs=1))
    before = (tmp_path / "last.pt").read_bytes()
    monkeypatch.setattr(loop_module, "augment", lambda *a, **k: torch.empty(2**58, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"out of memory on cpu with batches of 3 x 2 images of 32x32[\s\S]*Set sam"):
        _fit(store, tmp_path, _config(epochs=2))
    monkeypatch.setattr(loop_module, "augment", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # what is no lack of memory stays what it is
        _fit(store, tmp_path, _config(epochs=2))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_an_identity_with_one_image_trains_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = random_store(train_identities=4, images=4)
    store.arrays["status"][1:4] = Status.FAILED
    with caplog.at_level(logging.INFO):
        _fit(store, tmp_path, _config(epochs=1, **{"sampling.images": 3}))
    assert (
        "1 of 4 identities have fewer than 3 images (the fewest: 1); their images repeat within a batch" in caplog.text
    )
    assert load_checkpoint(tmp_path / "last.pt").epoch == 1


def test_a_run_of_an_older_version_is_refused_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = random_store()
    monkeypatch.setattr(checkpoint_module, "CONFIG_VERSION", 0)
    _fit(store, tmp_path, _config(epochs=1))
    monkeypatch.undo()
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UserError, match=r"config version 0; this code reads 2 and 1\nUse the release that wrote it"):
        _fit(store, tmp_path, _config(epochs=2))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_config_of_before_the_variants_still_means_dsa_reid(tmp_path: Path) -> None:
    """Settings that did not exist have their defaults: old runs continue."""
    store = random_store()
    _fit(store, tmp_path, _config(epochs=1))
    values = torch.load(tmp_path / "last.pt", weights_only=True)
    for name in ("streams", "branches", "fusion", "part_images", "conv5", "initial"):
        del values["config"]["model"][name]
    del values["config"]["evaluate"], values["config"]["compile"], values["config"]["augmentation"]["blank_parts"]
    del values["checksums"]
    torch.save({**values, "checkpoint_version": 1}, tmp_path / "last.pt")
    _fit(store, tmp_path, _config(epochs=2))
    assert load_checkpoint(tmp_path / "last.pt").epoch == 2


def test_compiled_training_keeps_the_names_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that traces but generates no code, which takes seconds instead of minutes."""
    compiled = []
    original = torch.nn.Module.compile

    def traced(module: torch.nn.Module, *arguments: object, **options: object) -> None:
        compiled.append(module)
        original(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    store = random_store()
    _fit(store, tmp_path / "compiled", _config(epochs=1, compile="on"))
    _fit(store, tmp_path / "plain", _config(epochs=1))
    assert len(compiled) == 1
    left, right = (load_checkpoint(tmp_path / name / "last.pt").model for name in ("compiled", "plain"))
    assert set(left) == set(right)
    assert all(np.allclose(left[name], right[name], atol=1e-4) for name in left)


def test_a_second_training_in_a_folder_is_refused_and_deletes_nothing(tmp_path: Path) -> None:
    store, run, refusals = random_store(), tmp_path / "run", []

    def train_again() -> None:
        writing = run / ".last.pt.1.partial"  # of the first one, at this moment
        writing.write_bytes(b"half")
        for fresh in (True, False):
            with pytest.raises(
                UserError, match=rf"the run {run} is being written by another run \(process \d+"
            ) as error:
                _fit(store, run, _config(epochs=2), resume=not fresh)
            refusals.append(error)
        assert writing.exists()
        assert load_checkpoint(run / "last.pt").epoch == 1  # whoever only reads is let in

    _fit(store, run, _config(epochs=2), on_event=_in_second_epoch(train_again))
    assert len(refusals) == 2
    assert load_checkpoint(run / "last.pt").epoch == 2


class _KilledError(BaseException):
    pass


def _killed() -> None:
    raise _KilledError


def test_scores_are_not_repeated_after_a_kill_before_they_are_in_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """metrics.csv has the scores of step S, or some of them, and ``last.pt`` of step S has none."""
    store, config = random_store(), _config(epochs=2, evaluate_every=1)
    _fit(store, tmp_path / "whole", config)
    run, expected = tmp_path / "run", read_metrics(tmp_path / "whole")
    for torn in (None, -4):
        shutil.rmtree(run, ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(loop_module, "save_run", lambda run, name: _killed() if run.scores else save_run(run, name))
            with pytest.raises(_KilledError):
                _fit(store, run, config)
        content = (run / METRICS_FILE).read_text()
        assert "scores/" in content
        (run / METRICS_FILE).write_text(content[:torn])
        _fit(store, run, config)
        timed = ("images_per_second", "data_wait")
        rows = [[row for row in each if row["name"] not in timed] for each in (read_metrics(run), expected)]
        assert rows[0] == rows[1]


def test_another_number_of_threads_is_recorded_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = random_store()
    _fit(store, tmp_path, _config(epochs=1))
    assert load_checkpoint(tmp_path / "last.pt").versions["threads"] == str(torch.get_num_threads())
    _fit(store, tmp_path, _config(epochs=2))
    assert "threads what" not in caplog.text
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    _fit(store, tmp_path, _config(epochs=3))
    assert "Continuing with 7 threads what 1 began: sums are taken in another order" in caplog.text
    assert "OMP_NUM_THREADS=1 gives the same number" in caplog.text
