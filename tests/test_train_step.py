"""A training step as a whole: on a GPU the host never waits for it, so that it can prepare the next one meanwhile; and
activations that are computed again change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_train import random_store
from torch import nn

from densereid.train.config.train_config import load_config
from densereid.train.data.loading import make_feeder
from densereid.train.data.sampler import PKSampler
from densereid.train.engine.loop import train_step
from densereid.train.engine.run import Run, prepare_run, recomputes

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


def small_run(name: str, folder: Path, device: str, **more: object) -> Run:
    changes = {"height": 64, "width": 32, "model.dsap_size": 8, "sampling.identities": 3, "sampling.images": 2, **more}
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


@pytest.mark.parametrize("name", ["dsa-reid-small", "magnifiernet-small"])
def test_activations_computed_again_change_no_loss_no_weight_and_no_statistic(name: str, tmp_path: Path) -> None:
    runs = [small_run(name, tmp_path / choice, "cpu", recompute=choice) for choice in ("never", "always")]
    passes = [_forward_passes(run) for run in runs]
    for _ in range(2):
        losses = []
        for run in runs:
            batch = run.dataset.read_batch([0, 1, 4, 5, 8, 9])
            torch.manual_seed(0)  # dropout
            losses.append(train_step(run, batch, 1e-2))
        for term, value in losses[0].items():
            assert torch.equal(value, losses[1][term]), term
    states = [run.module.state_dict() for run in runs]
    assert [key for key, value in states[0].items() if not torch.equal(value, states[1][key])] == []
    assert set(passes[0].values()) == {2}
    assert set(passes[1].values()) == {2, 4}  # those of the blocks once more


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["dsa-reid-small", "magnifiernet-small"])
def test_activations_computed_again_in_bf16_on_a_gpu_change_no_loss(name: str, tmp_path: Path) -> None:
    """Up to the order of additions in a GPU's gradients."""
    losses = []
    for choice in ("never", "always"):
        run = small_run(name, tmp_path / choice, "cuda:0", recompute=choice)
        batch = run.dataset.read_batch([0, 1, 4, 5, 8, 9]).to(run.fabric.device)
        found = []
        for _ in range(3):
            torch.manual_seed(0)  # dropout
            found.append(float(train_step(run, batch, 1e-3)["loss"]))
        losses.append(found)
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


def _forward_passes(run: Run) -> Counter[str]:
    """How often each batch norm computes."""
    seen: Counter[str] = Counter()
    for key, module in run.module.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda *_, key=key: seen.update([key]))
    return seen


def test_a_cpu_computes_the_papers_networks_activations_again_and_a_small_networks_not() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert recomputes(load_config("dsa-reid"), cpu)
    assert recomputes(load_config("magnifiernet"), cpu)
    assert not recomputes(load_config("dsa-reid"), gpu)
    assert not recomputes(load_config("dsa-reid-small"), cpu)
    assert not recomputes(load_config("dsa-reid", {"recompute": "never"}), cpu)
    assert recomputes(load_config("dsa-reid", {"recompute": "always"}), gpu)
