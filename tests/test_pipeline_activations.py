"""Pictures of where networks look: the trunk's map of whichever family, colours, rows, several runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import as_environment
from PIL import Image
from reference_train import TINY
from torch import nn

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.cli import cli
from densereid.pipeline.commands.activations import (
    activation_sheet,
    activations,
    draw_activations,
    heat_overlay,
    trunk_of,
)
from densereid.train.config.train_config import load_config
from densereid.train.data.augmentation import normalise_image
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.engine.loop import fit
from densereid.train.networks.backbone import build_backbone
from densereid.train.networks.trunks.resnet import Trunk


@pytest.fixture(scope="module")
def runs(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A DSA-reID and a baseline, of different image sizes, one epoch each."""
    folder = tmp_path_factory.mktemp("runs")
    few = {**TINY, "epochs": 1, "evaluate_every": 0}
    for name, size in (("dsa-reid-small", 64), ("baseline-small", 32)):
        config = load_config(name, {**few, "height": size, "width": 32})
        fit(config, open_store(stores["zarr"]), folder / name, device="cpu", on_event=lambda event: None)
    return sorted(folder.glob("[!.]*"), reverse=True)


def test_the_activation_is_the_norm_of_what_the_trunk_gives(stores: dict[str, Path], runs: list[Path]) -> None:
    store, rows = open_store(stores["zarr"]), np.array([5, 2, 9])
    network, checkpoint = load_trained_network(runs[0])
    found = activations(network, store, rows, checkpoint.config, "cpu")
    image = torch.from_numpy(store.read("image", rows)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network.main.trunk(normalise_image(image)).numpy()  # type: ignore[operator, union-attr]
    assert found.shape == (3, 4, 2)
    for index in range(3):
        norms = np.zeros((4, 2))
        for y in range(4):
            for x in range(2):
                norms[y, x] = np.sqrt((expected[index, :, y, x] ** 2).sum())
        scaled = (norms - norms.min()) / (norms.max() - norms.min())
        np.testing.assert_allclose(found[index], scaled, atol=1e-4)
    assert not network.main.trunk._forward_hooks  # type: ignore[union-attr]


def test_the_trunk_is_found_wherever_a_family_keeps_it() -> None:
    backbone = build_backbone("small")
    network = nn.ModuleDict({"trunk": backbone.trunk, "rest": backbone.conv5})
    assert trunk_of(network) is backbone.trunk
    assert trunk_of(nn.Sequential(nn.ModuleDict({"deep": network}))) is backbone.trunk
    assert isinstance(backbone.trunk, Trunk)


def test_the_same_everywhere_is_no_activation(stores: dict[str, Path], runs: list[Path]) -> None:
    network, checkpoint = load_trained_network(runs[0])
    with torch.no_grad():
        for parameter in trunk_of(network).parameters():
            parameter.zero_()
    found = activations(network, open_store(stores["zarr"]), np.array([0]), checkpoint.config, "cpu")
    assert np.array_equal(found, np.zeros_like(found))


def test_colours_go_from_blue_to_red() -> None:
    black = np.zeros((20, 10, 3), np.uint8)
    activation = np.zeros((4, 2))
    activation[0] = 1.0
    picture = heat_overlay(black, activation)
    assert picture.shape == (20, 10, 3)
    assert picture[0, 0, 0] > picture[0, 0, 2] == 0  # most: red
    assert picture[-1, 0, 2] > picture[-1, 0, 0] == 0  # least: blue
    white = heat_overlay(black + 255, activation)
    assert (white.astype(int) - picture >= 110).all()  # the image shows through


def test_one_picture_of_several_runs(stores: dict[str, Path], runs: list[Path], tmp_path: Path) -> None:
    def draw(*rows: int) -> Image.Image:
        return Image.open(
            draw_activations(runs, images=2, rows=rows, seed=0, store_path=None, run_root=tmp_path, device="cpu")
        )

    two, three = draw(1, 8), draw(1, 8, 20)
    assert three.height > two.height > 2 * 256
    assert two.width > 3 * 128  # the image and a column a run
    assert draw().height == two.height  # two rows of a random choice
    with pytest.raises(UserError, match=r"has no row 999; it has \d+ images\nchoose rows from 0 to"):
        draw(1, 999)


def test_each_run_has_a_map_of_its_own(stores: dict[str, Path], runs: list[Path]) -> None:
    store, rows = open_store(stores["zarr"]), np.array([3])
    maps = {}
    for run in runs:
        network, checkpoint = load_trained_network(run)
        maps[run.name] = activations(network, store, rows, checkpoint.config, "cpu")
    assert maps[runs[0].name].shape != maps[runs[1].name].shape  # another image size, another map
    one, other = (np.asarray(activation_sheet(store, rows, {"a": maps[run.name]})) for run in runs)
    assert one.shape == other.shape
    assert (one != other).any()


def test_the_command_takes_runs_from_make(runs: list[Path], tmp_path: Path) -> None:
    variables = {"RUNS": " ".join(map(str, runs)), "RUN_ROOT": str(tmp_path), "ROWS": "0,4"}
    result = CliRunner().invoke(cli, ["activations"], env=as_environment(variables))
    assert result.exit_code == 0, result.output
    written = list((tmp_path / "inspect").glob("*-activations.png"))
    assert len(written) == 1
    assert str(written[0]) in result.output
    wrong = CliRunner().invoke(cli, ["activations", str(runs[0]), "--rows", "0,x", "--run-root", str(tmp_path)])
    assert isinstance(wrong.exception, UserError)
    assert "ROWS is '0,x'" in str(wrong.exception)
