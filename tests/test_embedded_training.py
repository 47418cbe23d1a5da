"""Pictures to train the embedded network on, its losses, and the agreement of two IUV maps, against slow references."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.embedded.weights import read_metadata, read_weights
from densereid.preprocess.embedded_training import layer_store, making
from densereid.preprocess.embedded_training.backgrounds import draw_background
from densereid.preprocess.embedded_training.cloth import GARMENTS, draw_alike, draw_plain
from densereid.preprocess.embedded_training.composition import HARSH, KIND, Library, Window, compose
from densereid.preprocess.embedded_training.layers import PersonLayer
from densereid.preprocess.embedded_training.losses import UV_WEIGHT, chart_losses
from densereid.preprocess.embedded_training.making import Making, make_weights
from densereid.preprocess.embedded_training.photograph import photographed, photographed_by_day
from densereid.preprocess.embedded_training.solids import solid_layers
from densereid.preprocess.embedded_training.training import Cycle, Recipe, Stage, train

SIZE = (64, 32)


@pytest.fixture(scope="module")
def library() -> Library:
    rng = np.random.default_rng(0)
    return Library(list(solid_layers(rng, 6, 96, 60)), np.stack([draw_background(rng, 96, 60) for _ in range(3)]))


def test_a_layer_is_a_person_with_all_that_is_worn(library: Library) -> None:
    for layer in library.people:
        assert layer.image.shape == layer.iuv.shape == (96, 60, 3)
        assert (layer.iuv[..., 0] > 0)[~layer.alpha].sum() == 0
        assert not layer.image[~layer.alpha].any()
        assert 0.5 < layer.alpha.any(axis=1).mean() <= 1.0 or layer.alpha.any(axis=0).mean() > 0.8
    assert {part for layer in library.people for part in np.unique(layer.iuv[..., 0])} == set(range(25))


def test_the_same_generator_state_gives_the_same_picture(library: Library) -> None:
    for seed in range(8):
        one, other = (compose(library, np.random.default_rng(seed), SIZE) for _ in range(2))
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
        assert one[0].shape == one[1].shape == (*SIZE, 3)
        assert one[1][..., 0].max() <= 24
        assert not one[1][one[1][..., 0] == 0].any()


def test_a_picture_is_the_layer_over_the_background_where_nothing_else_happens(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "densereid.preprocess.embedded_training.composition"
    monkeypatch.setattr(f"{module}.photographed", lambda picture, _: picture)
    monkeypatch.setattr(f"{module}.detector_box", lambda person, _, size, __: Window(0, 0, 60, 96, 0.0, (96, 60)))
    flat = Library(library.people, np.full((1, 96, 60, 3), 77, np.uint8))
    seen = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image, iuv = compose(flat, rng, (96, 60))
        person = library.people[int(np.random.default_rng(seed).integers(6))]
        steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        smeared = np.stack([np.roll(person.alpha, step, (0, 1)) for step in steps])
        outside, inside = ~smeared.any(axis=0), smeared.all(axis=0)
        if (image == 77)[outside].all() and (iuv == person.iuv)[inside].all():  # nobody beside, nothing in front
            seen += 1
            assert np.abs(image.astype(int) - person.image)[inside].mean() < 12
            assert not iuv[outside].any()
    assert seen > 2


def test_conditions_change_what_they_name_and_nothing_else(library: Library) -> None:
    for seed in range(12):
        harsh, plain = (
            compose(library, np.random.default_rng(seed), SIZE, conditions)
            for conditions in (HARSH, replace(HARSH, plain_cloth=1.0, alike=1.0))
        )
        assert np.array_equal(harsh[1], plain[1])  # the same body in the same place
        assert not np.array_equal(harsh[0], plain[0])
    alone = replace(KIND, behind=0.0, obstacle=0.0)
    bodies = [compose(library, np.random.default_rng(seed), SIZE, alone)[1][..., 0] > 0 for seed in range(40)]
    assert np.mean([body.any(axis=1).mean() for body in bodies]) > 0.75  # from head to feet


def test_plain_cloth_keeps_its_mean_and_loses_contrast(library: Library) -> None:
    for person in library.people:
        plain = draw_plain(person, np.random.default_rng(3))
        worn = np.isin(person.iuv[..., 0], sum(GARMENTS, ()))
        assert np.array_equal(plain.image[~worn], person.image[~worn])
        for parts in GARMENTS:
            pixels = np.isin(person.iuv[..., 0], parts)
            before, after = person.image[pixels].astype(float), plain.image[pixels].astype(float)
            assert np.allclose(before.mean(axis=0), after.mean(axis=0), atol=0.5)
            assert (after.std(axis=0) <= 0.6 * before.std(axis=0) + 0.5).all()


def test_a_background_alike_is_near_the_colour_of_a_garment(library: Library) -> None:
    background = np.random.default_rng(0).integers(100, 140, (64, 32, 3)).astype(np.uint8)
    person = library.people[0]
    for seed in range(10):
        mean = draw_alike(background, person, np.random.default_rng(seed)).mean(axis=(0, 1))
        garments = [person.image[np.isin(person.iuv[..., 0], parts)].mean(axis=0) for parts in GARMENTS[:2]]
        assert min(np.abs(mean - garment).max() for garment in garments) < 40  # the noise deviates by 10


def test_a_window_takes_pixel_centres_to_pixel_centres() -> None:
    window = Window(10.0, 20.0, 30.0, 80.0, 0.3, (40, 15))
    a, b, c, d, e, f = window.affine()
    for row, column in ((0, 0), (39, 14), (7, 3)):
        x, y = (column + 0.5 - 7.5) * 2.0, (row + 0.5 - 20.0) * 2.0
        turned = np.cos(0.3) * x - np.sin(0.3) * y, np.sin(0.3) * x + np.cos(0.3) * y
        found = a * (column + 0.5) + b * (row + 0.5) + c, d * (column + 0.5) + e * (row + 0.5) + f
        assert np.allclose(found, (25.0 + turned[0], 60.0 + turned[1]))


def test_photographs_keep_size_and_type() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 32, 3)).astype(np.uint8)
    for seed in range(30):
        for camera in (photographed, photographed_by_day):
            taken = camera(picture, np.random.default_rng(seed))
            assert taken.shape == picture.shape
            assert taken.dtype == np.uint8


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


RECIPE = Recipe((Cycle((Stage(2, 2, (64, 32)),), 3e-3), Cycle((Stage(2, 2, (32, 32)),), 1e-3)), seed=5)


def test_the_learning_rate_rises_and_falls_once_in_each_cycle() -> None:
    recipe = Recipe(
        (Cycle((Stage(30, 1, (32, 32)), Stage(10, 1, (32, 32))), 2.0), Cycle((Stage(20, 1, (32, 32)),), 1.0))
    )
    rates = [recipe.rate(step) for step in range(recipe.steps)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    assert all(one >= other for one, other in pairwise(rates[2:40]))
    assert rates[39] < 0.01
    assert rates[40] == 1.0
    assert rates[59] < 0.01
    with pytest.raises(ValueError, match="no step"):
        recipe.rate(60)
    short = recipe.scaled(0.1)
    assert [stage.steps for stage in short.stages] == [3, 1, 2]
    # Or a training of a few hundred steps would give the weights that it started from, half of them.
    assert short.averaged == pytest.approx(recipe.averaged**10)
    assert recipe.scaled(1) == recipe


def test_a_stage_weighs_u_and_v_as_it_says(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densereid.preprocess.embedded_training.training.REPORT_EVERY", 1)
    stages = tuple(Stage(1, 2, (32, 32), uv_weight=weight) for weight in (4.0, 16.0))
    said: list[str] = []
    train(library, Recipe((Cycle(stages, 1e-3),)), tmp_path / "a.pt", device="cpu", workers=0, report=said.append)
    for weight, text in zip((4.0, 16.0), said, strict=True):
        losses = {name: float(value) for name, value in re.findall(r"(\w+) (\d+\.\d+)", text)}
        expected = losses["coarse"] + losses["fine"] + weight * (losses["u"] + losses["v"])
        assert losses["total"] == pytest.approx(expected, abs=0.003)  # of four decimals


def test_an_interrupted_training_gives_the_weights_of_one_that_was_not(library: Library, tmp_path: Path) -> None:
    def stopped(text: str) -> None:
        raise KeyboardInterrupt

    whole = train(library, RECIPE, tmp_path / "whole.pt", device="cpu", workers=0, report=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("densereid.preprocess.embedded_training.training.SAVE_EVERY", 1)
        patch.setattr("densereid.preprocess.embedded_training.training.REPORT_EVERY", 3)
        with pytest.raises(KeyboardInterrupt):
            train(library, RECIPE, tmp_path / "cut.pt", device="cpu", workers=0, report=stopped)
    resumed = train(library, RECIPE, tmp_path / "cut.pt", device="cpu", workers=0, report=lambda _: None)
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
