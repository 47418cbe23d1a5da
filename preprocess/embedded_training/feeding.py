"""The batches of a recipe: pictures that other processes compose, each shown some times, also as its mirror image."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from densereid.preprocess.embedded.both_sides import mirror_tables
from densereid.preprocess.embedded_training.pictures.composition import Library, compose
from densereid.preprocess.embedded_training.recipe import Recipe, Stage

HELD = 16
"""Composed batches at hand, of whose pictures the next batch is drawn."""


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


def batches(
    library: Library, recipe: Recipe, step: int, workers: int, device: str
) -> Iterator[tuple[Stage, Tensor, Tensor]]:
    """Stage, images (N, H, W, 3) uint8 RGB and IUV of the steps from ``step`` on, whatever was done before."""
    first, drawn = 0, 0
    for stage in recipe.stages:
        done = min(max(step - first, 0), stage.steps)
        composed = HELD + -(-stage.steps // recipe.uses)
        if done < stage.steps:
            start = done // recipe.uses
            pictures = ComposedPictures(
                library, stage, recipe.seed, drawn + start * stage.batch, (composed - start) * stage.batch
            )
            for within, pair in enumerate(_shown(pictures, stage, recipe, done, workers, device), start=first + done):
                yield stage, *_drawn(*pair, stage.batch, recipe.seed, within)
        first, drawn = first + stage.steps, drawn + composed * stage.batch


def _shown(
    pictures: ComposedPictures, stage: Stage, recipe: Recipe, done: int, workers: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each step of a stage, the pictures at hand: a batch of them is replaced by a new one after ``uses`` steps."""
    loader = DataLoader(pictures, stage.batch, num_workers=workers, prefetch_factor=4 if workers else None)
    composed = ([each.to(device) for each in batch] for batch in loader)
    held: deque[list[Tensor]] = deque(maxlen=HELD)
    for step in range(done, stage.steps):
        if step == done or step % recipe.uses == 0:
            held.extend(next(composed) for _ in range(max(1, HELD - len(held))))
            images, iuv = (torch.cat(each) for each in zip(*held, strict=True))
        yield images, iuv


def _drawn(images: Tensor, iuv: Tensor, number: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """So many of the pictures, each turned into its mirror image half of the time."""
    rng = np.random.default_rng((seed, step, 0))
    rows = torch.from_numpy(rng.permutation(len(images))[:number]).to(images.device)
    turned = torch.from_numpy(rng.random(number) < 0.5).to(images.device)[:, None, None, None]
    images, iuv = images[rows], iuv[rows]
    other = mirrored(images, iuv)
    return torch.where(turned, other[0], images), torch.where(turned, other[1], iuv)


def mirrored(images: Tensor, iuv: Tensor) -> tuple[Tensor, Tensor]:
    """The mirror images of (N, H, W, 3) uint8 RGB and IUV: left and right parts changed, and some U or V turned."""
    counterpart, turned_u, turned_v = mirror_tables(iuv.device)
    part, u, v = iuv.flip(2).unbind(3)
    part = counterpart[part.long()]
    u, v = (torch.where(turned[part], 255 - each, each) for each, turned in ((u, turned_u), (v, turned_v)))
    return images.flip(2), torch.stack((part.to(iuv.dtype), u, v), dim=3)
