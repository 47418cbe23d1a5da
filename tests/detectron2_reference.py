"""Detectron2's own way from a crop to IUV, one image at a time, and how near ours comes to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.images import Crop

FIELDS = ("coarse", "fine", "u", "v")


def one_at_a_time(model: Any, crop: Crop, short_edge: int) -> Any:
    """Detectron2's given-box output of one image: its augmentation, its inference, the box in network pixels."""
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.structures import Boxes, Instances

    bgr = crop.pixels[:, :, ::-1]
    image = ResizeShortestEdge([short_edge, short_edge], 1333).get_transform(bgr).apply_image(bgr)
    height, width = image.shape[:2]
    given = Instances((height, width))
    given.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, width, height]]))
    given.pred_classes = torch.zeros(1, dtype=torch.int64)
    tensor = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
    inputs = [{"image": tensor, "height": crop.pixels.shape[0], "width": crop.pixels.shape[1]}]
    with torch.no_grad():
        found = model.inference(inputs, detected_instances=[given], do_postprocess=False)
    return found[0].pred_densepose


def scores_of(output: Any) -> ChartScores:
    """A predictor's output under our names."""
    return ChartScores(output.coarse_segm, output.fine_segm, output.u, output.v)


def as_iuv(result: Any) -> np.ndarray:
    """Detectron2's labels and uv as our bytes: clamped, rounded, channels last."""
    uv = (255 * result.uv.clamp(0, 1)).round().to(torch.uint8)
    return torch.stack([result.labels.to(torch.uint8), uv[0], uv[1]], dim=-1).numpy()


def converted(output: Any, size: tuple[int, int]) -> np.ndarray:
    """IUV at (height, width) by DensePose's own converter."""
    from densepose.converters import ToChartResultConverter
    from detectron2.structures import Boxes

    box = Boxes(torch.tensor([[0.0, 0.0, size[1], size[0]]]))
    return as_iuv(ToChartResultConverter.convert(output, box))


def relative_error(ours: ChartScores, theirs: ChartScores) -> float:
    """Largest difference of any chart, as a share of that chart's largest value."""
    pairs = [(getattr(ours, name), getattr(theirs, name)) for name in FIELDS]
    return max(float((mine - other).abs().max() / other.abs().max()) for mine, other in pairs)


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the pixels whose part is the same and whose U and V differ by one at most."""
    same_part = first[..., 0] == second[..., 0]
    near = np.abs(first[..., 1:].astype(int) - second[..., 1:]).max(axis=-1) <= 1
    return float((same_part & near).mean())
