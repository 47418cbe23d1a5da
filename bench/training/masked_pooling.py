"""MagnifierNet's eight masked max-pools, forward and backward: ours against a loop over the parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.report import print_markdown_table, seconds
from densereid.data_catalog.parts import NUM_MASK_LABELS
from densereid.train.networks.magnifiernet_branches import masked_max_pool
from densereid.train.networks.regions import one_hot_part_maps

SHAPES = ((64, 1024, 24, 12), (32, 64, 8, 4))
"""(B, C, h, w) of the papers' configuration and of the small one."""


def by_parts(features: Tensor, part_maps: Tensor) -> Tensor:
    """What people write: a product and a pooling for each part."""
    pooled = [(features * part_maps[:, part : part + 1]).amax((2, 3)) for part in range(NUM_MASK_LABELS)]
    return torch.stack(pooled, 1)


def _both_ways(pool: Callable[[Tensor, Tensor], Tensor], features: Tensor, part_maps: Tensor) -> float:
    def once() -> None:
        features.grad = None
        pool(features, part_maps).sum().backward()
        assert features.grad is not None
        features.grad[0, 0, 0, 0].item()  # waits for the device

    return seconds(once)


def main() -> None:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows = []
    for device in devices:
        for shape in SHAPES:
            features = torch.rand(shape, device=device).to(memory_format=torch.channels_last).requires_grad_()
            part_maps = one_hot_part_maps(torch.randint(0, NUM_MASK_LABELS, (shape[0], *shape[2:]), device=device))
            assert torch.equal(by_parts(features, part_maps), masked_max_pool(features, part_maps))
            loop, ours = (_both_ways(pool, features, part_maps) for pool in (by_parts, masked_max_pool))
            size = "x".join(map(str, shape))
            rows.append((f"{size}, {device}", f"{1e3 * loop:.1f}", f"{1e3 * ours:.1f}", f"{loop / ours:.1f}x"))
    print_markdown_table(
        "Eight masked max-pools, there and back", ("map", "loop, ms", "ours, ms", "ratio"), rows, ("torch",)
    )


if __name__ == "__main__":
    main()
