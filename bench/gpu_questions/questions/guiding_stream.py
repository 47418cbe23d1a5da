"""DSAG-Stream's separate branches three ways: grouped convolutions, batched matrix products, one branch at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.questions.timing import forget, gigabytes, seconds_each
from densereid.train.networks.guiding_stream import GuidingStream

PARTS = 24
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class MatrixProducts(nn.Module):
    """A grouped convolution as one batched product: columns of patches, group by group."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, h, w) of (B, in, H, W), as the layer's own."""
        layer = self.layer
        edge, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
        assert isinstance(padding, int), "no padding by name"
        height, width = ((size + 2 * padding - edge) // stride + 1 for size in x.shape[2:])
        columns = F.unfold(x, edge, padding=padding, stride=stride).unflatten(1, (layer.groups, -1))
        weight = layer.weight.unflatten(0, (layer.groups, -1)).flatten(2)
        return torch.einsum("gok,bgkp->bgop", weight, columns).flatten(1, 2).unflatten(2, (height, width))


class OneByOne(nn.Module):
    """A grouped convolution as ordinary ones, group after group."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, h, w) of (B, in, H, W), as the layer's own."""
        layer = self.layer
        pairs = zip(x.chunk(layer.groups, 1), layer.weight.chunk(layer.groups), strict=True)
        return torch.cat([F.conv2d(part, weight, None, layer.stride, layer.padding) for part, weight in pairs], 1)


def with_branches(stream: nn.Module, way: Callable[[nn.Conv2d], nn.Module]) -> nn.Module:
    """A copy of the stream whose grouped convolutions are computed that way; the weights are the same."""
    changed = copy.deepcopy(stream)
    for parent in list(changed.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                setattr(parent, name, way(layer))
    return changed


def ways(stream: nn.Module) -> dict[str, tuple[nn.Module, torch.memory_format]]:
    """The stream by how its branches are computed, and the layout of its maps; the first is how training does it."""
    last, first = torch.channels_last, torch.contiguous_format
    return {
        "grouped convolutions, channels last": (stream, last),
        "grouped convolutions, channels first": (stream, first),
        "batched matrix products": (with_branches(stream, MatrixProducts), first),
        "one branch at a time, channels last": (with_branches(stream, OneByOne), last),
    }


def answer(context: Context, answer: Answer) -> None:
    """Forward and backward of the whole stream in each way."""
    channels, batch, edge = context.scale.guide
    title = f"DSAG-Stream, forward and backward, {batch} x {PARTS} part images of {edge}x{edge}, {channels} channels"
    add = answer.table(title, ("precision", "way", "ms", "speed", "peak memory, GB"))
    torch.manual_seed(0)
    stream = GuidingStream(channels).to(context.device)
    dsap = torch.randn(batch, PARTS, 3, edge, edge, device=context.device)
    for precision in context.scale.precisions:
        kind = TYPES[precision]
        baseline: float | None = None
        for way, (module, layout) in ways(stream).items():
            took = answer.attempt(f"{precision}, {way}", one, context, module, layout, dsap, kind)
            if took is None:
                continue
            baseline = baseline or took
            name = way.replace(",", "").replace(" ", "_")
            answer.figure(f"guiding-stream.{precision}.{name}.seconds", took, "seconds")
            add(precision, way, f"{1e3 * took:.1f}", f"{baseline / took:.2f}x", gigabytes(context.device))


def one(context: Context, module: nn.Module, layout: torch.memory_format, dsap: Tensor, kind: torch.dtype) -> float:
    """Seconds of a forward and a backward pass."""
    module = module.to(memory_format=layout).train()
    device = torch.device(context.device).type
    forget(context.device)

    def both() -> None:
        module.zero_grad(set_to_none=True)
        with torch.autocast(device, kind, enabled=kind != torch.float32):
            found = module(dsap)
        torch.stack([value.float().square().mean() for value in found.values()]).sum().backward()

    return seconds_each(both, context.device, context.scale.least_seconds)
