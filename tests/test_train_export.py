"""Exported networks: the feature that they give, and the scores that they carry."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_train import TINY, random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.pipeline.commands.networks.export import export_run
from densereid.train.config.train_config import TrainConfig, load_config, to_dict
from densereid.train.data.augmentation import normalise_image
from densereid.train.data.dataset import read_images
from densereid.train.engine.checkpoint import (
    Checkpoint,
    library_versions,
    load_trained_network,
    save_checkpoint,
    store_fingerprint,
)
from densereid.train.engine.export import export_network, load_exported
from densereid.train.evaluation.evaluate import evaluate
from densereid.train.evaluation.metrics import Labels, Scores, score_embeddings
from densereid.train.families import build_network
from densereid.train.networks.magnifiernet import MagnifierReid
from densereid.train.networks.tensor_file import save_tensor_file

STORE = random_store(test_identities=6)
FEATURES = [
    *(("dsa-reid-small", feature) for feature in ("f", "f_global", "f_local", "z", "z_global", "z_local")),
    *(("magnifiernet-small", feature) for feature in ("f", "f_global", "f_regularisation", "f_fusion")),
]


def _trained(name: str, feature: str) -> tuple[torch.nn.Module, Checkpoint]:
    """A network as it is after an evaluation, here an untrained one."""
    config = load_config(name, {**TINY, "evaluate.feature": feature})
    network = build_network(config, 6, seed=3).eval()
    scores = evaluate(network, STORE, config=config)
    return network, _checkpoint(network, config, scores)


def _checkpoint(network: torch.nn.Module, config: TrainConfig, scores: Scores) -> Checkpoint:
    return Checkpoint(
        model=network.state_dict(), optimiser={}, epoch=2, step=8, best=scores.mean_average_precision,
        scores=asdict(scores), scores_epoch=2, seed=3, random={}, config=config, num_identities=6,
        store=store_fingerprint(STORE), versions=library_versions(),
    )  # fmt: skip


def _scores_of_file(path: Path) -> dict[str, float]:
    """What whoever has the file alone measures."""
    network, config = load_exported(path)
    ranked: list[torch.Tensor | Labels] = []
    for split in (Split.QUERY, Split.GALLERY):
        rows = np.flatnonzero(STORE.arrays["split"] == split)
        image = normalise_image(read_images(STORE, rows, height=config.height, width=config.width))
        with torch.inference_mode():
            ranked.append(network(image))
        person, camera = (torch.from_numpy(STORE.arrays[name][rows]).long() for name in ("person_id", "camera_id"))
        ranked.append(Labels(person, camera))
    return asdict(score_embeddings(*ranked))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "feature"), FEATURES)
def test_the_scores_in_a_file_are_those_of_the_feature_that_it_gives(tmp_path: Path, name: str, feature: str) -> None:
    network, checkpoint = _trained(name, feature)
    written = export_network(network, checkpoint, tmp_path / "net.pt")
    values = torch.load(tmp_path / "net.pt", weights_only=True)
    assert values["scores"] == written
    if feature.startswith("z"):  # it needs part images, which the file does not read
        assert (values["feature"], values["scores"]) == ("f", {})
    else:
        assert values["feature"] == feature
        assert _scores_of_file(tmp_path / "net.pt") == pytest.approx(values["scores"], abs=1e-6)
    assert len(values["weights"]) <= len([key for key in checkpoint.model if key.startswith("main.")])


def test_weights_that_were_trained_on_since_carry_no_scores(tmp_path: Path) -> None:
    network, checkpoint = _trained("dsa-reid-small", "f")
    assert export_network(network, replace(checkpoint, epoch=3), tmp_path / "net.pt") == {}
    assert export_network(network, replace(checkpoint, scores={}, scores_epoch=-1), tmp_path / "net.pt") == {}
    assert torch.load(tmp_path / "net.pt", weights_only=True)["scores"] == {}


@pytest.mark.parametrize(
    ("feature", "changes", "words"),
    [
        ("f", {}, "its scores are those of f: mAP"),
        ("z", {}, "it has no scores: those of the run are of z after epoch 2"),
        ("f", {"epoch": 3}, "it has no scores: those of the run are of f after epoch 2"),
        ("f", {"scores": {}}, "it has no scores: the run was not evaluated"),
    ],
)
def test_the_command_says_which_feature_and_which_scores_a_file_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], feature: str, changes: dict[str, object], words: str
) -> None:
    _, checkpoint = _trained("dsa-reid-small", feature)
    save_checkpoint(tmp_path / "last.pt", replace(checkpoint, **changes))  # type: ignore[arg-type]
    export_run(tmp_path, None)
    shown = capsys.readouterr().err
    assert "what inference of f needs" in shown
    assert words in shown


def test_a_file_of_the_version_before_gives_f(tmp_path: Path) -> None:
    """It had every weight of the main stream, and no word on what it gives."""
    network, checkpoint = _trained("dsa-reid-small", "f_global")
    values = {
        "format": "densereid-embedding", "version": 1, "config": to_dict(checkpoint.config),
        "weights": network.inference_network().state_dict(), "trained_on": "memory", "epoch": 2,  # type: ignore[operator]
        "scores": checkpoint.scores,
    }  # fmt: skip
    torch.save(values, tmp_path / "old.pt")
    loaded, _ = load_exported(tmp_path / "old.pt")
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(image), network.embed(image))  # type: ignore[operator]


def test_numbers_that_are_none_are_neither_exported_nor_loaded(tmp_path: Path) -> None:
    network, checkpoint = _trained("magnifiernet-small", "f")
    assert isinstance(network, MagnifierReid)
    path = tmp_path / "net.pt"
    export_network(network, checkpoint, path)
    values = torch.load(path, weights_only=True)
    values["weights"]["main.conv5.0.bn1.running_var"][0] = torch.nan
    del values["checksums"]
    save_tensor_file(path, values, what="", remedy="")
    with pytest.raises(UserError, match=r"net\.pt: 1 of \d+ tensors hold NaN .*: main\.conv5\.0\.bn1\.running_var \(1"):
        load_exported(path)
    path.unlink()
    network.main.trunk.conv1.weight.data[0] = torch.inf  # type: ignore[union-attr, operator]
    with pytest.raises(UserError, match=r"the network of epoch 2: 1 of \d+ tensors .*: main\.trunk\.conv1\.weight"):
        export_network(network, checkpoint, path)
    assert not path.exists()


def test_masks_of_logits_that_are_no_numbers_give_no_embedding() -> None:
    """The largest of NaN logits is some part, and what is read under it would look like any embedding."""
    network, _ = _trained("magnifiernet-small", "f")
    assert isinstance(network, MagnifierReid)
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert network.main.mask_head is not None
    network.main.mask_head.register_forward_hook(lambda _module, _inputs, output: output * torch.tensor(torch.nan))
    with torch.inference_mode():
        assert not network.embed(image).isfinite().any()
        assert network.embed(image, feature="f_global").isfinite().all()


def test_an_exported_network_and_a_checkpoint_are_told_apart(tmp_path: Path) -> None:
    network, checkpoint = _trained("dsa-reid-small", "f")
    export_network(network, checkpoint, tmp_path / "x.export.pt")
    with pytest.raises(
        UserError, match=r"x\.export\.pt is an exported network, .*\nGive the folder of the run, or its"
    ):
        load_trained_network(tmp_path / "x.export.pt")
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    with pytest.raises(UserError, match=rf"Give the run's folder, {tmp_path}, or its best\.pt or last\.pt"):
        load_trained_network(tmp_path / "x.export.pt")
    with pytest.raises(UserError, match=r"last\.pt is a checkpoint, no exported network"):
        load_exported(tmp_path / "last.pt")
