"""What the weights follow from, beside what is rendered: stages of pictures, the learning rate, the seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi

from densereid.preprocess.embedded_training.losses import UV_WEIGHT
from densereid.preprocess.embedded_training.pictures.composition import HARSH, Conditions

Size = tuple[int, int]


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
class Recipe:
    """All that the weights follow from, beside the library of layers."""

    stages: tuple[Stage, ...] = (
        Stage(4500, 32, (128, 64), CLOTH),
        Stage(5500, 32, (192, 96), HALF_BY_DAY, uv_weight=8.0),
        Stage(3000, 32, (192, 96), LIGHT, uv_weight=16.0),
    )
    peak: float = 6e-3
    """Highest learning rate, after a twentieth of all steps; then a half cosine down to 0."""
    weight_decay: float = 0.02
    averaged: float = 0.998
    """Share of the old in the running mean of the weights, which is what is kept."""
    uses: int = 4
    """How often a picture is shown in the mean, half of the time as its mirror image: composing one takes a third as
    long as learning from it."""
    replicas: int = 2
    """Of the network, each of which sees its share of every batch and normalises with its statistics."""
    seed: int = 0

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

    def scaled(self, scale: float) -> Recipe:
        """With that many times the steps, at least one in each stage, and the running mean over as large a share."""
        stages = tuple(replace(stage, steps=max(1, round(stage.steps * scale))) for stage in self.stages)
        return replace(self, stages=stages, averaged=self.averaged ** (1 / scale))


GPU_RECIPE = Recipe(
    (
        Stage(3000, 256, (128, 64), CLOTH),
        Stage(7000, 192, (192, 96), HALF_BY_DAY, uv_weight=8.0),
        Stage(4000, 192, (192, 96), LIGHT, uv_weight=16.0),
    ),
    uses=8,
    replicas=1,
)
"""Seven times the pictures, in batches that keep a GPU busy."""
