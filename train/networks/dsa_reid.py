"""DSA-reID (CVPR 2019): the main stream that is kept, the guiding stream that only trains it, their fusion.

The variants of the paper's tables 3 to 5 are the same network with streams, branches or a fusion of
another kind (``model.streams``, ``model.branches``, ``model.fusion``).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import ModelConfig
from densereid.train.data.batch import Inputs
from densereid.train.networks.backbone import build_backbone
from densereid.train.networks.blocks import Classifier, concat_normalise
from densereid.train.networks.guiding_stream import NUM_REGIONS, GuidingStream

GLOBAL, LOCAL = "global", "local"

_WIDTHS = 64
"""A guiding stream of table 1's proportions begins with a 64th of the last stage's width in each part."""


def branch_names(config: ModelConfig) -> tuple[str, ...]:
    """The branches of each stream: ``global`` and ``local``, or one of them."""
    return (GLOBAL, LOCAL) if config.branches == "both" else (config.branches,)


class MainStream(nn.Module):
    """MF-Stream (section 3.2.2): the trunk's map F, a global branch and eight part-aware branches."""

    def __init__(self, config: ModelConfig, size: tuple[int, int]) -> None:
        super().__init__()
        # Section 4.2: the trunk starts from ImageNet, the head at random, although it equals conv5_x.
        backbone = build_backbone(
            config.backbone, pretrained=config.pretrained, conv5_pretrained=config.conv5 == "imagenet", size=size
        )
        self.width = backbone.shape.deep_channels
        if self.width % _WIDTHS:
            raise UserError(
                f"the last stage of {config.backbone} has {self.width} channels; expected a multiple of {_WIDTHS}, "
                "which DSA-reID's eight part branches and its guiding stream can share out",
                "Choose another model.backbone, or model.family=magnifiernet.",
            )
        self.trunk = backbone.trunk
        if GLOBAL in branch_names(config):
            self.global_branch = backbone.conv5
        if LOCAL in branch_names(config):
            self.part_branches = backbone.branch_stage(branches=NUM_REGIONS)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """f_G (B, width) as ``global`` and f_L (B, 8, width / 8) as ``local``.

        ``image``: normalised (B, 3, H, W). ``width``: of the last stage, 2048 for ResNet-50.
        """
        shared = self.trunk(image)
        features = {}
        if hasattr(self, "global_branch"):
            features[GLOBAL] = self.global_branch(shared).mean((2, 3))
        if hasattr(self, "part_branches"):
            features[LOCAL] = self.part_branches(self.trunk.as_map(shared)).mean((2, 3)).unflatten(1, (NUM_REGIONS, -1))
        return features


class EmbeddingNetwork(nn.Module):
    """What remains for inference: images in, embeddings out; no weight of the guiding stream."""

    def __init__(self, main: MainStream) -> None:
        super().__init__()
        self.main = main

    def forward(self, image: Tensor) -> Tensor:
        """concat(f_G, f_L), (B, 2 * width), L2-normalised (4096 wide for ResNet-50); half with one branch.

        With the weights of one branch alone, its feature.
        """
        return concat_normalise(self.main(image))


class ConcatenationFusion(nn.Module):
    """Table 5's rejected design: concat(f, d) through a fully connected layer, for each of ``branches`` vectors.

    For f_L the layer sees the whole concatenated vector (section 4.4: "for either branch").
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * width, width)

    def forward(self, main: Tensor, guide: Tensor) -> Tensor:
        """z (B, width) of f and d (B, width) each."""
        fused: Tensor = self.layer(torch.cat((main, guide), 1))
        return fused


class AdditionFusion(nn.Module):
    """z = f + d on the pooled vectors (section 3.2.3)."""

    def forward(self, main: Tensor, guide: Tensor) -> Tensor:
        """z, of the shape of both."""
        return main + guide


def _fusion(kind: str, width: int) -> nn.Module:
    return ConcatenationFusion(width) if kind == "concat" else AdditionFusion()


class DSAReid(nn.Module):
    """The network that is trained, for images of ``size`` (height, width).

    ``forward`` gives the named features and logits that ``dsa_loss`` reads, for each
    branch: z_global and z_local (B, width); logits_f_global, logits_z_global and logits_z_local
    (B, 1, num_identities); logits_f_local (B, 8, num_identities). Without a guiding stream z is f, so
    that a baseline has the same losses with the same weights and differs by the guide alone.

    With ``repeat_on_main`` (``loss.repeat_on_main``; not the paper's) also f_global and f_local (B, width),
    logits_whole_f_global and logits_whole_f_local (B, 1, num_identities), for the losses that z has.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_identities: int,
        *,
        size: tuple[int, int] = (256, 128),
        repeat_on_main: bool = False,
    ) -> None:
        super().__init__()
        self.branches = branch_names(config)
        self.main = MainStream(config, size)
        self.branch_width = width = self.main.width
        self.embedding_width = width * len(self.branches)
        self.guide = GuidingStream(width // 2, branches=self.branches) if config.streams == "two" else None

        def classifier(in_features: int, branches: int = 1) -> Classifier:
            return Classifier(
                in_features,
                num_identities,
                hidden=config.classifier_hidden,
                slope=config.classifier_slope,
                dropout=config.classifier_dropout,
                branches=branches,
            )

        if GLOBAL in self.branches:
            self.classify_f_global, self.classify_z_global = classifier(width), classifier(width)
        if LOCAL in self.branches:
            self.classify_f_local = classifier(width // NUM_REGIONS, NUM_REGIONS)
            self.classify_z_local = classifier(width)
        fused = self.branches if config.streams == "two" else ()
        self.fusion = nn.ModuleDict({name: _fusion(config.fusion, width) for name in fused})
        repeated = self.branches if repeat_on_main else ()
        self.classify_whole = nn.ModuleDict({name: classifier(width) for name in repeated})

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Features and logits of a training batch."""
        # The guide first: its backward pass comes last then, when the larger stream's activations are gone.
        guide = self.guiding(inputs.dsap)
        main = self.main(inputs.image)
        fused = self.fuse(main, guide)
        outputs = {f"z_{name}": z for name, z in fused.items()}
        if GLOBAL in main:
            outputs["logits_f_global"] = self.classify_f_global(main[GLOBAL][:, None])
            outputs["logits_z_global"] = self.classify_z_global(fused[GLOBAL][:, None])
        if LOCAL in main:
            outputs["logits_f_local"] = self.classify_f_local(main[LOCAL])
            outputs["logits_z_local"] = self.classify_z_local(fused[LOCAL][:, None])
        for name, classify in self.classify_whole.items():
            outputs[f"f_{name}"] = main[name].flatten(1)
            outputs[f"logits_whole_f_{name}"] = classify(outputs[f"f_{name}"][:, None])
        return outputs

    def guiding(self, dsap: Tensor | None) -> dict[str, Tensor]:
        """The guiding stream's features of the part images; none where the network has no such stream."""
        if self.guide is None:
            return {}
        assert dsap is not None, "a network with a guiding stream needs part images"
        features: dict[str, Tensor] = self.guide(dsap)
        return features

    def fuse(self, main: dict[str, Tensor], guide: dict[str, Tensor]) -> dict[str, Tensor]:
        """z of each branch, (B, width), from both streams' features; f itself without a guide."""
        if self.guide is None:
            return {name: f.flatten(1) for name, f in main.items()}
        return {name: self.fusion[name](f.flatten(1), guide[name].flatten(1)) for name, f in main.items()}

    def embed(self, image: Tensor, dsap: Tensor | None = None, *, feature: str = "f") -> Tensor:
        """The named feature, L2-normalised (B, D); the network must be in evaluation mode.

        ``f``: as :class:`EmbeddingNetwork`, from the image alone. ``z``: of both streams fused, which
        needs ``dsap``. ``f_global``, ``z_local``, ...: one branch of them.
        """
        stream, _, branch = feature.partition("_")
        features: dict[str, Tensor] = self.main(image)
        if stream == "z":
            features = self.fuse(features, self.guiding(dsap))
        return concat_normalise({name: value for name, value in features.items() if branch in ("", name)})

    def inference_network(self, feature: str = "f") -> EmbeddingNetwork:
        """A copy for inference, in evaluation mode; for ``f_global`` or ``f_local`` without the other branch."""
        main = copy.deepcopy(self.main)
        if feature == f"f_{GLOBAL}" and hasattr(main, "part_branches"):
            del main.part_branches
        if feature == f"f_{LOCAL}" and hasattr(main, "global_branch"):
            del main.global_branch
        return EmbeddingNetwork(main).eval()


def dsa_arrays(config: ModelConfig) -> tuple[str, ...]:
    """The arrays that training reads; the dataset makes ``crops`` from image and iuv."""
    if config.streams == "mf":
        return ("image",)
    return ("image", "crops") if config.part_images == "crops" else ("image", "dsap", "dsap_valid")
