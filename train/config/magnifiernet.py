"""The sections of a training config that only MagnifierNet reads."""

from __future__ import annotations

from dataclasses import dataclass

from densereid.data_catalog.parts import LOWER_LABELS, MASK_LABELS, UPPER_LABELS
from densereid.train.config.sections import require, setting

_CHOICES = {
    "regularisation": ("none", "sab", "srb"),
    "fusion": ("none", "gru", "lstm", "ab"),
    "mask_module": ("on", "off"),
    "sampling": ("torso", "baseline"),
    "mask_resize": ("area", "nearest"),
    "part_weighting": ("area", "none"),
    "facilitator": ("auto", "on", "off"),
}


@dataclass(frozen=True)
class MagnifierConfig:
    """Which branches MagnifierNet has beside the global one, and how they use the masks."""

    regularisation: str = setting("sab", "regularising branch: sab (v2), srb (v1) or none")
    fusion: str = setting("gru", "semantic fusion branch: gru (v2), lstm (v1), ab (ablation branch) or none")
    mask_module: str = setting("on", "segmentation head: on, or off where no branch needs masks")
    sampling: str = setting("torso", "regions SAB keeps: torso (keep/2 of each torso group) or baseline (of all)")
    keep: int = setting(4, "SAB: regions kept of a batch, besides the background")
    keep_upper: int = setting(2, "SRB: upper torso regions kept (N_upper); 0 = all")
    keep_lower: int = setting(2, "SRB: lower torso regions kept (N_lower); 0 = all")
    mask_resize: str = setting("area", "masks at the feature map's size: area (soft planes, one a part) or nearest")
    part_weighting: str = setting(
        "area", "part losses times sigmoid(share of pixels), as the official code: area, none"
    )
    facilitator: str = setting("auto", "attribute facilitator: auto (where there are attributes), on or off")
    attributes: str = setting("", "file of the dataset's attributes, as market_attribute.mat; empty = none")
    attribute_groups: str = setting("", "first letter of each attribute's group; a run takes it from the file")

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            require(getattr(self, name) in choices, f"magnifier.{name}", getattr(self, name), " or ".join(choices))
        needed = (self.regularisation, self.fusion) != ("none", "none")
        off = self.mask_module == "off"
        require(not (needed and off), "magnifier.mask_module", "off", "on: SAB, SRB and SFB need masks")
        self._check_numbers()
        possible = self.facilitator != "on" or self.fusion != "none"
        require(possible, "magnifier.facilitator", "on", "auto or off: it helps the masks of SFB, and fusion is none")

    def _check_numbers(self) -> None:
        each = min(len(UPPER_LABELS), len(LOWER_LABELS))
        even = self.keep % 2 == 0 and 2 <= self.keep <= 2 * each
        if self.sampling == "torso":
            require(even, "magnifier.keep", self.keep, f"an even number, 2 to {2 * each}: half of it per torso group")
        parts = len(MASK_LABELS) - 1
        require(1 <= self.keep <= parts, "magnifier.keep", self.keep, f"1 to {parts} regions")
        for name, labels in (("keep_upper", UPPER_LABELS), ("keep_lower", LOWER_LABELS)):
            value = getattr(self, name)
            require(0 <= value <= len(labels), f"magnifier.{name}", value, f"0 (all) to {len(labels)}")

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that make the embedding, in its order."""
        chosen = (("regularisation", self.regularisation), ("fusion", self.fusion))
        return ("global", *(name for name, kind in chosen if kind != "none"))

    @property
    def has_facilitator(self) -> bool:
        """Whether attributes help the masks of SFB."""
        given = self.facilitator == "on" or bool(self.attributes or self.attribute_groups)
        return given and self.facilitator != "off" and self.fusion != "none"


@dataclass(frozen=True)
class StagesConfig:
    """The two stages of MagnifierNet's training; a run without a diversity loss has one."""

    first_epochs: int = setting(460, "MagnifierNet: N1, epochs without the diversity loss; the rest of epochs is N2")
    second_rate: float = setting(0.0, "MagnifierNet: learning rate of the second stage; 0 = the schedule continues")

    def __post_init__(self) -> None:
        require(self.first_epochs >= 0, "stages.first_epochs", self.first_epochs, "0 or more")
        require(self.second_rate >= 0, "stages.second_rate", self.second_rate, "0 (the schedule) or more")
