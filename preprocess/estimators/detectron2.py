"""ESTIMATOR=detectron2: DensePose of whole crops, or of the persons detected in them, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.batching import Size, network_input
from densereid.preprocess.densepose.decode import ChartScores, decode_box, decode_charts
from densereid.preprocess.densepose.detectron2_network import (
    Detection,
    Detectron2Network,
    installed_versions,
    load_detectron2,
    missing,
)
from densereid.preprocess.densepose.precision import Precision, check_finite, tell_precision, type_of
from densereid.preprocess.densepose.weights import Weights, pin
from densereid.preprocess.estimators.base import Charts
from densereid.preprocess.estimators.network_estimator import NetworkEstimator, open_weights, whole_images
from densereid.preprocess.images import Crop

Mode = Literal["crop", "detect"]
"""``crop``: the whole image is the person's box. ``detect``: RPN and box head find the box."""

GUIDE = "https://github.com/facebookresearch/detectron2/blob/main/INSTALL.md"
DENSEPOSE_GUIDE = "https://github.com/facebookresearch/detectron2/tree/main/projects/DensePose"


@dataclass(frozen=True)
class Detectron2Estimator(NetworkEstimator[Detectron2Network]):
    """DensePose by Detectron2, of the whole image or of the detection chosen in it.

    A score is the detection's, or of a whole crop the mean foreground probability on the body; 0 where no person
    is found. ``fallback``: in detect mode, an image without a detection is used whole; otherwise it has no person.
    """

    mode: Mode
    fallback: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    name: str = "detectron2"

    def settings(self) -> dict[str, Any]:
        """What changes the result, with the mode and the versions of what ran."""
        detection = {"fallback": self.fallback} if self.mode == "detect" else {}
        return {**super().settings(), "mode": self.mode, **detection, "versions": self.versions}

    def network(self) -> Detectron2Network:
        """The loaded network; the last one asked for is kept."""
        return load_detectron2(self.weights, self.architecture, self.device)

    @torch.inference_mode()
    def charts(self, network: Detectron2Network, crops: Sequence[Crop], network_size: Size, size: Size) -> Charts:
        """Charts of crops of one input size."""
        kind = type_of(self.precision)
        with torch.autocast(torch.device(self.device).type, kind, enabled=kind != torch.float32):
            features = network.features(network_input(crops, network_size, self.device))
            sizes = [crop.size for crop in crops]
            detections = network.detect(features, sizes) if self.mode == "detect" else [None] * len(crops)
            boxes = [None if detection is None else detection.network_box for detection in detections]
            scores = network.scores(features, boxes)
        check_finite(scores.all(), "charts")
        iuv, score = decode_charts(scores, size)
        charts = Charts(iuv, score.cpu().numpy(), whole_images(crops))
        if self.mode != "detect":
            return charts
        for index, detection in enumerate(detections):
            self._put_detection(charts, index, detection, scores[index : index + 1], sizes[index])
        is_fallback = np.array([detection is None and self.fallback for detection in detections])
        return replace(charts, is_fallback=is_fallback)

    def _put_detection(
        self, charts: Charts, index: int, detection: Detection | None, scores: ChartScores, image: Size
    ) -> None:
        """Replace the whole crop's chart by the detection's, or by none where there is no detection and no fallback."""
        if detection is not None:
            scale = np.array(charts.iuv.shape[1:3]) / image
            box = detection.box * detection.box.new_tensor((*scale[::-1], *scale[::-1]))
            charts.iuv[index] = decode_box(scores, box, (charts.iuv.shape[1], charts.iuv.shape[2]))
            charts.score[index], charts.box[index] = detection.score, detection.box.cpu().numpy()
        elif not self.fallback:
            charts.iuv[index], charts.score[index] = 0, 0


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
    """The estimator with the weights of that name or path, which are found, loaded to be sure of them, and pinned.

    Raises UserError where Detectron2 or DensePose is missing, and for everything that is wrong with the weights.
    """
    reason = missing()
    if reason is not None:
        raise UserError(
            f"ESTIMATOR=detectron2 needs Detectron2 and DensePose: {reason}",
            f"Detectron2's own guide: {GUIDE}\nDensePose, a separate package of the same repository: {DENSEPOSE_GUIDE}",
        )
    path, found = open_weights(weights, device=device, precision=precision, short_edge=short_edge, notify=notify)
    estimator = Detectron2Estimator(
        Weights(path, found.sha256), found.architecture, device, short_edge, precision, mode, fallback,
        installed_versions(),
    )  # fmt: skip
    estimator.network()
    pin(estimator.weights)
    tell_precision(device, precision, notify)
    return estimator
