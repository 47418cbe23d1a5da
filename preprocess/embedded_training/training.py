"""Training the embedded network on composed pictures: small crops first, then the size it is used at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from math import cos, pi
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from densereid.data_catalog.errors import UserError
from densereid.preprocess.embedded.network import EmbeddedNetwork
from densereid.preprocess.embedded_training.composition import HARSH, Conditions, Library, compose
from densereid.preprocess.embedded_training.losses import UV_WEIGHT, chart_losses

Size = tuple[int, int]

REPORT_EVERY, SAVE_EVERY = 20, 200
"""Steps."""


@dataclass(frozen=True)
class Stage:
    """A part of the training: pictures of one size, under the same conditions."""

    steps: int
    batch: int
    size: Size
    conditions: Conditions = HARSH
    uv_weight: float = UV_WEIGHT
    """Of the losses of U and V beside those of the labels."""


CLOTH = Conditions(harsh_camera=0.8, plain_cloth=0.35, alike=0.3)
"""As harsh, but for a fifth of the cameras, and with the cloth that photographs have."""

HALF_BY_DAY = replace(CLOTH, harsh_camera=0.5)
"""Most crops of a dataset are taken by day."""


LIGHT = replace(HALF_BY_DAY, plain_cloth=0.5, laden=0.3, obstacle=0.12)
"""Most people carry little, and what is plain on a back is mostly a shirt."""


@dataclass(frozen=True)
class Cycle:
    """Stages under one rise and fall of the learning rate."""

    stages: tuple[Stage, ...]
    peak: float
    """Highest learning rate, after a twentieth of all steps; then a half cosine down to 0."""

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def rate(self, step: int) -> float:
        """The learning rate of a step from 0 on."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return self.peak * (step + 1) / warm
        return self.peak * 0.5 * (1.0 + cos(pi * (step - warm) / (self.steps - warm)))


@dataclass(frozen=True)
class Recipe:
    """All that the weights follow from, beside the library of layers. Warm restarts: Loshchilov & Hutter, ICLR 2017."""

    cycles: tuple[Cycle, ...] = (
        Cycle((Stage(2000, 64, (128, 64)), Stage(1300, 32, (192, 96))), 3e-3),
        Cycle((Stage(2600, 32, (192, 96)),), 1.5e-3),
        Cycle((Stage(4500, 32, (192, 96), CLOTH),), 1.5e-3),
        Cycle((Stage(2600, 32, (192, 96), HALF_BY_DAY, uv_weight=8.0),), 1e-3),
        Cycle((Stage(1300, 32, (192, 96), LIGHT, uv_weight=16.0),), 1e-3),
    )
    branches: int = 2
    """How often the last cycle is trained from where the one before it ended, each time on other pictures; the mean of
    the weights is kept (Wortsman et al., Model soups, ICML 2022)."""
    weight_decay: float = 0.02
    averaged: float = 0.998
    """Share of the old in the running mean of the weights, which is what is kept."""
    replicas: int = 2
    """Of the network, each of which sees its share of every batch and normalises with its statistics."""
    seed: int = 0

    @property
    def trained(self) -> tuple[Cycle, ...]:
        """All cycles, the last one as often as it is trained."""
        return self.cycles + self.cycles[-1:] * (self.branches - 1)

    @property
    def fork(self) -> int:
        """The step at which the first branch begins."""
        return sum(cycle.steps for cycle in self.cycles[:-1])

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Of all cycles."""
        return tuple(stage for cycle in self.trained for stage in cycle.stages)

    @property
    def steps(self) -> int:
        """Of all cycles."""
        return sum(cycle.steps for cycle in self.trained)

    def rate(self, step: int) -> float:
        """The learning rate of a step from 0 on."""
        for cycle in self.trained:
            if step < cycle.steps:
                return cycle.rate(step)
            step -= cycle.steps
        raise ValueError(f"the recipe has no step {step} after its last")

    def scaled(self, scale: float) -> Recipe:
        """With that many times the steps, at least one in each stage, and the running mean over as large a share."""

        def scaled_stage(stage: Stage) -> Stage:
            return replace(stage, steps=max(1, round(stage.steps * scale)))

        cycles = (replace(cycle, stages=tuple(map(scaled_stage, cycle.stages))) for cycle in self.cycles)
        return replace(self, cycles=tuple(cycles), averaged=self.averaged ** (1 / scale))


class ComposedPictures(Dataset[tuple[Tensor, Tensor]]):
    """Picture ``index`` of a recipe: (H, W, 3) uint8 RGB and its IUV; the same index is always the same picture."""

    def __init__(self, library: Library, stage: Stage, seed: int, first: int, count: int) -> None:
        self._library, self._stage, self._seed, self._first, self._count = library, stage, seed, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self._seed, self._first + index))
        image, iuv = compose(self._library, rng, self._stage.size, self._stage.conditions)
        return torch.from_numpy(image.copy()), torch.from_numpy(iuv)  # of a JPEG file, numpy gives no right to write


def train(
    library: Library, recipe: Recipe, checkpoint: Path, *, device: str, workers: int, report: Callable[[str], None]
) -> EmbeddedNetwork:
    """The network with the running mean of its weights; continues from ``checkpoint`` where that is there.

    Beside the checkpoint lie the state at the fork, and the mean of each finished branch.

    Raises UserError where the checkpoint is of another recipe.
    """
    torch.manual_seed(recipe.seed)
    network = EmbeddedNetwork().to(memory_format=torch.channels_last).to(device)
    mean = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaged), use_buffers=True
    )
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay, fused=True)
    parts: dict[str, Any] = {"network": network, "mean": mean, "optimizer": optimizer}
    step = _restore(checkpoint, parts, recipe)
    networks = [network, *(deepcopy(network) for _ in range(1, recipe.replicas))]
    with _threads(len(networks)) as threads:
        for stage, images, iuv in _batches(library, recipe, step, workers):
            _begin_branch(recipe, step, parts, networks[1:], checkpoint)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            losses = _step(networks, optimizer, images.to(device), iuv.to(device), stage.uv_weight, threads)
            mean.update_parameters(network)
            step += 1
            if step % REPORT_EVERY == 0:
                report(f"step {step}/{recipe.steps}: " + ", ".join(f"{k} {v:.4f}" for k, v in losses.items()))
            if step % SAVE_EVERY == 0 or step == recipe.steps:
                _save(checkpoint, parts, recipe, step)
    _average_branches(recipe, mean.module, checkpoint)
    # A cast, for bench/dense_pose/embedded_variants.py puts a function in the place of the class.
    return cast("EmbeddedNetwork", mean.module).eval()


def _begin_branch(
    recipe: Recipe, step: int, parts: dict[str, Any], copies: Sequence[nn.Module], checkpoint: Path
) -> None:
    """Where a branch begins, keep the state, or keep the branch before it and go back to that state."""
    branch, within = divmod(step - recipe.fork, recipe.cycles[-1].steps)
    if recipe.branches == 1 or branch < 0 or within:
        return
    start = checkpoint.with_suffix(".fork")
    if branch == 0:
        _write(start, {name: part.state_dict() for name, part in parts.items()})
        return
    _write(checkpoint.with_suffix(f".branch{branch}"), parts["mean"].module.state_dict())
    state = _read(start)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    for copied in copies:
        copied.load_state_dict(state["network"])


def _average_branches(recipe: Recipe, network: nn.Module, checkpoint: Path) -> None:
    """Give the network of the last branch the mean of all, statistics of the normalisations among them, in place."""
    others = [_read(checkpoint.with_suffix(f".branch{number}")) for number in range(1, recipe.branches)]
    with torch.no_grad():
        for name, value in network.state_dict().items():
            each = torch.stack([value, *(other[name].to(value.device) for other in others)])
            value.copy_(each.double().mean(dim=0))


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
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    iuv: Tensor,
    uv_weight: float,
    threads: Executor,
) -> dict[str, float]:
    """One step of the first network, whose copies the others are; the means of their losses."""
    number = len(networks)
    weights = [uv_weight] * number
    shares = list(threads.map(_backward, networks, images.chunk(number), iuv.chunk(number), weights))
    for gradients in zip(*([each.grad for each in network.parameters()] for network in networks), strict=True):
        gradients[0].copy_(torch.stack(gradients).mean(dim=0))
    for values in zip(*(network.buffers() for network in networks), strict=True):
        values[0].copy_(torch.stack(values).double().mean(dim=0))
    nn.utils.clip_grad_norm_(networks[0].parameters(), 5.0)
    optimizer.step()
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    return {name: float(np.mean([share[name] for share in shares])) for name in shares[0]}


def _backward(network: nn.Module, images: Tensor, iuv: Tensor, uv_weight: float) -> dict[str, float]:
    network.train()
    pixels = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16):
        scores = network(pixels)
    losses = chart_losses(scores, iuv, uv_weight)
    network.zero_grad(set_to_none=True)
    losses["total"].backward()
    return {name: float(value.detach()) for name, value in losses.items()}


def _batches(library: Library, recipe: Recipe, step: int, workers: int) -> Iterator[tuple[Stage, Tensor, Tensor]]:
    """The batches from ``step`` on; a picture's number says what it shows, whatever was done before."""
    first, drawn = 0, 0
    for stage in recipe.stages:
        done = min(max(step - first, 0), stage.steps)
        start, count = drawn + done * stage.batch, (stage.steps - done) * stage.batch
        first, drawn = first + stage.steps, drawn + stage.steps * stage.batch
        if count:
            pictures = ComposedPictures(library, stage, recipe.seed, start, count)
            loader = DataLoader(pictures, stage.batch, num_workers=workers, prefetch_factor=4 if workers else None)
            yield from ((stage, images, iuv) for images, iuv in loader)


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
