"""What the network's scores cost: DensePose's losses (Güler et al., CVPR 2018, section 3.2), at every pixel.

DensePose has annotated points; a rendered picture has them all.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from densereid.preprocess.densepose.decode import ChartScores

UV_WEIGHT = 4.0
"""Of U and V at first, whose errors are a twentieth where those of the labels are a fifth."""


def chart_losses(scores: ChartScores, iuv: Tensor, uv_weight: float = UV_WEIGHT) -> dict[str, Tensor]:
    """Cross entropy of coarse and fine, smooth L1 of U and V on each pixel's own part; their weighted sum is ``total``.

    ``iuv``: uint8 (N, H, W, 3) in the order I, U, V, at any size: the nearest pixels are taken.
    """
    truth = F.interpolate(iuv.permute(0, 3, 1, 2).float(), scores.fine.shape[2:], mode="nearest-exact")
    part, charts = truth[:, 0].long(), truth[:, 1:] / 255.0
    coarse = F.cross_entropy(scores.coarse.float(), (part > 0).long())
    fine = F.cross_entropy(scores.fine.float(), part)
    body = (part > 0).float()
    errors = []
    for predicted, true in zip((scores.u, scores.v), charts.unbind(1), strict=True):
        own = predicted.float().gather(1, part[:, None])[:, 0]
        difference = F.smooth_l1_loss(own, true, beta=0.05, reduction="none")
        errors.append((difference * body).sum() / body.sum().clamp(min=1))
    total = coarse + fine + uv_weight * (errors[0] + errors[1])
    return {"coarse": coarse, "fine": fine, "u": errors[0], "v": errors[1], "total": total}


def finite(losses: dict[str, Tensor]) -> bool:
    """Whether the sum is a number."""
    return bool(torch.isfinite(losses["total"]))
