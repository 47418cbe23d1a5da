"""What a run keeps: the settings that it began with, its checkpoints on the disk, and finite numbers in them."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from helpers import files_below
from reference_train import TINY, random_store

import densereid.train.engine.checks as checks_module
from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.engine.checkpoint import load_checkpoint, load_trained_network, save_checkpoint
from densereid.train.engine.describe import disk_sizes
from densereid.train.engine.events import Event, StepsDone
from densereid.train.engine.loop import FitResult, fit
from densereid.train.networks.backbone import backbone_state, build_backbone

STORE = random_store()


def _config(**changes: object) -> TrainConfig:
    return load_config(
        "dsa-reid-small", {**TINY, "epochs": 2, "evaluate_every": 1, "schedule.warmup_epochs": 1, **changes}
    )


def _fit(folder: Path, config: TrainConfig, **options: Any) -> FitResult:
    return fit(config, STORE, folder, **{"device": "cpu", "on_event": lambda event: None, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs whose learning rates follow a cosine."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    _fit(folder, _config())
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "interrupted"

    def interrupt(event: Event) -> None:
        if isinstance(event, StepsDone) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(folder, _config(), on_event=interrupt)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


# Settings

CHANGES: dict[str, object] = {
    "epochs": 1,
    "evaluate_every": 2,
    "evaluate.feature": "z",
    "model.pretrained": "auto",
    "schedule.peak": 1e-4,
    "sampling.identities": 2,
    "precision": "bf16-mixed",
    "height": 48,
}


@pytest.mark.parametrize("state", ["finished", "interrupted"])
@pytest.mark.parametrize("key", list(CHANGES))
def test_another_setting_is_refused_and_nothing_is_written(
    request: pytest.FixtureRequest, state: str, key: str
) -> None:
    folder: Path = request.getfixturevalue(state)
    before = files_below(folder)
    words = rf"other settings: {key} differs \(\S+ there, {CHANGES[key]} here\)[\s\S]*give the same ones to continue it"
    with pytest.raises(UserError, match=words):
        _fit(folder, _config(**{"model.pretrained": "never", key: CHANGES[key]}))
    assert files_below(folder) == before


@pytest.mark.parametrize(
    ("state", "epochs", "why"),
    [
        (
            "finished",
            5,
            r"\(schedule.kind cosine\) depend on the number of epochs: in a run of 5 the 2 finished.*INITIAL",
        ),
        ("finished", 1, "A run does not become shorter"),
        ("interrupted", 5, "Only a finished run becomes longer: first let it end, with EPOCHS=2"),
    ],
)
def test_more_epochs_are_refused_where_the_schedule_would_have_been_another(
    request: pytest.FixtureRequest, state: str, epochs: int, why: str
) -> None:
    folder: Path = request.getfixturevalue(state)
    before = files_below(folder)
    with pytest.raises(UserError, match=rf"epochs differs \(2 there, {epochs} here\).*{why}"):
        _fit(folder, _config(epochs=epochs))
    assert files_below(folder) == before


def test_a_finished_run_with_a_schedule_of_no_end_grows_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"schedule.kind": "constant", "evaluate_every": 0}
    _fit(tmp_path, _config(**config))
    with pytest.raises(UserError, match="epochs differs"):
        _fit(tmp_path, _config(**config, epochs=3), lengthen=False)
    with caplog.at_level(logging.INFO):
        assert _fit(tmp_path, _config(**config, epochs=3)).epochs == 3
    assert f"Changed from here on, and in {tmp_path / 'config.yaml'}: epochs." in caplog.text
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["epochs"] == 3
    with pytest.raises(UserError, match="epochs differs"):
        _fit(tmp_path, _config(**config, epochs=2))


def test_what_changes_no_result_may_change_and_is_said(
    interrupted: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(interrupted, tmp_path / "run")
    with caplog.at_level(logging.INFO):
        _fit(copy, _config(log_every=3))
    assert f"Changed from here on, and in {copy / 'config.yaml'}: log_every." in caplog.text
    assert yaml.safe_load((copy / "config.yaml").read_text())["log_every"] == 3
    left, right = (load_checkpoint(folder / "last.pt").model for folder in (copy, finished))
    assert all(torch.equal(left[name], right[name]) for name in left)
    before = (finished / "config.yaml").read_bytes()
    _fit(finished, _config(log_every=3))  # nothing is left to do with it
    assert (finished / "config.yaml").read_bytes() == before


def test_another_number_of_processes_and_another_state_of_the_store_are_told(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = load_checkpoint(run / "last.pt")
    assert checkpoint.versions["processes"] == "1"
    save_checkpoint(run / "last.pt", replace(checkpoint, versions=checkpoint.versions | {"processes": "4"}))
    _fit(run, _config())
    assert "Continuing with 1 processes what 4 began" in caplog.text
    other = random_store()
    other.arrays["camera_id"][0] += 1
    with pytest.raises(UserError, match=r"on another store: what is now at \S*memory\.zarr has other labels or sizes"):
        fit(_config(), other, run, device="cpu")


def test_a_run_without_a_finished_epoch_starts_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 9\n")
    with caplog.at_level(logging.INFO):
        _fit(tmp_path, _config(epochs=1, evaluate_every=0))
    assert f"Starting anew in {tmp_path}: it has no checkpoint to continue. config.yaml is replaced." in caplog.text


# Checkpoints


def test_the_optimisers_state_is_in_the_last_checkpoint_alone(finished: Path) -> None:
    last, best = (load_checkpoint(finished / name) for name in ("last.pt", "best.pt"))
    assert last.optimiser["state"]
    assert best.optimiser == {}
    sizes = [(finished / name).stat().st_size for name in ("last.pt", "best.pt")]
    assert sizes == pytest.approx(disk_sizes(_config(), last.num_identities), rel=0.15)
    assert sizes[1] < 0.4 * sizes[0]
    load_trained_network(finished)


def test_a_run_without_its_last_checkpoint_keeps_the_best(run: Path) -> None:
    (run / "last.pt").unlink()
    before = files_below(run)
    with pytest.raises(UserError, match=r"has best.pt and no last.pt, from which alone a run continues\nBring last"):
        _fit(run, _config())
    shutil.copyfile(run / "best.pt", run / "last.pt")
    with pytest.raises(UserError, match=r"last.pt has no optimiser state, as a best.pt"):
        _fit(run, _config())
    (run / "last.pt").unlink()
    assert {name: files_below(run)[name][0] for name in before} == {name: size for name, (size, _) in before.items()}
    assert _fit(run, _config(), resume=False).epochs == 2


def test_a_run_says_what_it_takes_on_disk_and_does_not_begin_where_that_is_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO):
        _fit(tmp_path / "enough", _config(epochs=1))
    assert "Disk: last.pt " in caplog.text
    monkeypatch.setattr(checks_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    with pytest.raises(UserError, match=r"do not fit: last.pt .*, best.pt .*; 1\.0 MB are free there\nMake room"):
        _fit(tmp_path / "full" / "run", _config(epochs=1))
    assert [path.name for path in (tmp_path / "full").iterdir()] == [".locks"]


# Finite numbers


def _spoil(run: Path, name: str, where: str) -> None:
    checkpoint = load_checkpoint(run / name)
    if where == "weight":
        checkpoint.model["main.trunk.conv1.weight"][0, 0, 0, 0] = torch.nan
    elif where == "buffer":
        checkpoint.model["main.trunk.bn1.running_var"][:3] = torch.inf
    else:
        checkpoint.optimiser["state"][0]["exp_avg_sq"][0] = torch.inf
    save_checkpoint(run / name, replace(checkpoint))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("weight", r"main\.trunk\.conv1\.weight \(1 of \d+ values\)"),
        ("buffer", r"main\.trunk\.bn1\.running_var \(3 of 64 values\)"),
        ("optimiser", r"exp_avg_sq of parameter 0 \(\d+ of \d+ values\)"),
    ],
)
def test_a_checkpoint_with_numbers_that_are_none_is_refused(run: Path, where: str, words: str) -> None:
    _spoil(run, "last.pt", where)
    with pytest.raises(UserError, match=rf"last\.pt: 1 of \d+ tensors hold NaN or infinite values: {words}"):
        load_checkpoint(run / "last.pt")
    with pytest.raises(UserError, match=words):
        _fit(run, _config())
    with pytest.raises(UserError, match=words):
        load_trained_network(run / "last.pt")


def test_a_run_whose_buffers_overflow_is_not_saved(tmp_path: Path) -> None:
    """In training batch norm reads no running statistics, so the loss stays finite."""
    config = _config(evaluate_every=0, epochs=2)

    def spoil(event: Event) -> None:
        if isinstance(event, StepsDone) and event.epoch == 2:
            for module in (part for part in loaded[0].modules() if isinstance(part, torch.nn.BatchNorm2d)):
                assert module.running_var is not None
                module.running_var.fill_(torch.inf)

    loaded: list[torch.nn.Module] = []
    original = torch.nn.Module.train

    def remember(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
        loaded[:] = [module] if hasattr(module, "embed") else loaded
        return original(module, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "train", remember)
        with pytest.raises(
            UserError, match=r"tensors hold NaN or infinite values: \S+running_var .*: training has div"
        ):
            _fit(tmp_path, config, on_event=spoil)
    assert load_checkpoint(tmp_path / "last.pt").epoch == 1


@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_mean"])
def test_pretrained_weights_that_are_no_numbers_are_refused(tmp_path: Path, name: str) -> None:
    backbone = build_backbone("small")
    state = backbone_state(backbone.trunk, backbone.conv5)
    state[name][0] = torch.nan
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=rf"weights '.*weights\.pt': 1 of \d+ tensors hold NaN .*: {name} \("):
        build_backbone("small", pretrained=str(tmp_path / "weights.pt"))
