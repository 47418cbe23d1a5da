"""Pictures to train the embedded network on, its losses, and the agreement of two IUV maps, against slow references."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.embedded.network import EmbeddedNetwork
from densereid.preprocess.embedded.weights import read_metadata, read_weights
from densereid.preprocess.embedded_training import layer_store, making
from densereid.preprocess.embedded_training.layers import PersonLayer
from densereid.preprocess.embedded_training.losses import UV_WEIGHT, chart_losses
from densereid.preprocess.embedded_training.making import Making, make_weights
from densereid.preprocess.embedded_training.pictures.composition import Library, compose
from densereid.preprocess.embedded_training.recipe import GPU_RECIPE, Recipe, Stage
from densereid.preprocess.embedded_training.solids import solid_layers
from densereid.preprocess.embedded_training.training import _step, train


def test_losses_against_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(1)
    scores = ChartScores(*(torch.from_numpy(rng.normal(0, 1, (2, n, 5, 4))) for n in (2, 25, 25, 25)))
    iuv = rng.integers(0, 25, (2, 5, 4, 3)).astype(np.uint8)
    iuv[..., 1:] = rng.integers(0, 256, (2, 5, 4, 2))
    iuv[rng.random((2, 5, 4)) < 0.4] = 0
    sums = {"coarse": 0.0, "fine": 0.0, "u": 0.0, "v": 0.0}
    body = 0
    for n, y, x in np.ndindex(2, 5, 4):
        part = int(iuv[n, y, x, 0])
        sums["coarse"] -= float(scores.coarse[n, :, y, x].log_softmax(0)[int(part > 0)])
        sums["fine"] -= float(scores.fine[n, :, y, x].log_softmax(0)[part])
        if part:
            body += 1
            for name, value in (("u", iuv[n, y, x, 1]), ("v", iuv[n, y, x, 2])):
                error = abs(float(getattr(scores, name)[n, part, y, x]) - value / 255)
                sums[name] += error - 0.025 if error > 0.05 else error * error / 0.1
    losses = chart_losses(scores, torch.from_numpy(iuv))
    for name, total in sums.items():
        assert float(losses[name]) == pytest.approx(total / (40 if name in ("coarse", "fine") else body), rel=1e-5)
    expected = losses["coarse"] + losses["fine"] + UV_WEIGHT * (losses["u"] + losses["v"])
    assert float(losses["total"]) == pytest.approx(float(expected))


def test_a_picture_without_a_person_costs_no_nan() -> None:
    scores = ChartScores(*(torch.zeros(1, n, 4, 4) for n in (2, 25, 25, 25)))
    assert torch.isfinite(chart_losses(scores, torch.zeros(1, 8, 8, 3, dtype=torch.uint8))["total"])


RECIPE = Recipe((Stage(3, 2, (64, 32)), Stage(3, 4, (32, 32))), uses=2, seed=5)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_step_of_replicas_against_one_share_after_the_other(layer_library: Library, number: int) -> None:
    torch.manual_seed(0)
    network = EmbeddedNetwork(widths=(4, 4, 4, 4, 4), depths=(1, 1, 1, 1), pyramid=4, head=4)
    pictures = [compose(layer_library, np.random.default_rng(index), (64, 64)) for index in range(6)]
    images, iuv = (torch.from_numpy(np.stack(each)) for each in zip(*pictures, strict=True))
    slow = deepcopy(network).train()
    before = deepcopy(network)
    for image, truth in zip(images.chunk(number), iuv.chunk(number), strict=True):
        share = deepcopy(before).train()
        with torch.autocast("cpu", torch.bfloat16):
            scores = share(image.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last))
        chart_losses(scores, truth, 8.0)["total"].backward()
        for own, found in zip(slow.parameters(), share.parameters(), strict=True):
            assert found.grad is not None
            own.grad = found.grad / number + (torch.zeros_like(own) if own.grad is None else own.grad)
        for (name, running), now in zip(slow.named_buffers(), share.buffers(), strict=True):
            if name.endswith(("running_mean", "running_var")):
                running += (now - dict(before.named_buffers())[name]) / number
    torch.nn.utils.clip_grad_norm_(slow.parameters(), 5.0)
    torch.optim.SGD(slow.parameters(), 0.1).step()

    networks = [network, *(deepcopy(network) for _ in range(1, number))]
    with ThreadPoolExecutor(number) as threads:
        _step(networks, [torch.optim.SGD(network.parameters(), 0.1)], images, iuv, 8.0, threads)
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, slow.state_dict()[name], rtol=1e-4, atol=1e-6)
        for copied in networks[1:]:
            assert torch.equal(value, copied.state_dict()[name]), name


def test_the_learning_rate_rises_and_falls_once() -> None:
    recipe = Recipe((Stage(30, 1, (32, 32)), Stage(10, 1, (32, 32))), peak=2.0)
    rates = [recipe.rate(step) for step in range(recipe.steps)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    assert all(one >= other for one, other in pairwise(rates[2:]))
    assert rates[39] < 0.01
    short = recipe.scaled(0.1)
    assert [stage.steps for stage in short.stages] == [3, 1]
    # Or a training of a few hundred steps would give the weights that it started from, half of them.
    assert short.averaged == pytest.approx(recipe.averaged**10)
    assert recipe.scaled(1) == recipe


def test_a_gpu_is_shown_more_pictures_of_the_same_kinds() -> None:
    def shown(recipe: Recipe) -> int:
        return sum(stage.steps * stage.batch for stage in recipe.stages)

    assert shown(GPU_RECIPE) > 5 * shown(Recipe())
    one, other = ([replace(stage, steps=1, batch=1) for stage in each.stages] for each in (Recipe(), GPU_RECIPE))
    assert one == other


def test_a_stage_weighs_u_and_v_as_it_says(
    layer_library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("densereid.preprocess.embedded_training.training.REPORT_EVERY", 1)
    stages = tuple(Stage(1, 4, (32, 32), uv_weight=weight) for weight in (4.0, 16.0))
    said: list[str] = []
    recipe = Recipe(stages, peak=1e-3)
    train(layer_library, recipe, tmp_path / "a.pt", device="cpu", workers=0, report=said.append)
    for weight, text in zip((4.0, 16.0), said, strict=True):
        losses = {name: float(value) for name, value in re.findall(r"(\w+) (\d+\.\d+)", text)}
        expected = losses["coarse"] + losses["fine"] + weight * (losses["u"] + losses["v"])
        assert losses["total"] == pytest.approx(expected, abs=0.003)  # of four decimals


@pytest.fixture(scope="module")
def whole(layer_library: Library, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedNetwork:
    """Trained without an interruption."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.pt"
    return train(layer_library, RECIPE, path, device="cpu", workers=0, report=lambda _: None)


@pytest.mark.parametrize("steps", [2, 3, 4, 5])
def test_an_interrupted_training_gives_the_weights_of_one_that_was_not(
    layer_library: Library, whole: EmbeddedNetwork, tmp_path: Path, steps: int
) -> None:
    def stopped(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("densereid.preprocess.embedded_training.training.SAVE_EVERY", 1)
        patch.setattr("densereid.preprocess.embedded_training.training.REPORT_EVERY", steps)
        with pytest.raises(KeyboardInterrupt):
            train(layer_library, RECIPE, tmp_path / "cut.pt", device="cpu", workers=0, report=stopped)
    resumed = train(layer_library, RECIPE, tmp_path / "cut.pt", device="cpu", workers=0, report=lambda _: None)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_making_writes_weights_with_what_they_come_from_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_store, "SHARD", 4)
    monkeypatch.setattr(layer_store, "SIZE", (64, 40))
    monkeypatch.setattr(making, "ProcessPoolExecutor", _here)
    monkeypatch.setattr(making, "HELD_OUT_PICTURES", 3)
    plan = Making(
        tmp_path,
        ("solids",),
        ("solids",),
        shards=1,
        background_shards=1,
        recipe=RECIPE,
        workers=0,
        facts={"commit": "abc"},
    )
    said: list[str] = []
    scores = make_weights(plan, said.append)
    assert set(scores) == {"solids, harsh", "solids, kind"}
    metadata = read_metadata(tmp_path / "weights.safetensors")
    assert metadata["scores"] == {name: asdict(each) for name, each in scores.items()}
    assert metadata["recipe"]["seed"] == 5
    assert metadata["commit"] == "abc"
    first = read_weights(tmp_path / "weights.safetensors").state_dict()
    monkeypatch.setattr(layer_store, "_write", _never)
    assert make_weights(plan, said.append) == scores
    again = read_weights(tmp_path / "weights.safetensors").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    with pytest.raises(UserError, match=r"checkpoint.pt was begun with Recipe\(.*seed=5\), this is Recipe\(.*seed=6\)"):
        make_weights(replace(plan, recipe=replace(RECIPE, seed=6)), said.append)
    with pytest.raises(UserError, match=r"unknown body makers: \['smpl'\]"):
        make_weights(Making(tmp_path, ("smpl",)), said.append)


def _never(*_: object) -> None:
    raise AssertionError("rendered again")


class _here:  # noqa: N801 - stands for a pool
    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> _here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, job, *arguments):  # type: ignore[no-untyped-def]
        job(*arguments)
        return self

    def result(self) -> None: ...


def test_layers_come_back_cut_to_their_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[PersonLayer] = []

    def keep(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[PersonLayer]:
        for layer in solid_layers(rng, count, height, width):
            made.append(layer)
            yield layer

    monkeypatch.setattr(layer_store, "SHARD", 3)
    assert layer_store.render_layers(tmp_path, keep, 1, 0)
    assert not layer_store.render_layers(tmp_path, keep, 1, 0)
    for layer, read in zip(made, layer_store.read_layers(tmp_path, 1, 1), strict=True):
        rows, columns = np.nonzero(layer.alpha)
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        assert np.array_equal(layer.image[box], read.image)
        assert np.array_equal(layer.iuv[box], read.iuv)
        assert np.array_equal(layer.alpha[box], read.alpha)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_first_steps_cost_what_they_do_on_a_cpu(
    layer_library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("densereid.preprocess.embedded_training.training.REPORT_EVERY", 1)
    totals = {}
    for device in ("cpu", "cuda"):
        said: list[str] = []
        recipe = replace(RECIPE, replicas=1)
        train(layer_library, recipe, tmp_path / f"{device}.pt", device=device, workers=0, report=said.append)
        totals[device] = [float(text.rpartition(" ")[2]) for text in said]
    assert totals["cuda"] == pytest.approx(totals["cpu"], rel=0.05)
