"""What every dense pose estimator takes and returns: a batch of images in, a batch of charts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from densereid.preprocess.images import Crop


@dataclass(frozen=True)
class Charts:
    """Dense pose of a batch at the canonical size.

    ``iuv``: uint8 (batch, height, width, 3) in the order I, U, V, on the estimator's device; no part = no person.
    ``score``: float32 (batch,), 0..1 or NaN. ``box``: float32 (batch, 4), x0 y0 x1 y1 in the file's pixels.
    ``failures``: reason by position in the batch, for crops the estimator could not treat (their iuv is 0).
    ``is_fallback``: bool (batch,), the crops used whole because a detector found no person; None where no
    detector is used.
    """

    iuv: torch.Tensor
    score: np.ndarray
    box: np.ndarray
    failures: Mapping[int, str] = field(default_factory=dict)
    is_fallback: np.ndarray | None = None


@dataclass(frozen=True)
class EstimatorInputs:
    """What the dense pose of one image follows from beside the image itself; nothing, where a network computes it.

    ``files``: read for it; one that is missing counts, too, because it may come. ``note``: whatever else there is.
    """

    files: tuple[Path, ...] = ()
    note: str = ""


class Estimator(Protocol):
    """A source of dense pose. Instances pickle, so that worker processes can load their own."""

    @property
    def name(self) -> str:
        """The word after ESTIMATOR=."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything that changes the result, in plain JSON types; recorded in the store and compared on resume."""
        ...

    def inputs(self, image: str) -> EstimatorInputs:
        """What else than the image of this path decides its charts: where it changes, the image is estimated again."""
        ...

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        """Charts of the crops at the canonical size (height, width)."""
        ...
