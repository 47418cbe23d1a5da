"""DSA-reID (CVPR 2019): the main stream that is kept, the guiding stream that only trains it, their fusion."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.backbone import build_backbone
from train.batch import Inputs
from train.blocks import Classifier
from train.config import ModelConfig
from train.dsag import NUM_REGIONS, GuidingStream


class MainStream(nn.Module):
    """MF-Stream (section 3.2.2): the trunk's map F, a global branch and eight part-aware branches."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Section 4.2: the trunk starts from ImageNet, the head at random, although it equals conv5_x.
        backbone = build_backbone(config.backbone, pretrained=config.pretrained, conv5_pretrained=False)
        self.channels = backbone.channels
        self.trunk = backbone.trunk
        self.global_branch = backbone.conv5
        self.part_branches = backbone.branch_stage(branches=NUM_REGIONS)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """f_G (B, 2 * channels) and f_L (B, 8, channels / 4) of normalised images (B, 3, H, W)."""
        shared = self.trunk(image)
        part_features = self.part_branches(shared).mean((2, 3))
        return self.global_branch(shared).mean((2, 3)), part_features.unflatten(1, (NUM_REGIONS, -1))


class EmbeddingNetwork(nn.Module):
    """What remains for inference: images in, embeddings out; no weight of the guiding stream."""

    def __init__(self, main: MainStream) -> None:
        super().__init__()
        self.main = main

    def forward(self, image: Tensor) -> Tensor:
        """concat(f_G, f_L), (B, 4 * channels), L2-normalised (4096 wide for ResNet-50)."""
        global_feature, part_features = self.main(image)
        return F.normalize(torch.cat((global_feature, part_features.flatten(1)), 1).float())


class DSAReid(nn.Module):
    """The two-stream network that is trained.

    ``forward`` gives the named features and logits that :func:`train.losses.dsa_loss` reads:
    z_global (B, 2 * channels) and z_local (B, 2 * channels); logits_f_global, logits_z_global and
    logits_z_local (B, 1, num_identities); logits_f_local (B, 8, num_identities).
    """

    needs: tuple[str, ...] = ("image", "dsap", "dsap_valid")

    def __init__(self, config: ModelConfig, num_identities: int) -> None:
        super().__init__()
        self.main = MainStream(config)
        self.guide = GuidingStream(self.main.channels)
        self.dsap_size = config.dsap_size
        width = 2 * self.main.channels
        self.embedding_width = 2 * width

        def classifier(in_features: int, branches: int = 1) -> Classifier:
            return Classifier(
                in_features,
                num_identities,
                hidden=config.classifier_hidden,
                slope=config.classifier_slope,
                dropout=config.classifier_dropout,
                branches=branches,
            )

        self.classify_f_global, self.classify_z_global = classifier(width), classifier(width)
        self.classify_f_local = classifier(width // NUM_REGIONS, NUM_REGIONS)
        self.classify_z_local = classifier(width)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Features and logits of a training batch; z = f + d on the pooled vectors (section 3.2.3)."""
        assert inputs.dsap is not None
        f_global, f_local = self.main(inputs.image)
        d_global, d_local = self.guide(inputs.dsap)
        z_global, z_local = f_global + d_global, (f_local + d_local).flatten(1)
        return {
            "z_global": z_global,
            "z_local": z_local,
            "logits_f_global": self.classify_f_global(f_global[:, None]),
            "logits_f_local": self.classify_f_local(f_local),
            "logits_z_global": self.classify_z_global(z_global[:, None]),
            "logits_z_local": self.classify_z_local(z_local[:, None]),
        }

    def embed(self, image: Tensor) -> Tensor:
        """As :class:`EmbeddingNetwork`; the network must be in evaluation mode."""
        embedding: Tensor = EmbeddingNetwork(self.main)(image)
        return embedding

    def inference_network(self) -> EmbeddingNetwork:
        """A copy for inference, in evaluation mode."""
        return EmbeddingNetwork(copy.deepcopy(self.main)).eval()
