"""The sections of a training config, each a dataclass that checks its own values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from densereid.data_catalog.errors import UserError


def setting(default: Any, text: str) -> Any:
    """A field of a section with its help text."""
    return field(default=default, metadata={"help": text})


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise UserError where a value is not what was ``expected``."""
    if not condition:
        raise UserError(f"{name} is {value!r}; expected {expected}", "Correct it in the config file or on the command.")


_MODEL_CHOICES = {
    "family": ("dsa-reid", "magnifiernet"),
    "streams": ("two", "mf"),
    "branches": ("both", "global", "local"),
    "fusion": ("add", "concat"),
    "part_images": ("dsap", "crops"),
    "backbone": ("resnet50", "small"),
    "conv5": ("random", "imagenet"),
}
FEATURES = ("f", "f_global", "f_local", "z", "z_global", "z_local", "f_regularisation", "f_fusion")
"""Features that can be ranked: f of the network that is kept, all its branches or one; z of both streams fused."""


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained, and its widths."""

    family: str = setting("dsa-reid", "network family: dsa-reid or magnifiernet")
    streams: str = setting("two", "two: MF-Stream and guiding stream; mf: the MF-Stream alone")
    branches: str = setting("both", "branches of every stream: both, global or local")
    fusion: str = setting("add", "how the streams meet in z: add (f + d), or concat (a fully connected layer)")
    part_images: str = setting("dsap", "what guides: dsap (warped along U and V), or crops (each part's box, CSA)")
    backbone: str = setting("resnet50", "trunk: resnet50 (1024 channels at stride 16) or small (for a CPU)")
    pretrained: str = setting("auto", "ImageNet weights: auto (download), never, or the path of a weights file")
    initial: str = setting("", "fine-tuning: the run or checkpoint to start from, but for its classifiers")
    conv5: str = setting("random", "the global branch's conv5_x starts from: random weights, or imagenet")
    dsap_size: int = setting(32, "size the DSAP images enter the guiding stream with; smaller than stored = pooled")
    classifier_hidden: int = setting(512, "width of a classifier's hidden layer; the paper leaves it open")
    classifier_slope: float = setting(0.1, "LeakyReLU slope in the classifiers")
    classifier_dropout: float = setting(0.5, "dropout probability in the classifiers")

    def __post_init__(self) -> None:
        for name, choices in _MODEL_CHOICES.items():
            require(getattr(self, name) in choices, f"model.{name}", getattr(self, name), " or ".join(choices))
        size = self.dsap_size
        require(size >= 8 and size % 4 == 0, "model.dsap_size", size, "a multiple of 4, at least 8")
        require(self.classifier_hidden >= 1, "model.classifier_hidden", self.classifier_hidden, "at least 1")
        require(0 <= self.classifier_dropout < 1, "model.classifier_dropout", self.classifier_dropout, "0 <= p < 1")


@dataclass(frozen=True)
class LossConfig:
    """Weights and constants of the losses: DSA-reID's (section 4.2), then MagnifierNet's (v2, equation 4)."""

    identity_main: float = setting(0.5, "weight of the identity loss on f_G and on each f_L,i")
    identity_fused: float = setting(1.0, "weight of the identity loss on z_G and z_L")
    triplet_fused: float = setting(1.5, "weight of the batch-hard triplet loss on z_G and z_L")
    repeat_on_main: float = setting(
        0.0, "factor of z's losses, put on f_G and f_L as well; 0 is the paper's, 1 what the MF-Stream has alone"
    )
    margin: float = setting(0.3, "triplet margin (Euclidean distance)")
    label_smoothing: float = setting(0.1, "share of the target spread over all identities")
    identity: float = setting(1.0, "MagnifierNet: weight of the identity loss on each branch")
    triplet: float = setting(1.0, "MagnifierNet: weight of the triplet loss on the global and the fusion branch")
    triplet_regularisation: float = setting(
        1.0, "MagnifierNet: weight of the triplet loss on SAB or SRB; the papers have it, the official code has 0"
    )
    part: float = setting(0.0125, "MagnifierNet: weight of the identity loss on each of the 8 parts (official code)")
    mask: float = setting(2.0, "MagnifierNet: lambda, weight of the mask loss")
    diversity: float = setting(2e-3, "MagnifierNet: gamma, weight of the semantic diversity loss; 0 = a single stage")
    attribute: float = setting(1.0, "MagnifierNet: weight of the attribute loss; the papers give none")

    def __post_init__(self) -> None:
        for item in fields(self):
            require(getattr(self, item.name) >= 0, f"loss.{item.name}", getattr(self, item.name), "0 or more")
        require(0 <= self.label_smoothing < 1, "loss.label_smoothing", self.label_smoothing, "0 <= share < 1")


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam's settings."""

    weight_decay: float = setting(5e-4, "L2 penalty added to the gradient (Adam, not AdamW)")
    beta1: float = setting(0.9, "decay of Adam's first moment")
    beta2: float = setting(0.999, "decay of Adam's second moment")

    def __post_init__(self) -> None:
        require(self.weight_decay >= 0, "optimiser.weight_decay", self.weight_decay, "0 or more")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optimiser.{name}", getattr(self, name), "0 <= beta < 1")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over time; see :func:`densereid.train.engine.schedule.learning_rate`."""

    kind: str = setting(
        "step",
        "after the warm-up: step (x decay_factor every decay_every epochs), milestones, cosine or constant",
    )
    warmup_epochs: float = setting(20.0, "epochs of linear growth from warmup_start to peak")
    warmup_start: float = setting(8e-6, "learning rate at epoch 0")
    peak: float = setting(8e-4, "learning rate after the warm-up")
    decay_factor: float = setting(0.5, "step and milestones: factor at each milestone")
    milestones: str = setting("", "milestones: the epochs of decay, with commas: 40,70")
    decay_every: float = setting(40.0, "step: epochs between milestones")
    decay_from: float = setting(
        0.0, "step: epoch from which milestones count; 0 = 40, 80, ... (SAN), 20 = 60, 100, ..."
    )

    def __post_init__(self) -> None:
        kinds = ("step", "milestones", "cosine", "constant")
        require(self.kind in kinds, "schedule.kind", self.kind, "step, milestones, cosine or constant")
        require(self._has_milestones(), "schedule.milestones", self.milestones, "epochs with commas, as 40,70")
        require(self.warmup_epochs >= 0, "schedule.warmup_epochs", self.warmup_epochs, "0 or more")
        require(self.peak > 0, "schedule.peak", self.peak, "more than 0")
        require(self.warmup_start >= 0, "schedule.warmup_start", self.warmup_start, "0 or more")
        require(0 < self.decay_factor <= 1, "schedule.decay_factor", self.decay_factor, "0 < factor <= 1")
        require(self.decay_every > 0, "schedule.decay_every", self.decay_every, "more than 0")

    def decay_epochs(self) -> tuple[float, ...]:
        """The epochs of :attr:`milestones`."""
        return tuple(float(epoch) for epoch in self.milestones.split(",") if epoch)

    def _has_milestones(self) -> bool:
        try:
            return bool(self.decay_epochs()) or self.kind != "milestones"
        except ValueError:
            return False


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training image; see :mod:`densereid.train.data.augmentation`."""

    flip: float = setting(0.5, "probability of a horizontal flip (image, mask and DSAP together)")
    pad: int = setting(10, "pixels padded on every side before the random crop back to the image size")
    erase: float = setting(0.5, "probability of random erasing (image only)")
    erase_area_min: float = setting(0.02, "smallest erased share of the image")
    erase_area_max: float = setting(0.4, "largest erased share of the image")
    erase_aspect_min: float = setting(0.3, "smallest height / width of the erased rectangle")
    erase_aspect_max: float = setting(3.33, "largest height / width of the erased rectangle")
    blank_parts: float = setting(0.0, "probability of empty part images, as where no person is found (not the paper)")

    def __post_init__(self) -> None:
        for name in ("flip", "erase", "blank_parts"):
            require(0 <= getattr(self, name) <= 1, f"augmentation.{name}", getattr(self, name), "0 <= p <= 1")
        require(self.pad >= 0, "augmentation.pad", self.pad, "0 or more")
        area = (self.erase_area_min, self.erase_area_max)
        require(0 < area[0] <= area[1] < 1, "augmentation.erase_area_min and _max", area, "0 < min <= max < 1")
        aspect = (self.erase_aspect_min, self.erase_aspect_max)
        require(0 < aspect[0] <= aspect[1], "augmentation.erase_aspect_min and _max", aspect, "0 < min <= max")


@dataclass(frozen=True)
class SamplingConfig:
    """How a training batch is drawn: P identities times K images."""

    identities: int = setting(16, "P, identities in a batch")
    images: int = setting(4, "K, images of each identity")

    def __post_init__(self) -> None:
        require(self.identities >= 2, "sampling.identities", self.identities, "at least 2 (a triplet has a negative)")
        require(self.images >= 2, "sampling.images", self.images, "at least 2 (a triplet has a positive)")


@dataclass(frozen=True)
class EvaluateConfig:
    """What is ranked."""

    feature: str = setting("f", "feature that is ranked: f, z, or one branch of them (f_global, z_local, ...)")

    def __post_init__(self) -> None:
        require(self.feature in FEATURES, "evaluate.feature", self.feature, " or ".join(FEATURES))
