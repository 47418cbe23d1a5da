"""Stages whose activations are computed again in the backward pass instead of being kept: less memory, equal results.

Of each convolution with its batch norm and ReLU training keeps two maps: what the convolution gave and what the next
one reads. Here the first is kept alone, and batch norm and ReLU, which cost little, are done once more; and so are the
1x1 convolutions that widen a map, a quarter of a bottleneck's arithmetic, which give the widest maps of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts


class ResidualStage(nn.Sequential):
    """Residual blocks one after the other, each a map to a map, without dropout."""

    recomputes = False
    """Whether training keeps of each block its input and what most of its convolutions gave, and nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        """What the last block gives; its values, gradients and running statistics are the same either way."""
        for block in self:
            x = _recomputed(block, x) if self.recomputes and self.training and torch.is_grad_enabled() else block(x)
        return x


def recompute_activations(network: nn.Module) -> None:
    """Let every :class:`ResidualStage` of the network do so."""
    for module in network.modules():
        if isinstance(module, ResidualStage):
            module.recomputes = True


def _policy(_context: Any, operator: Any, *operands: Any, **_options: object) -> CheckpointPolicy:
    if operator is torch.ops.aten.convolution.default:
        x, weight = operands[:2]
        widens = len(weight) > x.shape[1] and set(weight.shape[2:]) == {1}
        return CheckpointPolicy.PREFER_RECOMPUTE if widens else CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _recomputed(block: nn.Module, x: Tensor) -> Tensor:
    copies: dict[str, Tensor] = {}

    @contextmanager
    def on_copies(again: AbstractContextManager[Any]) -> Iterator[None]:
        # Batch norms take a batch's statistics whenever they see it, and track them once.
        copies.update({name: buffer.clone() for name, buffer in block.named_buffers()})
        with again:
            yield

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        first, again = create_selective_checkpoint_contexts(_policy)
        return first, on_copies(again)

    def run(x: Tensor) -> Tensor:
        result: Tensor = functional_call(block, copies, (x,))
        return result

    result: Tensor = checkpoint(run, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return result
