"""Estimators that misbehave, importable by worker processes: one kills its worker once, one fails on one image."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocess.estimator import Charts, Crop
from preprocess.iuv import IuvEstimator


@dataclass(frozen=True)
class KillsItsWorkerOnce:
    """Behaves as ``inner``, but the first worker that sees the image ``path`` dies of SIGKILL."""

    inner: IuvEstimator
    path: str
    flag: Path
    name: str = "iuv"

    def settings(self) -> dict[str, Any]:
        return self.inner.settings()

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        if any(crop.record.path == self.path for crop in crops) and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.estimate(crops, size)


@dataclass(frozen=True)
class FailsOn:
    """Behaves as ``inner``, but raises for the image ``path``."""

    inner: IuvEstimator
    path: str
    name: str = "iuv"

    def settings(self) -> dict[str, Any]:
        return self.inner.settings()

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        if any(crop.record.path == self.path for crop in crops):
            raise RuntimeError(f"cannot stand {self.path}")
        return self.inner.estimate(crops, size)
