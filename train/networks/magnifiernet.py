"""MagnifierNet v1 (arXiv) and v2 (BMVC 2020): a global branch, SRB or SAB, and SFB, over masks the network learns.

In training the regions come from the store's masks; at test time SFB reads those that the network's own
mask module predicts, and nothing reads the store's. The rows of the papers' tables are the same network
with other settings in ``config.magnifier``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from densereid.data_catalog.datasets.attributes import GROUPS
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.parts import NUM_MASK_LABELS
from densereid.train.config.train_config import TrainConfig
from densereid.train.data.batch import Inputs
from densereid.train.networks.attribute_facilitator import AttributeFacilitator, add_activations
from densereid.train.networks.backbone import build_backbone
from densereid.train.networks.blocks import concat_normalise
from densereid.train.networks.magnifiernet_branches import (
    FusionBranch,
    LinearClassifier,
    MaskHead,
    RegularisingBranch,
    bn_neck,
)
from densereid.train.networks.regions import mask_target, one_hot_part_maps, resize_part_maps

GLOBAL, REGULARISATION, FUSION = "global", "regularisation", "fusion"


class MagnifierStream(nn.Module):
    """Everything that embeds: trunk, branches, their BNNecks, and the mask module that SFB reads."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        model, self.config = config.model, config.magnifier
        backbone = build_backbone(
            model.backbone,
            pretrained=model.pretrained,
            conv5_pretrained=model.conv5 == "imagenet",
            size=(config.height, config.width),
        )
        channels, conv5_map = backbone.channels, backbone.shape.deep_channels
        _check_widths(model.backbone, channels, conv5_map)
        self.mask_stride = backbone.shape.deep_stride // 2
        self.trunk, self.conv5 = backbone.trunk, backbone.conv5
        self.mask_head = MaskHead(conv5_map) if self.config.mask_module else None
        self.facilitator = None
        if config.has_facilitator:
            letters = {group[0]: group for group in GROUPS}
            self.facilitator = AttributeFacilitator(
                conv5_map, [letters[letter] for letter in self.config.attribute_groups]
            )
        branches = self.config.branches
        self.regularise = RegularisingBranch(channels) if REGULARISATION in branches else None
        self.fuse = FusionBranch(channels, self.config.fusion) if FUSION in branches else None
        self.widths = {name: conv5_map if name == GLOBAL else channels for name in branches}
        self.necks = nn.ModuleDict({name: bn_neck(width) for name, width in self.widths.items()})

    def forward(
        self, image: Tensor, part_maps: Tensor | None = None, kept_regions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """For each branch its feature ``before_NAME`` (its BNNeck) and ``after_NAME``, (B, width), and more.

        ``image``: normalised (B, 3, H, W). ``part_maps``: the store's masks, (B, 8, h, w) of any size; without
        them SFB reads the network's own. ``kept_regions``: regions that SAB or SRB sees, bool (8,); without
        them, all. Further outputs: ``parts`` (B, 8, channels); ``mask_logits`` (B, 8, H / 8, W / 8), twice as
        fine as the last stage's map; ``attribute_logits`` (B, A).
        """
        shared = self.trunk(image)
        conv4_map, conv5_map = self.trunk.as_map(shared), self.conv5(shared)
        outputs: dict[str, Tensor] = {}
        features = {GLOBAL: conv5_map.mean((2, 3))}
        part_maps = self._part_maps_of(conv4_map, conv5_map, part_maps, outputs)
        if self.regularise is not None:
            features[REGULARISATION] = self.regularise(conv4_map, part_maps, kept_regions)
        if self.fuse is not None:
            outputs["parts"], features[FUSION] = self.fuse(conv4_map, self._helped(conv5_map, part_maps, outputs))
        for name, feature in features.items():
            outputs[f"before_{name}"], outputs[f"after_{name}"] = feature, self.necks[name](feature)
        return outputs

    def _part_maps_of(
        self, conv4_map: Tensor, conv5_map: Tensor, given: Tensor | None, outputs: dict[str, Tensor]
    ) -> Tensor | None:
        """The masks at the size of the shared map (B, 8, h, w): the given ones, or those predicted."""
        if self.mask_head is None or (given is None and self.fuse is None):
            return None  # without masks given SFB alone reads any
        logits = self.mask_head(conv5_map)
        outputs["mask_logits"] = logits
        if given is None:
            given = self._own_part_maps(logits)
        return resize_part_maps(given, (conv4_map.shape[2], conv4_map.shape[3]), resize=self.config.mask_resize)

    def _own_part_maps(self, logits: Tensor) -> Tensor:
        """What the mask module predicts, (B, 8, H / 8, W / 8): each part's probability, or 1 for the likeliest part."""
        soft = self.config.test_masks == "soft"
        predicted = logits.float().softmax(1) if soft else one_hot_part_maps(logits.argmax(1))
        # Where logits are no numbers, neither is what is read under them.
        wrong = ~logits.isfinite().flatten(1).all(1)[:, None, None, None]
        return predicted.masked_fill(wrong, torch.nan)

    def _helped(self, conv5_map: Tensor, part_maps: Tensor | None, outputs: dict[str, Tensor]) -> Tensor:
        assert part_maps is not None, "SFB needs the mask module"
        if self.facilitator is None:
            return part_maps
        outputs["attribute_logits"], activations = self.facilitator(conv5_map)
        return add_activations(part_maps, activations)


def _check_widths(backbone: str, *widths: int) -> None:
    if any(width % NUM_MASK_LABELS for width in widths):
        raise UserError(
            f"the last two feature maps of {backbone} have {' and '.join(map(str, widths))} channels; expected "
            f"multiples of {NUM_MASK_LABELS}, which MagnifierNet's branches can share out",
            "Choose another model.backbone.",
        )


class MagnifierEmbedding(nn.Module):
    """What remains for inference: images in, embeddings out; no classifier, no sampling, no mask array."""

    def __init__(self, main: MagnifierStream) -> None:
        super().__init__()
        self.main = main

    def forward(self, image: Tensor) -> Tensor:
        """The branches' features after their BNNecks, concatenated and L2-normalised; 4096 wide for ResNet-50."""
        return concat_normalise(_chosen(self.main(image), self.main.widths))


def _chosen(outputs: Mapping[str, Tensor], widths: Mapping[str, int], feature: str = "f") -> dict[str, Tensor]:
    """The features of all branches, or of the one that ``feature`` names (f_global, f_fusion, ...)."""
    _, _, branch = feature.partition("_")
    return {name: outputs[f"after_{name}"] for name in widths if branch in ("", name)}


class MagnifierReid(nn.Module):
    """The network that is trained; ``forward`` gives what ``magnifier_loss`` reads."""

    attribute_targets: Tensor

    def __init__(self, config: TrainConfig, num_identities: int) -> None:
        super().__init__()
        self.main = MagnifierStream(config)
        widths = self.main.widths
        self.embedding_width = sum(widths.values())
        self.weighs_parts = config.magnifier.part_weighting == "area"
        self.classify_branches = nn.ModuleDict(
            {name: LinearClassifier(width, num_identities) for name, width in widths.items()}
        )
        if FUSION in widths:
            self.classify_parts = LinearClassifier(widths[FUSION], num_identities, branches=NUM_MASK_LABELS, neck=True)
        if config.has_facilitator:
            targets = torch.zeros(num_identities, len(config.magnifier.attribute_groups))
            self.register_buffer("attribute_targets", targets)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """The stream's outputs with ``logits_NAME`` (B, 1, num_identities), and what the losses compare them with.

        ``logits_parts`` (B, 8, num_identities) with ``part_weights`` (8,); ``mask_target`` (B, H / 8,
        W / 8); ``attribute_target`` (B, A).
        """
        planes, part_maps = self._part_maps(inputs)
        outputs: dict[str, Tensor] = self.main(inputs.image, planes, inputs.regions)
        for name, classify in self.classify_branches.items():
            outputs[f"logits_{name}"] = classify(outputs[f"after_{name}"][:, None])
        if part_maps is not None:
            outputs["mask_target"] = mask_target(part_maps)
        if "parts" in outputs:
            assert part_maps is not None
            outputs["logits_parts"] = self.classify_parts(outputs["parts"])
            outputs["part_weights"] = self._part_weights(part_maps)
        if "attribute_logits" in outputs:
            outputs["attribute_target"] = self.attribute_targets[inputs.identity]
        return outputs

    def _part_maps(self, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
        """The batch's masks for the branches to resize, and at the mask module's size, twice that of the maps."""
        if self.main.mask_head is None:
            return None, None
        assert inputs.mask is not None, "the mask module learns from masks"
        height, width = inputs.image.shape[2:]
        resize, stride = self.main.config.mask_resize, self.main.mask_stride
        planes = one_hot_part_maps(inputs.mask)
        part_maps = resize_part_maps(planes, (height // stride, width // stride), resize=resize)
        # Bilinear in two steps would be the mean of many pixels, and few cells one part's alone.
        return planes if resize == "bilinear" else part_maps, part_maps

    def _part_weights(self, part_maps: Tensor) -> Tensor:
        """(8,) in 0.5..0.73: the sigmoid of each part's share of the batch's pixels, as in the official code; or 1."""
        share = part_maps.mean((0, 2, 3))
        return share.sigmoid() if self.weighs_parts else torch.ones_like(share)

    def set_attribute_targets(self, targets: np.ndarray) -> None:
        """Take the attributes of each identity, float32 (num_identities, A) of 0 and 1."""
        self.attribute_targets.copy_(torch.from_numpy(targets))

    def embed(self, image: Tensor, dsap: Tensor | None = None, *, feature: str = "f") -> Tensor:
        """The embedding (B, D), L2-normalised, from the image alone; the network must be in evaluation mode.

        ``feature``: ``f`` as :class:`MagnifierEmbedding`, or one branch (``f_global``, ...). ``dsap`` is
        not read; every family's embed takes it.
        """
        del dsap
        return concat_normalise(_chosen(self.main(image), self.main.widths, feature))

    def inference_network(self, feature: str = "f") -> MagnifierEmbedding:
        """A copy for inference, in evaluation mode; for ``f_fusion`` and the like without what other branches need."""
        main = copy.deepcopy(self.main)
        main.widths = {name: width for name, width in main.widths.items() if feature in ("f", f"f_{name}")}
        main.regularise = main.regularise if REGULARISATION in main.widths else None
        main.fuse = main.fuse if FUSION in main.widths else None
        if main.fuse is None:
            main.mask_head = main.facilitator = None
        return MagnifierEmbedding(main).eval()


def magnifiernet_arrays(config: TrainConfig) -> tuple[str, ...]:
    """The arrays that training reads."""
    return ("image", "mask") if config.magnifier.mask_module else ("image",)
