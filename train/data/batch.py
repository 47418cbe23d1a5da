"""A training batch: as the store keeps it (bytes), and as a network takes it (normalised floats)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

_Tensors = TypeVar("_Tensors", bound="TensorFields")


class TensorFields:
    """Moves every tensor of a dataclass at once; fields that are None stay None."""

    def to(self: _Tensors, device: torch.device | str) -> _Tensors:
        """The same on ``device``; copies from pinned memory do not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: _Tensors) -> _Tensors:
        """The same in page-locked memory; the DataLoader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are not None, by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if value is not None}

    def _each(self: _Tensors, change: Any) -> _Tensors:
        moved = {name: change(value) for name, value in self.tensors().items()}
        return replace(self, **moved)  # type: ignore[type-var]

    def __len__(self) -> int:
        return len(self.image)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Batch(TensorFields):
    """B samples as stored. An array that the network does not need is None.

    image: uint8 (B, 3, H, W) RGB, in channels-last memory. dsap: uint8 (B, 24, 3, S, S), row is U,
    column V. valid: bool (B, 24, S, S), texels that a pixel reached. mask: uint8 (B, H, W), 0..7.
    identity: int64 (B,), 0..num_identities-1. camera: int64 (B,), as stored. row: int64 (B,), in the store.
    """

    image: Tensor
    identity: Tensor
    camera: Tensor
    row: Tensor
    dsap: Tensor | None = None
    valid: Tensor | None = None
    mask: Tensor | None = None


@dataclass
class Inputs(TensorFields):
    """B samples as a network takes them: augmented and normalised with ImageNet's mean and deviation.

    image: float32 (B, 3, H, W). dsap: float32 (B, 24, 3, S, S), exactly 0 where invalid.
    mask: uint8 (B, H, W), moved with the image. identity and camera: int64 (B,). regions: bool (8,), the
    mask labels that MagnifierNet's regularising branch sees of this batch.
    Not frozen, because Fabric's mixed precision copies it field by field.
    """

    image: Tensor
    identity: Tensor
    camera: Tensor
    dsap: Tensor | None = None
    mask: Tensor | None = None
    regions: Tensor | None = None
