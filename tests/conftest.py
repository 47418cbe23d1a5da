"""Shared fixtures: a small synthetic dataset, a folder of crops with IUV maps, and stores of both formats."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference import random_iuv

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.store.store import FORMATS
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.pipeline.invocation import Invocation, set_running
from densereid.preprocess.embedded_training.pictures.backgrounds import draw_background
from densereid.preprocess.embedded_training.pictures.composition import Library
from densereid.preprocess.embedded_training.solids import solid_layers
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig


@pytest.fixture(scope="session", autouse=True)
def _no_variables_from_outside() -> Iterator[None]:
    """What a developer's own environment says to the commands is not said to the tests."""
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith("DENSEREID_") and name != "DENSEREID_CACHE":
                environment.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """More of them take twice the processor for networks as small as ours, and wait where other work is done."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test takes the power away, and 50 files in a store are 50 times a few milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _no_command_is_running() -> Iterator[None]:
    """What one test ran in this process is neither what the next one's messages repeat nor who may speak."""
    yield
    set_running(Invocation())
    logging.getLogger("densereid").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA_ROOT with 8 training and 4 test identities rendered under ``synthetic``."""
    root = tmp_path_factory.mktemp("data")
    config = SyntheticConfig(train_identities=8, test_identities=4, images_per_identity=6, distractors=3, junk=2)
    write_dataset(root / "synthetic", config)
    return root


@pytest.fixture(scope="session")
def layer_library() -> Library:
    """Six people and three backgrounds of 96x60, from which training pictures of the embedded network are composed."""
    rng = np.random.default_rng(0)
    return Library(list(solid_layers(rng, 6, 96, 60)), np.stack([draw_background(rng, 96, 60) for _ in range(3)]))


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan]:
    """A plan that preprocesses a dataset from its IUV maps into a store at 64x32 with shards of 32 rows."""

    def make(data_root: Path, store: Path, dataset: str = "synthetic", **config: object) -> Plan:
        found = find_dataset(dataset, data_root)
        settings = {
            "size": (64, 32),
            "dsap_size": 32,
            "collision": "last",
            "shard_rows": 32,
            "batch_size": 16,
            **config,
        }
        return Plan(found, store, open_iuv(found), PreprocessConfig(**settings))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def fill() -> Callable[[Plan, str], None]:
    """Run a plan to its end."""

    def run(plan: Plan, format: str) -> None:
        write_store(plan, format=format)

    return run


@pytest.fixture(scope="session")
def stores(
    synthetic_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    make_plan: Callable[..., Plan],
    fill: Callable[[Plan, str], None],
) -> dict[str, Path]:
    """Path of the synthetic dataset's store in each format."""
    folder = tmp_path_factory.mktemp("stores")
    paths = {name: folder / f"synthetic-64x32{module.SUFFIX}" for name, module in FORMATS.items()}
    for name, path in paths.items():
        fill(make_plan(synthetic_root, path), name)
    return paths


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A folder of five crops of different sizes with IUV maps in OpenCV's channel order under ``iuv``."""
    root = tmp_path / "crops"
    (root / "iuv").mkdir(parents=True)
    generator = np.random.default_rng(3)
    for index in range(5):
        height, width = 40 + index, 20 + index
        pixels = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
        name = f"{index + 1:04d}_c{index % 2 + 1}"
        Image.fromarray(pixels).save(root / f"{name}.png")
        iuv = random_iuv(generator, height, width)
        Image.fromarray(np.ascontiguousarray(iuv[..., ::-1])).save(root / "iuv" / f"{name}_IUV.png")
    return root
