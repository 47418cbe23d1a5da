"""Input sizes of DensePose compared: the measures against slow ones, and the command from images to plot."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner
from densepose_samples import TINY, random_state, shapes_of, smooth_noise, write_zoo_file
from PIL import Image

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.errors import UserError
from densereid.pipeline.cli import cli
from densereid.pipeline.cli.parameter_types import parse_edges
from densereid.pipeline.commands.dense_pose.densepose_sizes import sample
from densereid.preprocess.estimators import input_sizes


def test_edges_are_numbers_with_something_to_compare() -> None:
    assert parse_edges("256, 128,256,800") == [128, 256]
    for text in ("", "128,", "128;256", "0", "-5", "800"):
        with pytest.raises(UserError, match="SHORT_EDGES is"):
            parse_edges(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "crops").mkdir()
    for index in range(5):
        Image.fromarray(smooth_noise(index, (64, 32))).save(tmp_path / "crops" / f"{index:04d}.png")
    return tmp_path / "crops"


def test_the_sample_is_spread_evenly_and_leaves_out_what_cannot_be_read(folder: Path) -> None:
    dataset = find_dataset("folder", folder)
    assert [crop.record.path for crop in sample(dataset, 3)] == ["0000.png", "0002.png", "0004.png"]
    assert len(sample(dataset, 100)) == 5
    (folder / "0002.png").write_bytes(b"nothing")
    assert len(sample(dataset, 3)) == 2
    for path in folder.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="none of 3 images"):
        sample(dataset, 3)


def test_the_command_writes_a_table_a_file_and_a_plot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(input_sizes, "processor_has_bf16", lambda: True)
    weights = write_zoo_file(tmp_path / "tiny.pkl", random_state(shapes_of(TINY), seed=0))
    options = {
        "dataset": "folder", "data-root": folder, "weights": weights, "run-root": tmp_path / "runs", "images": 2,
        "short-edges": "64,32", "size": "64x32", "device": "cpu",
    }  # fmt: skip
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    result = CliRunner().invoke(cli, ["densepose-sizes", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert "foreground IoU" in result.stdout
    plot = Path(result.stdout.splitlines()[-1])
    assert Image.open(plot).size == (840, 960)
    with plot.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["short_edge"], row["precision"], row["compared_with"]) for row in rows] == [
        ("800", "fp32", "800, fp32"), ("32", "fp32", "800, fp32"), ("64", "fp32", "800, fp32"),
        ("32", "bf16", "32, fp32"), ("64", "bf16", "64, fp32"),
    ]  # fmt: skip
    assert (rows[0]["foreground_IoU"], rows[0]["part_accuracy"], rows[0]["median_UV_distance"]) == (
        "1.0000", "1.0000", "0.0000",
    )  # fmt: skip
    assert all(0 < float(row["foreground_IoU"]) < 1 and float(row["images_per_second"]) > 0 for row in rows[1:3])
    assert all(float(row["mask_IoU"]) > 0.5 for row in rows[3:])
