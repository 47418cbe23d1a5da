"""Training the embedded network on composed pictures: small crops first, then the size it is used at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError
from densereid.preprocess.embedded.network import EmbeddedNetwork
from densereid.preprocess.embedded_training.feeding import batches
from densereid.preprocess.embedded_training.losses import chart_losses
from densereid.preprocess.embedded_training.muon import Muon
from densereid.preprocess.embedded_training.pictures.composition import Library
from densereid.preprocess.embedded_training.recipe import Recipe

REPORT_EVERY, SAVE_EVERY = 20, 200
"""Steps."""


def train(
    library: Library, recipe: Recipe, checkpoint: Path, *, device: str, workers: int, report: Callable[[str], None]
) -> EmbeddedNetwork:
    """The network with the running mean of its weights; continues from ``checkpoint`` where that is there.

    Convolutions are trained by Muon, biases and normalisations by AdamW. Raises UserError where the checkpoint is of
    another recipe.
    """
    torch.manual_seed(recipe.seed)
    network = EmbeddedNetwork().to(memory_format=torch.channels_last).to(device)
    mean = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaged), use_buffers=True
    )
    optimizers = _optimizers(network, recipe)
    parts: dict[str, Any] = {"network": network, "mean": mean} | optimizers
    step = _restore(checkpoint, parts, recipe)
    networks = [network, *(deepcopy(network) for _ in range(1, recipe.replicas))]
    with _threads(len(networks)) as threads:
        for stage, images, iuv in batches(library, recipe, step, workers, device):
            for group in (group for optimizer in optimizers.values() for group in optimizer.param_groups):
                group["lr"] = recipe.rate(step)
            losses = _step(networks, list(optimizers.values()), images, iuv, stage.uv_weight, threads)
            mean.update_parameters(network)
            step += 1
            if step % REPORT_EVERY == 0:
                report(f"step {step}/{recipe.steps}: " + ", ".join(f"{k} {v:.4f}" for k, v in losses.items()))
            if step % SAVE_EVERY == 0 or step == recipe.steps:
                _save(checkpoint, parts, recipe, step)
    # A cast, for bench/dense_pose/embedded_variants.py puts a function in the place of the class.
    return cast("EmbeddedNetwork", mean.module).eval()


def _optimizers(network: nn.Module, recipe: Recipe) -> dict[str, torch.optim.Optimizer]:
    """Muon in as many parts as there are replicas, each in a thread of its own, and AdamW."""
    convolutions = [each for each in network.parameters() if each.ndim > 1]
    others = [each for each in network.parameters() if each.ndim == 1]
    shares = [convolutions[first :: recipe.replicas] for first in range(recipe.replicas)]
    return {
        **{f"muon {number}": Muon(share, weight_decay=recipe.weight_decay) for number, share in enumerate(shares)},
        "adam": torch.optim.AdamW(others, weight_decay=recipe.weight_decay, fused=True),
    }


@contextmanager
def _threads(count: int) -> Iterator[Executor]:
    """One thread for each replica, with its share of torch's: their convolutions are too small to be divided well."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(1, number // count),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(number)


def _step(
    networks: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    images: Tensor,
    iuv: Tensor,
    uv_weight: float,
    threads: Executor,
) -> dict[str, Tensor]:
    """One step of the first network, whose copies the others are; the means of their losses."""
    number = len(networks)
    weights = [uv_weight] * number
    shares = list(threads.map(_backward, networks, images.chunk(number), iuv.chunk(number), weights))
    if number > 1:
        _gather(networks)
    nn.utils.clip_grad_norm_(networks[0].parameters(), 5.0)
    list(threads.map(lambda optimizer: optimizer.step(), optimizers))
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    return {name: torch.stack([share[name] for share in shares]).mean() for name in shares[0]}


def _gather(networks: Sequence[nn.Module]) -> None:
    """Give the first network the means of all gradients and statistics."""
    for gradients in zip(*([each.grad for each in network.parameters()] for network in networks), strict=True):
        gradients[0].copy_(torch.stack(gradients).mean(dim=0))
    for values in zip(*(network.buffers() for network in networks), strict=True):
        values[0].copy_(torch.stack(values).double().mean(dim=0))


def _backward(network: nn.Module, images: Tensor, iuv: Tensor, uv_weight: float) -> dict[str, Tensor]:
    network.train()
    pixels = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16):
        scores = network(pixels)
    losses = chart_losses(scores, iuv, uv_weight)
    network.zero_grad(set_to_none=True)
    losses["total"].backward()
    return {name: value.detach() for name, value in losses.items()}


def _save(path: Path, parts: dict[str, Any], recipe: Recipe, step: int) -> None:
    _write(path, {"step": step, "recipe": repr(recipe), **{name: part.state_dict() for name, part in parts.items()}})


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    torch.save(content, temporary)
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _restore(path: Path, parts: dict[str, Any], recipe: Recipe) -> int:
    if not path.exists():
        return 0
    state = _read(path)
    if state["recipe"] != repr(recipe):
        raise UserError(f"{path} was begun with {state['recipe']}, this is {recipe}", "move its folder away")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])
