"""Muon: weights move along the orthogonal matrix next to their momentum (Jordan et al., 2024, Muon, for hidden layers).

With the size of an AdamW step (Liu et al., 2025, arXiv 2502.16982), so that both share a learning rate. torch has it
from 2.9 on, for matrices alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95

_ADAM_SIZE = 0.2
"""Root mean square of an AdamW step divided by its learning rate."""

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Five rounds of it bring singular values from 0.002 to 1 near to 1."""


class Muon(torch.optim.Optimizer):
    """For weights of two dimensions or more, of which the first is the output."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in alike.items():
                steps = orthogonal(torch.stack([self._momentum(each) for each in parameters]))
                size = group["lr"] * _ADAM_SIZE * max(shape) ** 0.5
                for parameter, step in zip(parameters, steps, strict=True):
                    parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                    parameter.sub_(step.reshape(parameter.shape).to(parameter.dtype), alpha=size)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Nesterov's, as a matrix."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1.0 - MOMENTUM)
        return gradient.lerp(state["momentum"], MOMENTUM).flatten(1)


def orthogonal(matrices: Tensor) -> Tensor:
    """The matrices (N, rows, columns) with all singular values near 1 (0.7 to 1.2), in bfloat16: Newton-Schulz."""
    wide = matrices.shape[1] <= matrices.shape[2]
    found = (matrices if wide else matrices.transpose(1, 2)).bfloat16()
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(5):
        square = found @ found.transpose(1, 2)
        found = a * found + (b * square + c * square @ square) @ found
    return found if wide else found.transpose(1, 2)
