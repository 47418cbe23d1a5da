"""The inference network from bytes to embeddings, as other code gets it: with the normalisation of images inside."""

from __future__ import annotations

from collections.abc import Callable
from keyword import iskeyword

import torch
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError
from densereid.train.data.augmentation import IMAGENET_DEVIATION, IMAGENET_MEAN
from densereid.train.engine.export import laid_out

TOLERANCE = 1e-4
"""Largest difference of a number of an embedding between a file and the network it was made of."""

BATCHES = (1, 3)
"""Sizes of the batches on which the two are compared."""


class ImageNetwork(nn.Module):
    """RGB images, uint8 (B, 3, height, width), to L2-normalised embeddings, float32 (B, D).

    The weights' names are those of the inference network below ``network``; ``_branch`` follows the names of branches
    that are words of Python (``global``), because torch.export writes them as code.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, *, height: int, width: int) -> None:
        """``network``: from normalised images to embeddings, in evaluation mode; it becomes a part of this one."""
        super().__init__()
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None])
        self.network, self.size = _speakable(network), (height, width)
        for tensor in (*self.parameters(), *self.buffers()):  # equal weights in equal order: equal bytes
            tensor.data = laid_out(tensor)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> Tensor:
        """The embeddings, as :func:`densereid.train.data.augmentation.normalise_image` and the network give them."""
        embedding: Tensor = self.network((image.float() - self.mean) / self.deviation)
        return embedding

    def example(self, batch: int) -> Tensor:
        """Random images, uint8 (batch, 3, height, width); always the same."""
        random = torch.Generator().manual_seed(batch)
        return torch.randint(0, 256, (batch, 3, *self.size), generator=random, dtype=torch.uint8)


class _SpeakableModules(nn.ModuleDict):
    """Modules that are asked for by names that no attribute of code may have."""

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(_speakable_name(key))


def _speakable_name(name: str) -> str:
    return f"{name}_branch" if iskeyword(name) else name


def _speakable(network: nn.Module) -> nn.Module:
    """The network, its modules without keywords of Python as their names."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ModuleDict) and any(map(iskeyword, child)):
                renamed = {_speakable_name(key): value for key, value in child.items()}
                setattr(parent, name, _SpeakableModules(renamed))
    return network


def checked(run: Callable[[Tensor], Tensor], network: ImageNetwork, what: str) -> float:
    """The largest difference between what ``run`` and the network make of random images, in batches of 1 and 3.

    Raises UserError where it is more than TOLERANCE; ``what`` names the format.
    """
    with torch.inference_mode():
        largest = max(float((run(images) - network(images)).abs().max()) for images in map(network.example, BATCHES))
    if not largest <= TOLERANCE:
        raise UserError(
            f"{what} of this network does not give its embeddings: they differ by {largest:.1e}, expected at most "
            f"{TOLERANCE:.0e}; nothing was written",
            "Choose another FORMAT, or set magnifier.test_masks=soft: hard masks change with the last digit.",
        )
    return largest
