"""Rendered pedestrians, with which the others work: images and IUV maps on disk, and a store of each size in use."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context
from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.store import Store, open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset

_SPARE_CORES = 3
"""Left to the tests, which run meanwhile."""


def answer(context: Context, answer: Answer) -> None:
    """Render where no folder was given, then preprocess into a store for each size that the models have."""
    from densereid.preprocess.estimators.iuv import open_iuv
    from densereid.preprocess.writing.fill import write_store
    from densereid.preprocess.writing.plan import Plan, PreprocessConfig
    from densereid.train.config.train_config import load_config

    add = answer.table("Rendered pedestrians", ("what", "images", "seconds"))
    began = time.perf_counter()
    if context.data is None:
        scale = context.scale
        tested = scale.test_identities
        world = SyntheticConfig(train_identities=scale.identities, test_identities=tested, distractors=tested, junk=0)
        write_dataset(context.data_root / "synthetic", world, workers=max(0, (os.cpu_count() or 1) - _SPARE_CORES))
    dataset = find_dataset("synthetic", context.data_root)
    add("rendered" if context.data is None else "found", len(dataset.records), f"{time.perf_counter() - began:.1f}")
    models = [load_config(name) for name in context.scale.models.values()]
    for height, width in sorted({(model.height, model.width) for model in models}):
        began = time.perf_counter()
        config = PreprocessConfig((height, width), dsap_size=32, collision="last")
        plan = Plan(dataset, store_path(context, height, width), open_iuv(dataset), config)
        write_store(plan, format="zarr")
        add(f"stored at {height}x{width}", len(dataset.records), f"{time.perf_counter() - began:.1f}")


def store_path(context: Context, height: int, width: int) -> Path:
    """Where the store of that size lies."""
    return context.stores / f"{height}x{width}.zarr"


def rendered_store(context: Context, height: int, width: int) -> Store:
    """The store of that size; UserError where the step that makes it has not done so."""
    path = store_path(context, height, width)
    if not path.exists():
        raise UserError(f"there is no store {path}", "see what the step 'data' says of it")
    return open_store(path)


def rendered_dataset(context: Context) -> Dataset:
    """The images on disk; UserError where they are not there."""
    return find_dataset("synthetic", context.data_root)
