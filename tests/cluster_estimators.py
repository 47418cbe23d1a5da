"""For worker processes: estimators that kill their worker once, fail on one image or take some whole; a seat."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densereid.preprocess.estimators.base import Charts, EstimatorInputs
from densereid.preprocess.estimators.iuv import IuvEstimator
from densereid.preprocess.images import Crop


@dataclass(frozen=True)
class Around:
    """Behaves as ``inner``."""

    inner: IuvEstimator

    @property
    def name(self) -> str:
        return self.inner.name

    def settings(self) -> dict[str, Any]:
        return self.inner.settings()

    def inputs(self, image: str) -> EstimatorInputs:
        return self.inner.inputs(image)

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        return self.inner.estimate(crops, size)


@dataclass(frozen=True)
class KillsItsWorkerOnce(Around):
    """The first worker that sees the image ``path`` dies of SIGKILL."""

    path: str
    flag: Path

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        if any(crop.record.path == self.path for crop in crops) and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.estimate(crops, size)


@dataclass(frozen=True)
class FailsOn(Around):
    """Raises for the image ``path``."""

    path: str

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        if any(crop.record.path == self.path for crop in crops):
            raise RuntimeError(f"cannot stand {self.path}")
        return self.inner.estimate(crops, size)


@dataclass(frozen=True)
class TakesWhole(Around):
    """Says that its detector found nobody in the images of ``paths``."""

    paths: frozenset[str]

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        is_fallback = np.array([crop.record.path in self.paths for crop in crops])
        return replace(self.inner.estimate(crops, size), is_fallback=is_fallback)


def seat(number: int) -> tuple[int, str]:
    """Threads of torch, and the GPU that can be seen, in the worker that is asked; slow, so that all are asked."""
    import torch

    time.sleep(0.3)
    return torch.get_num_threads(), os.environ["CUDA_VISIBLE_DEVICES"]
