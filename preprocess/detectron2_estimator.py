"""ESTIMATOR=detectron2: DensePose of whole crops, or of the persons detected in them, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from data_catalog.errors import UserError
from preprocess.batches import Size, group_by_network_size, network_input, run_in_batches
from preprocess.checkpoints import Architecture, architecture_of, read_checkpoint
from preprocess.decode import ChartScores, decode, decode_box
from preprocess.detectron2_densepose import Detection, Network, installed_versions, load_network, missing
from preprocess.estimator import Charts, Crop
from preprocess.weights import Weights, find_weights

Mode = Literal["crop", "detect"]
"""``crop``: the whole image is the person's box. ``detect``: RPN and box head find the box."""

Precision = Literal["fp32", "fp16", "bf16"]

GUIDE = "https://github.com/facebookresearch/detectron2/blob/main/INSTALL.md"
DENSEPOSE_GUIDE = "https://github.com/facebookresearch/detectron2/tree/main/projects/DensePose"

_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Detectron2Estimator:
    """DensePose of crops with one checkpoint; the network is loaded once per process, on first use.

    ``short_edge``: the network's input size. ``fallback``: in detect mode, an image without a detection is taken
    whole; otherwise nobody is found in it.
    """

    weights: Weights
    architecture: Architecture
    device: str = "cpu"
    mode: Mode = "crop"
    short_edge: int = 256
    precision: Precision = "fp32"
    fallback: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    name: str = "detectron2"

    def settings(self) -> dict[str, Any]:
        """Config, digest of the weights, mode, input size, precision, and the versions of what ran."""
        detection = {"fallback": self.fallback} if self.mode == "detect" else {}
        return {
            "config": self.architecture.name,
            "weights_sha256": self.weights.sha256,
            "mode": self.mode,
            "short_edge": self.short_edge,
            "precision": self.precision,
            **detection,
            "versions": self.versions,
        }

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        """Charts of the crops; each crop has one person, the whole image or the detection chosen in it.

        The score is the detection's, or of a whole crop the mean foreground probability on the body; 0 where nobody
        is found. Raises UserError when not even one crop fits into the device's memory.
        """
        network = load_network(self.weights, self.architecture, self.device)
        result = Charts(
            iuv=torch.zeros(len(crops), *size, 3, dtype=torch.uint8, device=self.device),
            score=np.zeros(len(crops), np.float32),
            box=_whole_images(crops),
            whole=np.zeros(len(crops), bool) if self.mode == "detect" else None,
        )
        for inner, members in group_by_network_size(crops, self.short_edge).items():
            compute = partial(self._charts, network, crops, inner, size)
            batches = run_in_batches(compute, members, inner, device=self.device, limits=network.batch_limits)
            for batch, charts in batches:
                result.iuv[batch], result.score[batch], result.box[batch] = charts.iuv, charts.score, charts.box
                if result.whole is not None:
                    result.whole[batch] = charts.whole
        return result

    @torch.inference_mode()
    def _charts(
        self, network: Network, crops: Sequence[Crop], inner: Size, size: tuple[int, int], batch: list[int]
    ) -> Charts:
        """Charts of the crops at the positions ``batch``, which all enter the network at size ``inner``."""
        taken = [crops[index] for index in batch]
        kind = _TYPES[self.precision]
        with torch.autocast(torch.device(self.device).type, kind, enabled=kind != torch.float32):
            features = network.features(network_input(taken, inner, self.device))
            sizes = [crop.pixels.shape[:2] for crop in taken]
            found = network.detect(features, sizes) if self.mode == "detect" else [None] * len(taken)
            scores = network.scores(features, [None if one is None else one.inner for one in found])
        iuv, score = decode(scores, size)
        whole = np.array([one is None and self.fallback for one in found]) if self.mode == "detect" else None
        charts = Charts(iuv, score.cpu().numpy(), _whole_images(taken), whole=whole)
        if self.mode == "detect":
            for index, one in enumerate(found):
                self._put_detection(charts, index, one, scores[index : index + 1], sizes[index])
        return charts

    def _put_detection(
        self, charts: Charts, index: int, found: Detection | None, scores: ChartScores, image: Size
    ) -> None:
        """Replace the whole crop's chart by the detection's, or by nobody where there is none and no fallback."""
        if found is not None:
            scale = np.array(charts.iuv.shape[1:3]) / image
            box = found.box * found.box.new_tensor((*scale[::-1], *scale[::-1]))
            charts.iuv[index] = decode_box(scores, box, (charts.iuv.shape[1], charts.iuv.shape[2]))
            charts.score[index], charts.box[index] = found.score, found.box.cpu().numpy()
        elif not self.fallback:
            charts.iuv[index], charts.score[index] = 0, 0


def _whole_images(crops: Sequence[Crop]) -> np.ndarray:
    return np.array([(0, 0, *crop.pixels.shape[1::-1]) for crop in crops], np.float32).reshape(-1, 4)


def open_detectron2(
    weights: str,
    *,
    device: str,
    mode: Mode,
    short_edge: int,
    precision: Precision,
    fallback: bool,
    notify: Callable[[str], None],
) -> Detectron2Estimator:
    """The estimator with the weights of that name or path, which are found, pinned and read once to be sure of them.

    Raises UserError where Detectron2 or DensePose is missing, and for everything that is wrong with the weights.
    """
    reason = missing()
    if reason is not None:
        raise UserError(
            f"ESTIMATOR=detectron2 needs Detectron2 and DensePose: {reason}",
            f"Detectron2's own guide: {GUIDE}\nDensePose, a separate package of the same repository: {DENSEPOSE_GUIDE}",
        )
    if short_edge < 1:
        raise UserError(f"SHORT_EDGE is {short_edge}", "expected pixels, for example 256 (Detectron2's own is 800)")
    found = find_weights(weights, notify)
    architecture = architecture_of(read_checkpoint(found), found.path)
    return Detectron2Estimator(found, architecture, device, mode, short_edge, precision, fallback, installed_versions())
