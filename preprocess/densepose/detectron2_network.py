"""The DensePose network as Detectron2 builds and runs it.

Neither detectron2 nor densepose is on a package index; everything else works without them.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import torch

from densereid.preprocess.densepose.batching import Size
from densereid.preprocess.densepose.checkpoints import Architecture, check_keys, read_checkpoint
from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.densepose.precision import check_finite
from densereid.preprocess.densepose.weights import Weights

_CENTRE_SPREAD = 0.25
"""Standard deviation of the centre prior, in image widths and heights."""


def missing() -> str | None:
    """Why Detectron2 and DensePose cannot be imported, or None where they can."""
    for module in ("detectron2", "densepose"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Detectron2 warns on every import
                importlib.import_module(module)
        except Exception as error:  # a broken installation raises anything, and is as good as none
            return f"{module} cannot be imported: {type(error).__name__}: {error}"
    return None


@dataclass(frozen=True)
class Detection:
    """The person chosen in an image: its box in network pixels, float32 (4,), and in the file's, and its score."""

    network_box: torch.Tensor
    box: torch.Tensor
    score: float


class Detectron2Network:
    """A DensePose network of Detectron2 in its steps, so that the backbone runs once whatever the mode."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self.batch_limits: dict[Size, int] = {}
        for detector in (model.proposal_generator.rpn_head, model.roi_heads.box_predictor):
            detector.register_forward_hook(_check_detector)

    def features(self, images: torch.Tensor) -> tuple[Any, Any]:
        """Detectron2's ImageList and feature pyramid of float32 BGR images (batch, 3, height, width)."""
        prepared = self.model.preprocess_image([{"image": image} for image in images])
        return prepared, self.model.backbone(prepared.tensor)

    def scores(self, features: tuple[Any, Any], boxes: Sequence[torch.Tensor | None]) -> ChartScores:
        """Raw chart scores, one person an image: in its box in network pixels, or in the whole image for None."""
        from detectron2.structures import Boxes, Instances

        images, pyramid = features
        instances = []
        for (height, width), box in zip(images.image_sizes, boxes, strict=True):
            edges = images.tensor.new_tensor([0, 0, width, height]) if box is None else box
            kind = torch.zeros(1, dtype=torch.int64, device=edges.device)
            instances.append(Instances((height, width), pred_boxes=Boxes(edges[None]), pred_classes=kind))
        posed = self.model.roi_heads.forward_with_given_boxes(pyramid, instances)
        outputs = [instance.pred_densepose for instance in posed]
        fields = ("coarse_segm", "fine_segm", "u", "v")
        return ChartScores(*(torch.cat([getattr(output, name) for output in outputs]) for name in fields))

    def detect(self, features: tuple[Any, Any], sizes: Sequence[Size]) -> list[Detection | None]:
        """The person chosen in each image of (height, width) ``sizes``, or None where the detector finds no person.

        Raises FloatingPointError where anything in the detector is NaN or infinite, of which Detectron2 says nothing.
        """
        images, pyramid = features
        proposals, _ = self.model.proposal_generator(images, pyramid, None)
        # Boxes alone: of up to 100 detections one gets a dense pose.
        detected = self.model.roi_heads._forward_box(pyramid, proposals)
        return [
            choose_person(detections.pred_boxes.tensor, detections.scores, network_size, size)
            for detections, network_size, size in zip(detected, images.image_sizes, sizes, strict=True)
        ]


def _check_detector(_module: Any, _inputs: Any, outputs: Any) -> None:
    """Detectron2 drops boxes and scores that are not finite, and would find no person."""
    scores, boxes = outputs
    for found in (scores, boxes):
        check_finite(found if isinstance(found, list) else [found], "detector")


def choose_person(boxes: torch.Tensor, scores: torch.Tensor, network_size: Size, size: Size) -> Detection | None:
    """The detection of the best person, or None of none.

    ``boxes``: (detections, 4) x0 y0 x1 y1 in network pixels of an image that is ``network_size`` there and ``size``
    in its file.
    """
    scale = (size[1] / network_size[1], size[0] / network_size[0])
    border = boxes.new_tensor((size[1], size[0]) * 2)
    scaled = torch.minimum((boxes.float() * boxes.new_tensor(scale * 2)).clamp(min=0), border)
    best = best_person(scaled, scores, size)
    return None if best is None else Detection(boxes[best].float(), scaled[best], float(scores[best]))


def best_person(boxes: torch.Tensor, scores: torch.Tensor, size: Size) -> int | None:
    """Which detection has the largest score x centre prior; the first of equals, None where none has an area.

    ``boxes``: (detections, 4) x0 y0 x1 y1 in pixels of an image of ``size``, within it. The prior is a Gaussian of the
    distance between the box's centre and the image's, in image widths and heights, of standard deviation 0.25.
    """
    border = boxes.new_tensor((size[1], size[0]) * 2)
    usable = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not usable.any():
        return None
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / border[:2]
    prior = torch.exp(-((centre - 0.5) ** 2).sum(dim=1) / (2 * _CENTRE_SPREAD**2))
    weighted = torch.where(usable, scores.float() * prior, -1).tolist()
    return weighted.index(max(weighted))


def installed_versions() -> dict[str, str]:
    """Version of both packages, and the commit where pip knows it."""
    versions = {}
    for package in ("detectron2", "detectron2-densepose"):
        try:
            installed = distribution(package)
        except PackageNotFoundError:
            continue  # on the path without being installed
        commit = json.loads(installed.read_text("direct_url.json") or "{}").get("vcs_info", {}).get("commit_id", "")
        versions[package] = f"{installed.version}+{commit[:8]}" if commit else installed.version
    return versions


@lru_cache(maxsize=1)
def load_detectron2(weights: Weights, architecture: Architecture, device: str) -> Detectron2Network:
    """The network of a checkpoint on ``device``. Raises UserError naming the keys where the two do not fit."""
    model = build_detectron2(architecture, device)
    state = read_checkpoint(weights)
    check_keys(state, model.state_dict(), weights.path)
    model.load_state_dict(state, strict=False)  # what may be absent or extra has been checked
    return Detectron2Network(model)


def build_detectron2(architecture: Architecture, device: str) -> Any:
    """Detectron2's model of that architecture, with random weights from torch's generator, in training mode."""
    from detectron2.modeling import build_model

    return build_model(config_of(architecture, device))


_LEVELS = ["res2", "res3", "res4", "res5"]
_FACTS: dict[str, Any] = {
    "VERSION": 2,
    "MODEL.WEIGHTS": "",
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": _LEVELS,
    "MODEL.FPN.IN_FEATURES": _LEVELS,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NAME": "DensePoseROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_DENSEPOSE_HEAD.POOLER_TYPE": "ROIAlign",
}
"""What all chart models have in common, from DensePose's YAML files, which pip leaves out."""


def config_of(architecture: Architecture, device: str) -> Any:
    """Detectron2's config of a chart model, with the figures of DensePose's YAML files."""
    from densepose import add_densepose_config
    from detectron2.config import get_cfg

    config = get_cfg()
    add_densepose_config(config)
    head = "MODEL.ROI_DENSEPOSE_HEAD"
    settings: dict[str, Any] = {
        **_FACTS,
        "MODEL.DEVICE": device,
        "MODEL.RESNETS.DEPTH": architecture.depth,
        f"{head}.NAME": "DensePoseDeepLabHead" if architecture.deeplab else "DensePoseV1ConvXHead",
        f"{head}.NUM_COARSE_SEGM_CHANNELS": architecture.coarse_channels,
        f"{head}.DECODER_ON": architecture.decoder,
        f"{head}.POOLER_RESOLUTION": 28 if architecture.decoder else 14,
        f"{head}.UV_CONFIDENCE.ENABLED": bool(architecture.uv_confidence),
        f"{head}.UV_CONFIDENCE.TYPE": architecture.uv_confidence or "iid_iso",
        f"{head}.SEGM_CONFIDENCE.ENABLED": architecture.segm_confidence,
        **_widths(architecture.width),
    }
    config.merge_from_list([part for setting in settings.items() for part in setting])
    return config


def _widths(width: int) -> dict[str, int]:
    """Everything that is a multiple of the stem's channels; 64 gives Detectron2's defaults."""
    return {
        "MODEL.RESNETS.STEM_OUT_CHANNELS": width,
        "MODEL.RESNETS.WIDTH_PER_GROUP": width,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 4 * width,
        "MODEL.FPN.OUT_CHANNELS": 4 * width,
        "MODEL.ROI_DENSEPOSE_HEAD.DECODER_CONV_DIMS": 4 * width,
        "MODEL.ROI_DENSEPOSE_HEAD.DECODER_NUM_CLASSES": 4 * width,
        "MODEL.ROI_DENSEPOSE_HEAD.CONV_HEAD_DIM": 8 * width,
    }
