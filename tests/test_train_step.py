"""A training step as a whole: on a GPU the host never waits for it, so that it can prepare the next one meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from reference_train import random_store

from densereid.train.config.train_config import load_config
from densereid.train.data.loading import make_feeder
from densereid.train.data.sampler import PKSampler
from densereid.train.engine.loop import train_step
from densereid.train.engine.run import Run, prepare_run

MODELS = ("dsa-reid-small", "two-branches-small", "magnifiernet-small", "magnifiernet-v1-small")


@contextmanager
def waiting_forbidden(device: str) -> Iterator[None]:
    """Within it, whatever makes the host wait for the GPU is an error."""
    if device == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def small_run(name: str, folder: Path, device: str) -> Run:
    changes = {"height": 64, "width": 32, "model.dsap_size": 8, "sampling.identities": 3, "sampling.images": 2}
    precision = "32-true" if device == "cpu" else "bf16-mixed"
    config = load_config(name, {**changes, "precision": precision, "model.pretrained": "never"})
    store = random_store(height=64, width=32)
    return prepare_run(config, store, folder, device=device, seed=0, resume=False, on_event=lambda _: None)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", MODELS)
def test_neither_a_batch_nor_its_step_makes_the_host_wait(name: str, device: str, tmp_path: Path) -> None:
    if device != "cpu" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    run = small_run(name, tmp_path, device)
    sampler = PKSampler(run.dataset.labels, identities=3, images=2, seed=0)
    feeder = make_feeder("device", run.dataset, sampler, device=run.fabric.device, workers=0, seed=0)
    before = [parameter.detach().clone() for parameter in run.module.parameters()]
    for batch in feeder:  # constants are sent and Adam's moments made on first use
        train_step(run, batch, 1e-3)
    steps = run.step
    with waiting_forbidden(device):
        for batch in feeder:
            found = train_step(run, batch, 1e-3)
    assert run.step == 2 * steps == 2 * len(sampler)
    assert torch.isfinite(found["loss"])
    assert any(not torch.equal(old, new) for old, new in zip(before, run.module.parameters(), strict=True))
