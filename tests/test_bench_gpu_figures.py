"""What the questions to a GPU conclude from: goals, peaks, operations, schedules, packages, the GPU's busy share."""

from __future__ import annotations

import os
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bench.evaluation.reranking import make
from bench.gpu import BusyShare
from bench.gpu_questions import __main__ as command
from bench.gpu_questions import packages
from bench.gpu_questions.context import Context
from bench.gpu_questions.goals import GOALS, Goal
from bench.gpu_questions.packages import absent, download_line, install, needed, project_requirements
from bench.gpu_questions.plan import SCALES, STEPS
from bench.gpu_questions.questions.densepose import published_images
from bench.gpu_questions.questions.guiding_stream import ways
from bench.gpu_questions.questions.learning import shortened
from bench.gpu_questions.questions.ranking import labels
from bench.gpu_questions.questions.timing import bf16_peak, operations, seconds_each
from densereid.train.config.train_config import load_config
from densereid.train.engine.schedule import rate_at
from densereid.train.evaluation.metrics import score_embeddings
from densereid.train.networks.guiding_stream import GuidingStream


def test_a_goal_compares_the_figure_it_chooses() -> None:
    figures = {"x.a.rate": [900.0, ""], "x.b.rate": [1100.0, ""], "y.rate": [5000.0, ""]}
    assert Goal("", "x.*.rate", max, True, 1000).judge(figures) == ("1100", "x.b.rate", "met")
    assert Goal("", "x.*.rate", min, True, 1000).judge(figures) == ("900", "x.a.rate", "missed")
    assert Goal("", "x.*.rate", min, False, 900).judge(figures) == ("900", "x.a.rate", "missed")
    assert Goal("", "z.*", max, True, 1).judge(figures) == ("", "", "not measured")


def test_the_goals_are_the_projects() -> None:
    """1,000 images/s, busy 90 %, Market in a minute, waiting under 2 %, MagnifierNet's schedule in an hour."""
    figures = {
        "tests.failed": [0.0, ""],
        "tests-compiled.failed": [1.0, ""],
        "densepose.network.bf16.batch64.rate": [1000.0, ""],
        "densepose.end_to_end.bf16.rate": [999.0, ""],
        "densepose.end_to_end.bf16.busy": [0.9, ""],
        "densepose.end_to_end.bf16.minutes.market": [1.0, ""],
        "training.magnifiernet.bf16-mixed.wait": [0.0, ""],
        "training.magnifiernet.32-true.wait": [0.02, ""],
        "training.dsa-reid.bf16-mixed.wait": [0.0199, ""],
        "feeding.disk.dsa-reid.bf16-mixed.wait": [0.5, ""],
        "training.magnifiernet.32-true.hours": [3.0, ""],
        "training.magnifiernet.bf16-mixed.compiled.hours": [0.9, ""],
    }
    verdicts = [goal.judge(figures)[2] for goal in GOALS]
    assert verdicts == ["met", "missed", "met", "missed", "met", "missed", "missed", "met", "met"]


def test_a_gpus_peak_is_found_by_its_name() -> None:
    names = ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA A100-SXM4-40GB")
    assert [bf16_peak(name) for name in names] == [989e12, 989e12, 756e12, 835e12, 312e12]
    assert bf16_peak("NVIDIA L4") == 121e12
    assert bf16_peak("NVIDIA L40") is None
    assert bf16_peak("Tesla V100-SXM2-16GB") is None


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_operations_of_a_grouped_convolution_there_and_back(groups: int) -> None:
    """Each output number takes a product and a sum for every weight of its group; either gradient takes as many."""
    layer = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=groups, bias=False)
    forward = 2 * (5 * 12 * 4 * 3) * (8 // groups * 3 * 3)
    image = torch.randn(5, 8, 8, 6, requires_grad=True)
    assert operations(lambda: layer(image)) == forward
    assert operations(lambda: layer(image).sum().backward()) == 3 * forward
    assert operations(lambda: layer(image.detach()).sum().backward()) == 2 * forward


def test_a_timing_is_of_one_call() -> None:
    assert 0.005 <= seconds_each(lambda: time.sleep(0.005), "cpu", 0.03) < 0.05
    calls: list[int] = []
    assert seconds_each(lambda: calls.append(1), "cpu", 0.0) < 0.01
    assert len(calls) == 2


def test_all_ways_of_the_guiding_stream_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    stream, dsap = GuidingStream(32).double(), torch.randn(3, 24, 3, 16, 16).double()
    found = {}
    for way, (module, layout) in ways(stream).items():
        module = module.to(memory_format=layout).train()
        module.zero_grad()
        outputs = module(dsap)
        sum(value.square().mean() for value in outputs.values()).backward()
        found[way] = [*outputs.values(), *(weight.grad.clone() for weight in module.parameters())]
    expected, *others = found.values()
    assert len(others) == 3
    for other in others:
        torch.testing.assert_close(other, expected)


def test_a_shortened_schedule_is_the_papers_drawn_together() -> None:
    for name in ("dsa-reid", "magnifiernet"):
        whole = load_config(name)
        short = shortened(whole, whole.epochs // 20)
        for share in (0.0, 0.01, 0.03, 0.1, 0.13, 0.15, 0.5, 0.9):
            assert rate_at(short, share * short.epochs) == pytest.approx(rate_at(whole, share * whole.epochs))
    assert shortened(load_config("magnifiernet"), 1).stages.first_epochs == 1


def test_every_random_query_has_its_match() -> None:
    images, (query, gallery) = make(130, 16), labels(20, 110)
    scores = score_embeddings(images[:20], query, images[20:], gallery)
    assert scores.num_valid_queries == 20
    assert scores.num_gallery == 110


def test_all_splits_of_a_dataset_are_preprocessed() -> None:
    assert published_images()["market"] == 12_936 + 3_368 + 19_732
    assert published_images()["msmt17"] == 30_248 + 11_659 + 82_161
    assert SCALES["full"].ranked == {"market": (3368, 19_732), "msmt17": (11_659, 82_161)}


def test_chosen_steps_come_with_what_they_need() -> None:
    assert [step.name for step in command.chosen_steps("training,tests")] == ["data", "tests", "training"]
    assert command.chosen_steps("") == command.chosen_steps("", 4.0) == list(STEPS)
    assert [step.seconds for step in command.chosen_steps("tests,learning", 16.0)] == [180, 220, None]
    with pytest.raises(SystemExit, match="unknown steps: trainig; known: data, machine"):
        command.chosen_steps("trainig")


def test_a_context_survives_the_way_into_a_process(tmp_path: Path) -> None:
    context = Context("cuda:0", "full", tmp_path, data=tmp_path / "data", ends=5.5, commit="abc")
    assert Context.from_json(context.to_json()) == context
    assert context.scale is SCALES["full"]


def fake(found: dict[str, tuple[str, list[str]]]) -> packages.Find:
    def find(name: str) -> Any:
        return SimpleNamespace(version=found[name][0], requires=found[name][1]) if name in found else None

    return find


def test_needed_packages_are_followed_through_what_is_installed() -> None:
    find = fake(
        {
            "dask": ("2025.3", ["click>=8.0", "partd>=1", "numpy>=1.24; extra == 'array'", "torch>=2"]),
            "partd": ("1.4", ["locket", "click>=8.1", "toolz; python_version < '3.0'", "blosc; extra == 'complete'"]),
            "click": ("8.0", []),
        }
    )
    wanted = needed(["dask[array]>=2025.1", "torch>=2.6", "Google_CRC32C>=1.5"], find)
    assert set(wanted) == {"dask", "click", "partd", "numpy", "locket", "google-crc32c"}
    missing = absent(wanted, find)
    # click is there, but too old for one of the two that need it
    assert missing == ["click>=8.0,>=8.1", "google-crc32c>=1.5", "locket", "numpy>=1.24"]
    line = download_line(missing)
    assert line.startswith("python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 ")
    assert line.endswith("--dest wheels 'click>=8.0,>=8.1' 'google-crc32c>=1.5' 'locket' 'numpy>=1.24'")


def test_the_projects_own_list_is_whole_here_and_leaves_out_what_a_gpu_machine_has() -> None:
    wanted = needed(project_requirements())
    assert {"zarr", "numcodecs", "dask", "distributed", "lightning-fabric", "pytest", "hypothesis"} <= set(wanted)
    assert not {"torch", "torchvision", "timm", "safetensors", "ruff", "mypy"} & set(wanted)
    assert absent(wanted) == []
    asked = ("dask", "distributed", "zict", "zarr")
    present = [f"{name}=={version(name)}" for name in wanted if name not in asked]
    line = packages.whole_line([*present, "dask==2024.1", "zict"])  # too old, and of a version that nobody said
    fetched = [f"'{name}=={version(name)}'" for name in ("dask", "distributed", "zarr")]
    assert line.partition("--dest wheels ")[2] == " ".join(fetched)


def test_wheels_are_installed_without_network(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    assert "no .whl file" in install(folder, tmp_path / "site")
    information = "carried-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: carried\nVersion: 1.0\nRequires-Dist: absent\n"
    about = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / "carried-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried.py", "answer = 42\n")
        wheel.writestr(f"{information}/METADATA", metadata)
        wheel.writestr(f"{information}/WHEEL", about)
        wheel.writestr(f"{information}/RECORD", "")
    assert install(folder, tmp_path / "site") == f"1 wheels of {folder} were installed."
    assert (tmp_path / "site" / "carried.py").read_text() == "answer = 42\n"
    (folder / "broken-1.0-py3-none-any.whl").write_bytes(b"no zip")
    assert "were not installed" in install(folder, tmp_path / "site2")


def test_the_busy_share_is_the_mean_of_samples_and_unknown_without_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nfor share in 100 50 90; do echo $share; done\nwhile true; do sleep 0.05; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    watch = BusyShare()
    watch.start()
    time.sleep(0.5)
    assert watch.stop() == pytest.approx(0.8)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    unknown = BusyShare()
    unknown.start()
    assert unknown.stop() != unknown.stop()  # NaN
