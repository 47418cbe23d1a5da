"""What a training says before it starts: which network, which store, and how much of the run is done."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner
from helpers import files_below
from reference_train import TINY

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.store import open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.pipeline.cli import cli
from densereid.pipeline.commands import training
from densereid.pipeline.commands.networks import evaluation, export
from densereid.pipeline.commands.training import (
    TrainRequest,
    chosen_settings,
    train_model,
    training_dry_run_report,
)
from densereid.pipeline.store_request import StoreRequest
from densereid.train.config.train_config import load_config
from densereid.train.engine.loop import FitResult, fit

FEW = {**TINY, "evaluate_every": 0, "epochs": 3}


def _request(data_root: Path, stores: Path, **changes: object) -> TrainRequest:
    store = StoreRequest("synthetic", data_root, stores, "zarr", (1, 1), 32, "last", device="cpu")
    request = TrainRequest(store, "dsa-reid-small", FEW, 0, stores / "runs")
    return replace(request, **changes)  # type: ignore[arg-type]


def test_a_dry_run_says_which_store_would_be_made_and_makes_nothing(synthetic_root: Path, tmp_path: Path) -> None:
    before = files_below(synthetic_root, tmp_path)
    report = training_dry_run_report(_request(synthetic_root, tmp_path))
    assert report["model"].startswith("dsa-reid-small (asked for); device cpu (asked for); seed 0")
    size = f"{FEW['height']}x{FEW['width']}"
    assert f"synthetic-{size}.zarr would be made first, of 77 images (48 train" in report["store"]
    assert report["run"].endswith("runs/synthetic-dsa-reid-small-seed0 would start")
    assert f"3 of 3 epochs, images of {size}" in report["to do"]
    nothing = training_dry_run_report(_request(tmp_path, tmp_path))
    assert "of pedestrians that would be rendered before" in nothing["store"]
    assert files_below(synthetic_root, tmp_path) == before


def test_a_dry_run_counts_the_epochs_that_are_done(
    synthetic_root: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    request = _request(synthetic_root, tmp_path, store_path=stores["zarr"])
    run = tmp_path / "runs" / "synthetic-dsa-reid-small-seed0"
    config = load_config("dsa-reid-small", {**FEW, "epochs": 1})
    fit(config, open_store(stores["zarr"]), run, device="cpu", on_event=lambda event: None)
    before = files_below(tmp_path)
    report = training_dry_run_report(request)
    assert report["store"] == f"{stores['zarr']}: 77 images"
    assert report["run"].endswith("would continue after epoch 1")
    assert report["to do"].startswith("2 of 3 epochs")
    again = training_dry_run_report(replace(request, fresh=True))
    assert again["run"].endswith("would start again; its checkpoints would be discarded")
    assert again["to do"].startswith("3 of 3 epochs")
    assert files_below(tmp_path) == before


def test_a_dry_run_is_stopped_by_what_would_stop_the_training(tmp_path: Path) -> None:
    market = replace(_request(tmp_path, tmp_path).store, dataset="market")
    with pytest.raises(UserError, match="Market-1501 is not there"):
        training_dry_run_report(_request(tmp_path, tmp_path, store=market))
    with pytest.raises(UserError, match=r"loss\.margni"):
        training_dry_run_report(_request(tmp_path, tmp_path, settings={"loss.margni": "1"}))


def test_another_run_in_the_folder_is_noticed_before_a_store_is_made(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of epochs counts where it is asked for: the model's own lengthens nothing."""
    run = tmp_path / "runs" / "synthetic-dsa-reid-small-seed0"
    config = load_config("dsa-reid-small", {**FEW, "schedule.kind": "constant", "epochs": 1})
    fit(config, open_store(stores["zarr"]), run, device="cpu", on_event=lambda event: None)
    monkeypatch.setattr(training, "ensure_store", lambda request: pytest.fail("a store was made"))
    before = files_below(tmp_path)
    own = {**FEW, "schedule.kind": "constant"}
    del own["epochs"]
    for settings, words in (
        ({**own, "height": 48}, r"height differs \(32 there, 48 here\)"),
        (own, r"epochs differs \(1 there, 24 here\)"),
    ):
        for command in (train_model, training_dry_run_report):
            with pytest.raises(UserError, match=words):
                command(_request(synthetic_root, tmp_path, settings=settings))
    report = training_dry_run_report(_request(synthetic_root, tmp_path, settings={**own, "epochs": 4}))
    assert report["to do"].startswith("3 of 4 epochs")
    assert files_below(tmp_path) == before


def test_a_dry_run_says_what_a_run_takes_on_disk(synthetic_root: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    small = training_dry_run_report(_request(synthetic_root, tmp_path, store_path=stores["zarr"]))
    assert re.match(r"about \S+ MB for last\.pt and \S+ MB for best\.pt \(8 identities\), \S+ MB more", small["disk"])
    settings = {"model.pretrained": "never"}
    large = training_dry_run_report(_request(synthetic_root, tmp_path, model="dsa-reid", settings=settings))
    assert "MB for best.pt (8 identities)" in large["disk"]  # of the images, where there is no store yet
    nothing = training_dry_run_report(_request(tmp_path, tmp_path))
    assert f"({SyntheticConfig().train_identities} identities)" in nothing["disk"]


@pytest.mark.parametrize(("problem", "code"), [("", 0), ("the store is gone", 3)])
def test_a_training_without_its_scores_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, problem: str, code: int
) -> None:
    result = SimpleNamespace(run_folder=Path("runs/x"), problem=problem)
    monkeypatch.setattr(training, "train_model", lambda request: result)
    assert CliRunner().invoke(cli, ["train", "--model", "dsa-reid-small"]).exit_code == code


def test_a_training_says_why_it_has_no_scores(
    tmp_path: Path, stores: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = training.plan_training(_request(tmp_path, tmp_path))
    result = FitResult(tmp_path, 1, 1, None, tmp_path / "last.pt", None, 1.0, problem="why")
    training._report(plan, open_store(stores["zarr"]), result)
    assert "the run is finished, without scores: why" in capsys.readouterr().err


def test_settings_of_the_options_are_the_configs() -> None:
    given = chosen_settings([("loss.margin", "0.5"), ("epochs", "9")], (64, 32), 3, Path("runs/a"))
    assert given == {"model.initial": "runs/a", "height": 64, "width": 32, "epochs": "9", "loss.margin": "0.5"}


@pytest.mark.parametrize(
    ("command", "module", "follow"),
    [("evaluate", evaluation, ["report runs/x", "export runs/x"]), ("export", export, ["activations runs/x"])],
)
def test_what_is_done_with_a_run_ends_with_what_comes_next(
    monkeypatch: pytest.MonkeyPatch, command: str, module: ModuleType, follow: list[str]
) -> None:
    monkeypatch.setattr(module, f"{command}_run", lambda *_, **__: ["done"])
    shown = CliRunner().invoke(cli, [command, "runs/x"]).stderr
    assert [line.split("pipeline ")[-1] for line in shown.splitlines()] == follow
