"""What the benches conclude: two stores differ, a kill is due, a ratio is so much."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import growth
from bench.dense_pose.own_script import Measured, table_rows
from bench.stores.interruptions import Moment, different_arrays, different_files, market_config
from bench.training import steps
from bench.training.steps import Steps, measure
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.store.store import FORMATS, Store, open_store, write_shard
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import plan_images, write_dataset
from densereid.preprocess.estimators.iuv import IuvEstimator, open_iuv
from densereid.train.engine.events import OnEvent, StepsDone


@pytest.mark.parametrize("images", [32_668, 1500, 33])
def test_a_dataset_of_exactly_so_many_images(images: int) -> None:
    assert len(plan_images(market_config(images))) == images


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_different_value_is_found_in_files_and_arrays(stores: dict[str, Path], tmp_path: Path, format: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stores[format], copy)
    assert different_files(stores[format], copy) == []
    assert different_arrays(stores[format], copy) == []
    store = open_store(copy)
    rows = {name: store.read(name, store.geometry.shard_slice(1)) for name in arrays_of(store)}
    rows["mask"][3, 2, 1] ^= 1
    write_shard(copy, shard=1, rows=rows)
    assert different_arrays(stores[format], copy) == ["mask"]
    assert different_files(stores[format], copy)
    (copy / "shards" / "00000.json").unlink()
    assert "shards/00000.json" in different_files(stores[format], copy)


def arrays_of(store: Store) -> list[str]:
    return list(store.markers()[1]["crc32"])


def test_a_moment_comes_after_so_many_shards(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "00000.json").touch()
    moment = Moment(tmp_path, 1.0, seconds_a_shard=1000)
    assert not moment.is_now()
    (tmp_path / "shards" / "00001.json").touch()
    assert moment.is_now()
    later = Moment(tmp_path, 0.5, seconds_a_shard=1000)
    assert not later.is_now()


def test_the_projected_schedule_is_all_epochs_over_market() -> None:
    """MagnifierNet's own figure, 500 epochs of 12,936 images in 4 hours, is 449 images a second."""
    assert np.isclose(Steps(rate=449.2, wait=0.0, memory=0).hours(500), 4.0, rtol=1e-3)


def test_the_first_window_of_steps_does_not_count_and_nothing_is_saved(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It warms up: kernels are chosen, memory is allocated, a network is compiled."""

    def fake_fit(*_: object, on_event: OnEvent, **__: object) -> None:
        for step, rate, wait in ((6, 1.0, 0.9), (12, 100.0, 0.01), (14, 200.0, 0.03)):
            on_event(StepsDone(1, 1, step, 14, 0.0, {}, 0.1, rate, wait, 0.0))
        pytest.fail("nobody wants what comes after the last step")

    config = steps.measured_config("dsa-reid-small", "32-true", compiled=False, window=6)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "fit", fake_fit)
        found = measure(config, open_store(stores["zarr"]), tmp_path, device="cpu")
    assert (found.rate, found.wait) == pytest.approx((150.0, 0.02))


def test_ratios_are_of_images_a_second_and_of_cpu_seconds() -> None:
    found = [
        ("apply_net.py dump, fp32", 256, Measured(10, wall=10, cpu=20, busy=None)),
        ("apply_net.py dump, fp32", 800, Measured(10, wall=40, cpu=60, busy=None)),
        ("ours, crop, fp32", 256, Measured(20, wall=10, cpu=20, busy=0.5)),
    ]
    assert table_rows(found)[2] == ["ours, crop, fp32", "256", "2.00", "1.00", "50%", "2.0x (2.0x)", "8.0x (6.0x)"]
    assert np.isclose(found[2][2].rate, 2)


def test_linked_images_are_more_and_more_persons(tmp_path: Path) -> None:
    """Of Market-1501's layout, with their maps; the same bytes, and no more room."""
    config = SyntheticConfig(train_identities=1, test_identities=1, images_per_identity=4, distractors=0, junk=0)
    write_dataset(tmp_path / "10" / "synthetic", config, workers=0)
    growth.repeat(tmp_path / "10", tmp_path / "20", 20)
    found = find_dataset("market", tmp_path / "20", iuv_root=tmp_path / "20" / "market" / "iuv")
    assert len(found.records) == 20
    assert len({record.person_id for record in found.records}) == 6  # two that were rendered, three times
    estimator = open_iuv(found)
    assert isinstance(estimator, IuvEstimator)
    assert all(estimator.inputs(record.path).files for record in found.records)


def test_the_slope_of_a_square_is_two() -> None:
    assert growth.slope([10, 100, 1000], [3.0, 300.0, 30000.0]) == pytest.approx(2)
