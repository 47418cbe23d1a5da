"""Vision transformers as trunks: patch tokens as the map; the class token goes along, and no branch reads it."""

from __future__ import annotations

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from densereid.train.networks.trunks.resnet import Trunk

_STAGES = 4
"""A transformer's last quarter of blocks stands for the last of a ResNet's four stages."""


class TokenMap(nn.Module):
    """Tokens (B, prefix + h * w, channels) as a map (B, channels, h, w), without the prefix: class and registers."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.prefix = int(network.num_prefix_tokens)
        self.grid = tuple(int(side) for side in network.patch_embed.grid_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """The patch tokens where their patches lie."""
        return tokens[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)


class TokenTrunk(Trunk):
    """Patch embedding and the first three quarters of the blocks."""

    def __init__(self, network: VisionTransformer) -> None:
        nn.Module.__init__(self)
        self.tokens = TokenMap(network)
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """All tokens, (B, prefix + h * w, channels), of normalised images (B, 3, H, W)."""
        tokens: Tensor = self.network.forward_features(image)
        return tokens

    def as_map(self, shared: Tensor) -> Tensor:
        """The patch tokens as the map (B, channels, h, w)."""
        as_map: Tensor = self.tokens(shared)
        return as_map


def split_transformer(network: VisionTransformer) -> tuple[Trunk, nn.Module]:
    """The trunk, and the last quarter of the blocks with the network's norm, whose output is the map of patches."""
    last = max(1, len(network.blocks) // _STAGES)
    deep = nn.Sequential(network.blocks[-last:], network.norm, TokenMap(network))
    network.blocks, network.norm = network.blocks[:-last], nn.Identity()
    network.reset_classifier(0, "")
    network.fc_norm = nn.Identity()
    return TokenTrunk(network), deep
