"""The whole-crop part of a DensePose chart model: an image in, the raw charts of the person that fills it out.

No RPN, no box head, nothing to compile: what Detectron2 computes with a given box over the whole image, from its own
checkpoints, in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional as F

from densereid.preprocess.densepose.backbone import LEVELS, Convolution, Pyramid
from densereid.preprocess.densepose.batching import Size
from densereid.preprocess.densepose.checkpoints import (
    DETECTOR_KEYS,
    PIXEL_MEAN,
    Architecture,
    check_keys,
    read_checkpoint,
)
from densereid.preprocess.densepose.decode import ChartScores
from densereid.preprocess.densepose.heads import ChartPredictor, Decoder, dense_pose_head, level_of_whole, pool_whole
from densereid.preprocess.densepose.precision import Precision, type_of
from densereid.preprocess.densepose.weights import Weights

_DIVISIBILITY = 2 ** LEVELS[-1]


class DenseposeNetwork(nn.Module):
    """Backbone, decoder, head and predictor under Detectron2's names."""

    pixel_mean: torch.Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels, head = 4 * architecture.width, 8 * architecture.width
        self.cells = 28 if architecture.decoder else 14
        self.backbone = Pyramid(architecture.depth, architecture.width)
        self.roi_heads = nn.ModuleDict()
        if architecture.decoder:
            self.roi_heads["decoder"] = Decoder(channels)
        self.roi_heads["densepose_head"] = dense_pose_head(channels, head, deeplab=architecture.deeplab)
        self.roi_heads["densepose_predictor"] = ChartPredictor(
            head,
            architecture.coarse_channels,
            uv_confidence=architecture.uv_confidence,
            segm_confidence=architecture.segm_confidence,
        )
        mean = torch.tensor(PIXEL_MEAN, device="cpu").reshape(3, 1, 1)
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Coarse, fine, U and V, raw, of BGR images (N, 3, H, W), 0..255: (N, 2 or 15 or 25, 112, 112).

        Legacy models' charts have 56 cells an edge. The charts are float32; so are the images, and the arithmetic
        between is of the parameters' type.
        """
        height, width = images.shape[2:]
        padding = (0, -width % _DIVISIBILITY, 0, -height % _DIVISIBILITY)
        kind = next(self.parameters()).dtype
        prepared = F.pad(images - self.pixel_mean, padding).to(kind, memory_format=torch.channels_last)
        pyramid = self.backbone(prepared)
        if "decoder" in self.roi_heads:
            level, features = LEVELS[0], self.roi_heads["decoder"](pyramid)
        else:
            level = level_of_whole((height, width))
            features = pyramid[level - LEVELS[0]]
        pooled = pool_whole(features, (height / 2**level, width / 2**level), self.cells)
        coarse, fine, u, v = self.roi_heads["densepose_predictor"](self.roi_heads["densepose_head"](pooled))
        return coarse.float(), fine.float(), u.float(), v.float()

    def prepare(self, device: str, precision: Precision) -> DenseposeNetwork:
        """The network made fast, in place: batch norm folded, channels last, on ``device`` in its precision."""
        for module in self.modules():
            if isinstance(module, Convolution):
                module.fold_norm()
        for part in (self.backbone, self.roi_heads):  # the mean stays float32
            part.to(type_of(precision)).to(memory_format=torch.channels_last)
        return self.to(device).requires_grad_(False)


class InferenceNetwork:
    """A prepared network, and how many crops of each input size fitted into memory.

    ``static``: every batch of an input size is filled up to the largest one that was run, for networks that are
    compiled again for every shape.
    """

    def __init__(self, module: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], *, static: bool = False) -> None:
        self.batch_limits: dict[Size, int] = {}
        self.module = module
        self._static = static
        self._rows: dict[Size, int] = {}

    def scores(self, images: torch.Tensor) -> ChartScores:
        """Raw charts of the person that fills each of the BGR images (N, 3, H, W), 0..255."""
        if not self._static:
            return ChartScores(*self.module(images))
        size = (images.shape[2], images.shape[3])
        rows = max(len(images), self._rows.get(size, 0))
        filled = torch.cat([images, images[-1:].expand(rows - len(images), -1, -1, -1)])
        scores = ChartScores(*self.module(filled))
        self._rows[size] = rows  # only what fitted into memory
        return scores[: len(images)]


def network_of(weights: Weights, architecture: Architecture) -> DenseposeNetwork:
    """The network with a checkpoint's weights, on the CPU. Raises UserError naming the keys that do not fit."""
    state = read_checkpoint(weights)
    with torch.device("meta"):  # shapes without memory: the checkpoint's own arrays become the parameters
        network = DenseposeNetwork(architecture)
    wanted = network.state_dict()
    check_keys(state, wanted, weights.path, ignored=DETECTOR_KEYS)
    network.load_state_dict({key: state[key].float() for key in wanted}, assign=True)
    return network


@lru_cache(maxsize=1)
def load_densepose(
    weights: Weights, architecture: Architecture, device: str, precision: Precision, compiled: bool
) -> InferenceNetwork:
    """The network of a checkpoint, ready to run on ``device``; the last one asked for is kept."""
    module = network_of(weights, architecture).prepare(device, precision)
    if not compiled:
        return InferenceNetwork(module)
    return InferenceNetwork(torch.compile(module, dynamic=False, fullgraph=True), static=True)
