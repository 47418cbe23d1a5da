"""Whether tensors by name hold finite numbers, said in words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_NAMED = 3


def not_finite(tensors: Mapping[str, object]) -> str:
    """Which tensors hold NaN or infinity, and how many of their values, in words; empty where none does.

    What is no tensor of floating point numbers is passed over.
    """
    values = {name: value for name, value in tensors.items() if isinstance(value, Tensor) and value.is_floating_point()}
    if not values or bool(torch.stack([value.isfinite().all().cpu() for value in values.values()]).all()):
        return ""
    wrong = {name: int((~value.isfinite()).sum()) for name, value in values.items()}
    named = [f"{name} ({number} of {values[name].numel()} values)" for name, number in wrong.items() if number]
    more = ", ..." if len(named) > _NAMED else ""
    return f"{len(named)} of {len(values)} tensors hold NaN or infinite values: {', '.join(named[:_NAMED])}{more}"
