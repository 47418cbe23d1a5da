"""The sections of a training config that only MagnifierNet reads."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, model_validator

from densereid.data_catalog.parts import LOWER_LABELS, MASK_LABELS, UPPER_LABELS
from densereid.train.config.validation import require, section, setting


@section
class MagnifierConfig:
    """Which branches MagnifierNet has beside the global one, and how they use the masks."""

    regularisation: Literal["none", "sab", "srb"] = setting("sab", "regularising branch: sab (v2), srb (v1) or none")
    fusion: Literal["none", "gru", "lstm", "ab"] = setting(
        "gru", "semantic fusion branch: gru (v2), lstm (v1), ab (ablation branch) or none"
    )
    mask_module: bool = setting(True, "segmentation head: on, or off where no branch needs masks")
    sampling: Literal["torso", "baseline"] = setting(
        "torso", "regions SAB keeps: torso (keep/2 of each torso group) or baseline (of all)"
    )
    keep: int = setting(4, "SAB: regions kept of a batch, besides the background")
    keep_upper: int = setting(2, "SRB: upper torso regions kept (N_upper); 0 = all", ge=0, le=len(UPPER_LABELS))
    keep_lower: int = setting(2, "SRB: lower torso regions kept (N_lower); 0 = all", ge=0, le=len(LOWER_LABELS))
    mask_resize: Literal["bilinear", "area", "nearest"] = setting(
        "bilinear",
        "masks at the feature map's size: bilinear (of a binary plane for each part), area (shares) or nearest",
    )
    test_masks: Literal["soft", "hard"] = setting(
        "hard",
        "the network's own masks, which SFB reads at test time: soft (probabilities) or hard (the likeliest part)",
    )
    part_weighting: Literal["area", "none"] = setting(
        "area", "part losses times sigmoid(share of pixels), as the official code: area, none"
    )
    facilitator: Literal["auto"] | bool = setting(
        "auto", "attribute facilitator: auto (where there are attributes), on or off"
    )
    attributes: str = setting("", "file of the dataset's attributes, as market_attribute.mat; empty = none")
    attribute_groups: str = setting("", "first letter of each attribute's group; a run takes it from the file")

    @model_validator(mode="after")
    def _check(self) -> MagnifierConfig:
        possible = self.mask_module or (self.regularisation, self.fusion) == ("none", "none")
        require(possible, "magnifier.mask_module", self.mask_module, "on: SAB, SRB and SFB need masks")
        possible, expected = self.facilitator is not True or self.fusion != "none", "auto or off where fusion is none"
        require(possible, "magnifier.facilitator", self.facilitator, f"{expected}: it helps the masks of SFB")
        parts, each = len(MASK_LABELS) - 1, min(len(UPPER_LABELS), len(LOWER_LABELS))
        if self.sampling == "torso":
            even = self.keep % 2 == 0 and 2 <= self.keep <= 2 * each
            require(even, "magnifier.keep", self.keep, f"an even number, 2 to {2 * each}: half of it per torso group")
        require(1 <= self.keep <= parts, "magnifier.keep", self.keep, f"1 to {parts} regions")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that make the embedding, in its order."""
        chosen = (("regularisation", self.regularisation), ("fusion", self.fusion))
        return ("global", *(name for name, kind in chosen if kind != "none"))

    @property
    def has_facilitator(self) -> bool:
        """Whether attributes help the masks of SFB."""
        given = self.facilitator is True or bool(self.attributes or self.attribute_groups)
        return given and self.facilitator is not False and self.fusion != "none"


@section
class StagesConfig:
    """The two stages of MagnifierNet's training; a run without a diversity loss has one."""

    first_epochs: NonNegativeInt = setting(
        460, "MagnifierNet: N1, epochs without the diversity loss; the rest of epochs is N2", le=1_000_000
    )
    second_rate: NonNegativeFloat = setting(
        0.0,
        "MagnifierNet: learning rate of the second stage; 0 = the schedule continues (official code); v2 says 1e-3",
    )
