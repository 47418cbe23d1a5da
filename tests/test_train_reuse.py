"""What is done with a trained run: fine-tuning from it, exporting it, describing it, ranking by another feature."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import helpers
import pytest
import torch
from reference_train import TINY, random_store

from densereid.data_catalog.errors import UserError
from densereid.pipeline.commands import training
from densereid.pipeline.commands.networks import evaluation
from densereid.pipeline.commands.networks.export import export_run
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.data.augmentation import normalise_image
from densereid.train.data.dataset import read_images
from densereid.train.engine.checkpoint import load_checkpoint, load_trained_network, save_checkpoint
from densereid.train.engine.describe import parameter_table, settings_table
from densereid.train.engine.export import export_network, load_exported
from densereid.train.engine.loop import fit
from densereid.train.engine.resume import start_from
from densereid.train.evaluation.evaluate import extract_embeddings
from densereid.train.evaluation.reranking import Reranking
from densereid.train.families import build_network

SMALL = "dsa-reid-small"


def _config(name: str = SMALL, **changes: object) -> TrainConfig:
    return load_config(name, {**TINY, "epochs": 1, "evaluate_every": 0, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    fit(_config(), random_store(), folder, device="cpu", on_event=lambda event: None)
    return folder


def test_section_4_3_fine_tuning_starts_from_everything_but_the_classifiers(run: Path) -> None:
    trained = load_checkpoint(run / "last.pt").model
    fresh, tuned = (build_network(_config(), 9, seed=1) for _ in range(2))
    start_from(tuned, run)
    for name, value in tuned.state_dict().items():
        expected = fresh.state_dict()[name] if name.startswith("classify_") else trained[name]
        assert torch.equal(value, expected), name


def test_fine_tuning_on_other_persons_trains_and_resumes(run: Path, tmp_path: Path) -> None:
    store = random_store(train_identities=4, seed=5)
    config = _config(**{"model.initial": str(run)})
    fit(config, store, tmp_path, device="cpu", on_event=lambda event: None)
    checkpoint = load_checkpoint(tmp_path / "last.pt")
    assert (checkpoint.num_identities, checkpoint.config.model.initial) == (4, str(run))
    with pytest.raises(UserError, match=r"model.initial differs \(.*first there, elsewhere here\)"):
        fit(_config(**{"model.initial": "elsewhere"}), store, tmp_path, device="cpu")
    again = fit(config, store, tmp_path, device="cpu")
    assert again.steps == checkpoint.step


def test_fine_tuning_from_another_architecture_or_nothing_is_refused(run: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline"
    fit(_config("baseline-small"), random_store(), baseline, device="cpu", on_event=lambda event: None)
    with pytest.raises(UserError, match=r"do not fit this network: 0 of another shape, \d+ missing \(main.part_branch"):
        start_from(build_network(_config(), 9, seed=1), baseline)
    with pytest.raises(UserError, match=r"nowhere.*does not exist"):
        start_from(build_network(_config(), 9, seed=1), tmp_path / "nowhere")


def test_an_exported_network_has_no_guide_and_the_same_embedding(run: Path, tmp_path: Path) -> None:
    network, checkpoint = load_trained_network(run)
    path = tmp_path / "net.pt"
    export_network(network, checkpoint, path)
    exported, config = load_exported(path)
    assert config == checkpoint.config
    names = set(torch.load(path, weights_only=True)["weights"])
    assert names == {name for name in checkpoint.model if name.startswith("main.")}
    store, rows = random_store(), slice(0, 6)
    with torch.inference_mode():
        embedding = exported(normalise_image(read_images(store, rows, height=32, width=32)))
    assert torch.equal(embedding, extract_embeddings(network, store, torch.arange(6).numpy(), config=config))


def test_files_that_are_no_exported_network_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_exported(tmp_path / "none.pt")
    with pytest.raises(UserError, match="is a checkpoint, no exported network"):
        load_exported(run / "last.pt")
    (tmp_path / "torn.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot be read"):
        load_exported(tmp_path / "torn.pt")


def test_a_description_has_every_setting_and_where_the_weights_are() -> None:
    rows = {row.key: row for row in settings_table(load_config("csa-small"))}
    assert (rows["model.part_images"].value, rows["model.part_images"].is_changed) == ("crops", True)
    assert (rows["loss.margin"].value, rows["loss.margin"].is_changed) == (0.3, False)
    assert all(row.help for row in rows.values())
    weights = dict(parameter_table(load_config("dsa-reid"), 751))
    assert weights["in inference"] == weights["main"] < weights["in training"]
    # conv5_g, table 1: two basic blocks of 3x3 from 1024 to 2048 channels, a 1x1 shortcut, their norms.
    convolutions = 9 * (1024 * 2048 + 3 * 2048 * 2048) + 1024 * 2048
    assert weights["  guide.conv5_g"] == convolutions + 5 * 2 * 2048


def test_describe_and_export_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.describe_model(str(run))
    assert "model.part_images" in capsys.readouterr().out
    (path,) = export_run(run, None)
    assert path == run / f"{SMALL}.export.pt"
    assert load_exported(path)[1] == _config()
    with pytest.raises(UserError, match="unknown model"):
        training.describe_model("nothing")


def test_the_last_checkpoint_is_used_unless_the_best_is_asked_for(
    stores: dict[str, Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``best.pt`` was chosen by its mAP on the test set."""
    shutil.copytree(run, tmp_path / "run")
    last = load_checkpoint(tmp_path / "run" / "last.pt")
    other = build_network(_config(), last.num_identities, seed=9).state_dict()
    save_checkpoint(tmp_path / "run" / "best.pt", replace(last, model=other, optimiser={}, epoch=0))
    for chosen, epoch in ((None, 1), ("last", 1), ("best", 0)):
        asked = [] if chosen is None else ["--checkpoint", chosen]
        done = helpers.run("evaluate", tmp_path / "run", "--store-path", stores["zarr"], "--device", "cpu", *asked)
        assert f"run/{chosen or 'last'}.pt, epoch {epoch}; store" in done.stderr + done.stdout
        helpers.run("export", tmp_path / "run", "--to", tmp_path / "net.pt", *asked)
        weight = load_exported(tmp_path / "net.pt")[0].state_dict()["main.trunk.conv1.weight"]
        assert torch.equal(weight, (last.model if epoch else other)["main.trunk.conv1.weight"])
    (tmp_path / "run" / "last.pt").unlink()
    words = (
        r"run has best.pt and no last.pt\nbest.pt was chosen by looking at the test set.*Name the file itself: .*best"
    )
    network = build_network(_config(), 9, seed=1)
    for use in (load_trained_network, partial(export_run, target=None), partial(start_from, network)):
        with pytest.raises(UserError, match=words):
            use(tmp_path / "run")  # type: ignore[operator]
    start_from(network, tmp_path / "run" / "best.pt")


def test_a_run_can_be_ranked_by_another_feature(
    stores: dict[str, Path], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {
        feature: evaluation.evaluate_run(run, store_path=stores["zarr"], device="cpu", feature=feature)
        for feature in (None, "f", "z")
    }
    assert scores[None] == scores["f"] != scores["z"]
    assert f"{SMALL}, z" in capsys.readouterr().out
    with pytest.raises(UserError, match="expected f or f_global"):
        evaluation.evaluate_run(run, store_path=stores["zarr"], device="cpu", feature="x")


def test_a_run_is_re_ranked_beside_its_plain_scores(
    stores: dict[str, Path], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = evaluation.evaluate_run(run, store_path=stores["zarr"], device="cpu")
    capsys.readouterr()
    better = evaluation.evaluate_run(run, store_path=stores["zarr"], device="cpu", reranking=Reranking(k1=4, k2=2))
    shown = capsys.readouterr().out
    assert f"{SMALL}, re-ranked" in shown
    assert f"{100 * plain.trapezoid_average_precision:.1f}" in shown  # the original Market-1501 average precision
    assert better != plain
    assert (better.num_queries, better.num_gallery) == (plain.num_queries, plain.num_gallery)


def test_plain_scores_are_shown_where_re_ranking_is_not_possible(
    stores: dict[str, Path], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"k1=90: query and gallery have \d+ images together"):
        evaluation.evaluate_run(run, store_path=stores["zarr"], device="cpu", reranking=Reranking(k1=90))
    shown = capsys.readouterr().out
    assert SMALL in shown
    assert "re-ranked" not in shown


def test_keeping_junk_without_re_ranking_is_a_mistake() -> None:
    assert evaluation.choose_reranking(False, keep_junk=False) is None
    assert evaluation.choose_reranking(True, keep_junk=True) == Reranking(20, 6, 0.3, keep_junk=True)
    with pytest.raises(UserError, match=r"RERANK is not set\nAdd RERANK=1"):
        evaluation.choose_reranking(False, keep_junk=True)
