"""Ranges of whole numbers, laid one after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def join_ranges(first: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of all ranges, range i being the ``length[i]`` numbers from ``first[i]`` on, int64 (N,) each.

    Returns for each number the range that it is of, and the number.
    """
    owner = torch.arange(len(first), device=first.device).repeat_interleave(length)
    before = length.cumsum(0) - length
    return owner, (first - before)[owner] + torch.arange(len(owner), device=first.device)
