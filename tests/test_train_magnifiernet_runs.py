"""Runs of MagnifierNet: stages and resume, masks that are not there, attributes, exports, several processes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run_ranks
from reference_train import TINY, MemoryStore, random_store

import densereid.train.engine.loop as loop_module
from densereid.data_catalog.datasets.attributes import AttributeTable
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import open_store
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.data.augmentation import normalise_image
from densereid.train.data.dataset import read_images
from densereid.train.engine import checks as preparation
from densereid.train.engine.checkpoint import load_checkpoint, load_trained_network
from densereid.train.engine.describe import parameter_table, settings_table
from densereid.train.engine.events import Event, StepsDone
from densereid.train.engine.export import export_network, load_exported
from densereid.train.engine.loop import FitResult, fit
from densereid.train.engine.tracking import read_metrics
from densereid.train.evaluation.evaluate import evaluate, extract_embeddings

SMALL = "magnifiernet-small"
STRUCTURES = ("global", "mask", "sab", "sfb", "sab-sfb", "ab", "v1", "v1-srb", "v1-ab", "baseline-2")
"""Rows that are another network each; the others of the tables draw other regions, or weigh other losses."""
NEED_ATTRIBUTES = ("magnifiernet-v1-srb-sfb-attributes-small", "magnifiernet-v1-srb-sfb-attributes-sd-small")


def _config(name: str = SMALL, **changes: object) -> TrainConfig:
    return load_config(name, {**TINY, "evaluate_every": 0, "stages.first_epochs": 2, **changes})


def _fit(store: MemoryStore, folder: Path, config: TrainConfig, **options: object) -> FitResult:
    on_event: Callable[[Event], None] = options.pop("on_event", lambda event: None)  # type: ignore[assignment]
    return fit(config, store, folder, device="cpu", on_event=on_event, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_of_the_tables_trains_and_is_evaluated(name: str, tmp_path: Path) -> None:
    store = random_store()
    result = _fit(store, tmp_path, _config(f"magnifiernet-{name}-small", epochs=1))
    network, checkpoint = load_trained_network(tmp_path)
    assert evaluate(network, store, config=checkpoint.config) == result.scores


@pytest.mark.parametrize("stop", [(2, 2), (3, 2)])
def test_a_run_interrupted_at_the_stage_boundary_continues_bit_for_bit(tmp_path: Path, stop: tuple[int, int]) -> None:
    """In the last epoch of stage 1, and in the first of stage 2, which then is saved by neither."""
    store = random_store()
    config = _config(epochs=4, **{"stages.second_rate": 2e-3, "augmentation.erase": 0.5})
    _fit(store, tmp_path / "whole", config)

    def interrupt(event: Event) -> None:
        if isinstance(event, StepsDone) and (event.epoch, event.step) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(store, tmp_path / "stopped", config, on_event=interrupt)
    assert load_checkpoint(tmp_path / "stopped" / "last.pt").epoch == stop[0] - 1
    _fit(store, tmp_path / "stopped", config)
    left, right = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "stopped"))
    for name, weights in left.model.items():
        assert torch.equal(weights, right.model[name]), name
    for key, state in left.optimiser["state"].items():
        assert torch.equal(state["exp_avg"], right.optimiser["state"][key]["exp_avg"])
    metrics = read_metrics(tmp_path / "stopped")
    epochs = {float(row["epoch"]) for row in metrics if row["name"] == "loss/diversity"}
    assert min(epochs) > 2
    assert max(epochs) == 4
    rates = {float(row["epoch"]): float(row["value"]) for row in metrics if row["name"] == "learning_rate"}
    assert {rate for epoch, rate in rates.items() if epoch > 2} == {2e-3}


def test_where_the_second_stage_begins_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _fit(random_store(), tmp_path / "two", _config(epochs=3, **{"stages.second_rate": 1e-3}))
        _fit(random_store(), tmp_path / "one", _config(epochs=1))
    assert "Stage 2, with the diversity loss, from epoch 3 of 3; learning rate 0.001." in caplog.text
    assert "One stage, without the diversity loss: 1 epoch, stages.first_epochs is 2." in caplog.text


def test_overfits_eight_identities(tmp_path: Path) -> None:
    """mAP of the training images themselves, split into query and gallery by camera."""
    store = random_store(train_identities=8, test_identities=0, images=4, seed=3)
    options = {"epochs": 12, "sampling.identities": 4, "schedule.peak": 3e-3, "stages.first_epochs": 10}
    _fit(store, tmp_path, _config(**options))
    network, checkpoint = load_trained_network(tmp_path)
    store.arrays["split"][:] = np.where(store.arrays["camera_id"] == 1, Split.QUERY, Split.GALLERY)
    assert evaluate(network, store, config=checkpoint.config).mean_average_precision > 0.95


def test_an_exported_network_needs_no_mask_of_the_store(stores: dict[str, Path], tmp_path: Path) -> None:
    """The mask array is deleted from the store; the embeddings stay the same, bit for bit."""
    path = tmp_path / "store.zarr"
    shutil.copytree(stores["zarr"], path)
    config = _config(epochs=1, height=64, width=32)
    fit(config, open_store(path), tmp_path / "run", device="cpu", on_event=lambda event: None)
    network, checkpoint = load_trained_network(tmp_path / "run")
    export_network(network, checkpoint, tmp_path / "exported.pt")
    exported, exported_config = load_exported(tmp_path / "exported.pt")
    rows = np.arange(12)
    store = open_store(path)
    before = extract_embeddings(network, store, rows, config=checkpoint.config)
    shutil.rmtree(path / "mask")
    after = extract_embeddings(network, store, rows, config=checkpoint.config)
    image = read_images(store, rows, height=exported_config.height, width=exported_config.width)
    with torch.inference_mode():
        embeddings = exported(normalise_image(image))
    assert torch.equal(before, after)
    torch.testing.assert_close(embeddings, before)
    assert before.shape == (12, 128 + 64 + 64)
    with pytest.raises(UserError, match=r"magnifiernet-small learns from masks, and .*store.zarr has none"):
        fit(config, store, tmp_path / "again", device="cpu")
    assert not (tmp_path / "again" / "last.pt").exists()


def test_a_store_whose_masks_show_nobody_is_refused_before_training(tmp_path: Path) -> None:
    store = random_store()
    store.arrays["mask"][:] = 0
    with pytest.raises(
        UserError, match=r"learns from masks, and 24 of memory.zarr that were looked at show background"
    ):
        _fit(store, tmp_path, _config())
    assert not (tmp_path / "last.pt").exists()
    _fit(store, tmp_path / "global", _config("magnifiernet-global-small", epochs=1))


class _NoMasks(MemoryStore):
    def read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        if name == "mask":
            raise KeyError(name)
        return super().read(name, rows)


def test_a_store_without_masks_is_refused_before_training(tmp_path: Path) -> None:
    whole = random_store()
    store = _NoMasks(whole.arrays, whole.geometry)
    with pytest.raises(UserError, match=r"and memory.zarr has none: 'mask'\nPreprocess the dataset"):
        _fit(store, tmp_path, _config())


@pytest.mark.parametrize(
    ("dataset", "first", "epochs", "gamma", "mask", "milestones"),
    [
        ("cuhk03-labeled", 560, 600, 0.01, 2, (40,)),
        ("cuhk03-detected", 560, 600, 0.002, 2, (40,)),
        ("market", 460, 500, 0.001, 2, (40, 70)),
        ("dukemtmc", 460, 500, 0.05, 0.5, (40, 70)),
    ],
)
def test_v1_table_2_settings_by_dataset(
    dataset: str, first: int, epochs: int, gamma: float, mask: float, milestones: tuple[float, ...]
) -> None:
    config = load_config("magnifiernet-v1", dataset=dataset)
    assert (config.stages.first_epochs, config.epochs) == (first, epochs)
    assert (config.loss.diversity, config.loss.mask, config.schedule.milestones) == (gamma, mask, milestones)
    assert config.tuned_for == dataset
    shown = {row.key: row.value for row in settings_table(config) if row.is_changed}
    assert shown["tuned_for"] == dataset
    second = load_config("magnifiernet", dataset=dataset)
    assert (second.epochs, second.loss.diversity, second.loss.mask) == (500, 2e-3, 2)
    assert second.schedule.milestones == milestones


@pytest.fixture
def attributes(monkeypatch: pytest.MonkeyPatch) -> AttributeTable:
    """Five attributes of the persons of random_store (5 to 13), in the place of a MATLAB file."""
    random = np.random.default_rng(0)
    groups = ("general", "head", "upper", "upper", "lower")
    values = {person: random.integers(0, 2, 5).astype(np.uint8) for person in range(5, 14)}
    table = AttributeTable(("young", "hat", "upper red", "upper blue", "trousers"), groups, values)
    monkeypatch.setattr(preparation, "read_person_attributes", lambda path: table)
    return table


@pytest.mark.parametrize("name", NEED_ATTRIBUTES)
def test_a_run_with_attributes_learns_them_and_needs_the_file_no_more(
    name: str, tmp_path: Path, attributes: AttributeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = random_store()
    config = _config(name, epochs=1, **{"magnifier.attributes": "market_attribute.mat"})
    result = _fit(store, tmp_path, config)
    assert "loss/attribute" in {row["name"] for row in read_metrics(tmp_path)}
    monkeypatch.undo()
    network, checkpoint = load_trained_network(tmp_path)
    assert checkpoint.config.magnifier.attribute_groups == "ghuul"
    expected = np.stack([attributes.values[person] for person in range(5, 11)])
    assert np.array_equal(checkpoint.model["attribute_targets"], expected)
    assert evaluate(network, store, config=checkpoint.config) == result.scores
    export_network(network, checkpoint, tmp_path / "exported.pt")
    exported, _ = load_exported(tmp_path / "exported.pt")
    image = normalise_image(read_images(store, np.arange(3), height=32, width=32))
    with torch.inference_mode():
        torch.testing.assert_close(exported(image), network.embed(image))  # type: ignore[operator]
    assert dict(parameter_table(checkpoint.config, 6))["  main.facilitator"] > 0


def test_a_run_with_attributes_resumes(tmp_path: Path, attributes: AttributeTable) -> None:
    del attributes
    store, changes = random_store(), {"magnifier.attributes": "market_attribute.mat"}
    _fit(store, tmp_path, _config("magnifiernet-v1-small", epochs=1, **{"schedule.kind": "constant"}, **changes))
    changes["magnifier.attributes"] = "moved/market_attribute.mat"
    _fit(store, tmp_path, _config("magnifiernet-v1-small", epochs=2, **{"schedule.kind": "constant"}, **changes))
    assert load_checkpoint(tmp_path / "last.pt").epoch == 2


def test_attributes_of_a_dataset_that_has_none(tmp_path: Path, attributes: AttributeTable) -> None:
    del attributes
    config, store = _config(NEED_ATTRIBUTES[0], epochs=1), random_store()
    store.attributes["dataset"] = "cuhk03-labeled"
    with pytest.raises(UserError, match=r"there are no person attributes for 'cuhk03-labeled'"):
        _fit(store, tmp_path, config)
    store.attributes["dataset"] = "market"
    with pytest.raises(
        UserError, match=r"magnifier.attributes names no file\nGive the attribute file of market: --set"
    ):
        _fit(store, tmp_path, config)
    other = random_store(train_identities=30)
    with pytest.raises(UserError, match=r"21 persons without attributes: 14, 15, 16, 17, 18, \.\.\."):
        _fit(other, tmp_path, _config(NEED_ATTRIBUTES[0], **{"magnifier.attributes": "market_attribute.mat"}))
    assert not (tmp_path / "last.pt").exists()


SCRIPT = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from reference_train import TINY, random_store
import densereid.train.engine.loop as loop
from densereid.train.config.train_config import load_config
folder, drawn, draw = Path(sys.argv[1]), [], loop.draw_regions_of_batch
def recording(config, random):
    drawn.append(draw(config, random))
    return drawn[-1]
loop.draw_regions_of_batch = recording
config = load_config("magnifiernet-small", {**TINY, **CHANGES})
loop.fit(config, random_store(), folder, device="cpu", on_event=lambda event: None)
torch.save(torch.stack(drawn), folder / f"drawn-{os.environ['RANK']}.pt")
"""


def test_two_processes_draw_the_regions_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DDP over gloo, over both stages."""
    changes = {"epochs": 2, "evaluate_every": 0, "sampling.identities": 4, "stages.first_epochs": 1}
    run_ranks(SCRIPT.replace("CHANGES", repr(changes)), tmp_path / "both")
    drawn: list[torch.Tensor] = []
    draw = loop_module.draw_regions_of_batch

    def recording(config: TrainConfig, random: torch.Generator) -> torch.Tensor | None:
        regions = draw(config, random)
        assert regions is not None
        drawn.append(regions)
        return regions

    monkeypatch.setattr(loop_module, "draw_regions_of_batch", recording)
    _fit(random_store(), tmp_path / "one", load_config(SMALL, {**TINY, **changes}))
    ranks = [torch.load(tmp_path / "both" / f"drawn-{rank}.pt") for rank in (0, 1)]
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks[0], torch.stack(drawn))
    assert len(drawn) > 2
