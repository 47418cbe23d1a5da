"""The sections of a training config, each a dataclass that checks its own values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, StrictFloat, model_validator

from densereid.train.config.validation import require, section, setting


def _split_numbers(value: object) -> object:
    """A command line and the files of older releases have text: ``40,70``; a single number may stand alone."""
    if isinstance(value, str):
        return [float(number) for number in value.strip("[]").split(",") if number.strip()]
    return [value] if isinstance(value, (int, float)) else value


@section
class ModelConfig:
    """Which network is trained, and its widths."""

    family: Literal["dsa-reid", "magnifiernet"] = setting("dsa-reid", "network family: dsa-reid or magnifiernet")
    streams: Literal["two", "mf"] = setting("two", "two: MF-Stream and guiding stream; mf: the MF-Stream alone")
    branches: Literal["both", "global", "local"] = setting("both", "branches of every stream: both, global or local")
    fusion: Literal["add", "concat"] = setting(
        "add", "how the streams meet in z: add (f + d), or concat (a fully connected layer)"
    )
    part_images: Literal["dsap", "crops"] = setting(
        "dsap", "what guides: dsap (warped along U and V), or crops (each part's box, CSA)"
    )
    backbone: str = setting(
        "resnet50",
        "trunk: resnet50 (the papers'), small (for a CPU), resnet50_ibn_a, or another network of timm that gives maps",
    )
    pretrained: str = setting(
        "auto", "weights: auto (timm's, downloaded; none for small), never (random), or the path of a weights file"
    )
    initial: str = setting("", "fine-tuning: the run or checkpoint to start from, but for its classifiers")
    conv5: Literal["random", "imagenet"] = setting(
        "random", "the global branch's conv5_x (the last stage) starts from: random weights, or imagenet (as the trunk)"
    )
    dsap_size: int = setting(
        32,
        "size the DSAP images enter the guiding stream with; smaller than stored = pooled",
        ge=8,
        le=512,
        multiple_of=4,
    )
    classifier_hidden: int = setting(
        512, "width of a classifier's hidden layer; the paper leaves it open", ge=1, le=65536
    )
    classifier_slope: float = setting(0.1, "LeakyReLU slope in the classifiers", ge=0, le=1)
    classifier_dropout: float = setting(0.5, "dropout probability in the classifiers", ge=0, lt=1)


@section
class LossConfig:
    """Weights and constants of the losses: DSA-reID's (section 4.2), then MagnifierNet's (v2, equation 4)."""

    identity_main: NonNegativeFloat = setting(0.5, "weight of the identity loss on f_G and on each f_L,i")
    identity_fused: NonNegativeFloat = setting(1.0, "weight of the identity loss on z_G and z_L")
    triplet_fused: NonNegativeFloat = setting(1.5, "weight of the batch-hard triplet loss on z_G and z_L")
    repeat_on_main: NonNegativeFloat = setting(
        0.0, "factor of z's losses, put on f_G and f_L as well; 0 is the paper's, 1 what the MF-Stream has alone"
    )
    margin: NonNegativeFloat = setting(0.3, "triplet margin (Euclidean distance)")
    label_smoothing: float = setting(0.1, "share of the target spread over all identities", ge=0, lt=1)
    identity: NonNegativeFloat = setting(1.0, "MagnifierNet: weight of the identity loss on each branch")
    triplet: NonNegativeFloat = setting(
        1.0, "MagnifierNet: weight of the triplet loss on the global and the fusion branch"
    )
    triplet_regularisation: NonNegativeFloat = setting(
        0.0, "MagnifierNet: weight of the triplet loss on SAB or SRB; 0 is the official code's, 1 the papers' letter"
    )
    part: NonNegativeFloat = setting(
        0.0125,
        "MagnifierNet: weight of the identity loss on each of the 8 parts; 0.0125 is the official code's, 0.125 learns",
    )
    mask: NonNegativeFloat = setting(2.0, "MagnifierNet: lambda, weight of the mask loss")
    diversity: NonNegativeFloat = setting(
        2e-3, "MagnifierNet: gamma, weight of the semantic diversity loss; 0 = a single stage"
    )
    attribute: NonNegativeFloat = setting(1.0, "MagnifierNet: weight of the attribute loss; the papers give none")


@section
class OptimiserConfig:
    """Adam's settings."""

    weight_decay: NonNegativeFloat = setting(5e-4, "L2 penalty added to the gradient (Adam, not AdamW)")
    beta1: float = setting(0.9, "decay of Adam's first moment", ge=0, lt=1)
    beta2: float = setting(0.999, "decay of Adam's second moment", ge=0, lt=1)


@section
class ScheduleConfig:
    """The learning rate over time; see :func:`densereid.train.engine.schedule.learning_rate`."""

    kind: Literal["step", "milestones", "cosine", "constant"] = setting(
        "step",
        "after the warm-up: step (x decay_factor every decay_every epochs), milestones, cosine or constant",
    )
    warmup_epochs: NonNegativeFloat = setting(20.0, "epochs of linear growth from warmup_start to peak")
    warmup_start: NonNegativeFloat = setting(8e-6, "learning rate at epoch 0")
    peak: PositiveFloat = setting(8e-4, "learning rate after the warm-up")
    decay_factor: float = setting(0.5, "step and milestones: factor at each milestone", gt=0, le=1)
    milestones: Annotated[tuple[Annotated[StrictFloat, Field(ge=0)], ...], BeforeValidator(_split_numbers)] = setting(
        (), "milestones: the epochs of decay, [40, 70] in a file, 40,70 on a command line"
    )
    decay_every: PositiveFloat = setting(40.0, "step: epochs between milestones")
    decay_from: float = setting(
        20.0, "step: epoch from which milestones count; 20 = 60, 100, ... (SAN), 0 = 40, 80, ...", ge=0
    )

    @model_validator(mode="after")
    def _check_milestones(self) -> ScheduleConfig:
        known, expected = self.kind != "milestones" or self.milestones, "epochs, as 40,70: schedule.kind is milestones"
        require(bool(known), "schedule.milestones", list(self.milestones), expected)
        return self


@section
class AugmentationConfig:
    """Random changes of a training image; see :mod:`densereid.train.data.augmentation`."""

    flip: float = setting(0.5, "probability of a horizontal flip (image, mask and DSAP together)", ge=0, le=1)
    crop: Literal["pad", "enlarge"] = setting(
        "pad", "random crop: pad (by pad pixels), or enlarge (to 1.125 times the size), then cut the image's size out"
    )
    crop_probability: float = setting(1.0, "share of the images that are cropped; 1 = all, SAN has 0.5", ge=0, le=1)
    pad: int = setting(10, "pixels padded on every side before the random crop back to the image size", ge=0, le=1024)
    pad_colour: Literal["mean", "black"] = setting(
        "mean", "colour of what is padded: mean (ImageNet's), or black (reid-strong-baseline, MagnifierNet's code)"
    )
    erase: float = setting(0.5, "probability of random erasing (image only)", ge=0, le=1)
    erase_area_min: float = setting(0.02, "smallest erased share of the image")
    erase_area_max: float = setting(0.4, "largest erased share of the image")
    erase_aspect_min: float = setting(0.3, "smallest height / width of the erased rectangle")
    erase_aspect_max: float = setting(3.33, "largest height / width of the erased rectangle")
    blank_parts: float = setting(
        0.0, "probability of empty part images, as where no person is found (not the paper)", ge=0, le=1
    )

    @model_validator(mode="after")
    def _check_erasing(self) -> AugmentationConfig:
        area = (self.erase_area_min, self.erase_area_max)
        require(0 < area[0] <= area[1] < 1, "augmentation.erase_area_min and _max", area, "0 < min <= max < 1")
        aspect = (self.erase_aspect_min, self.erase_aspect_max)
        require(0 < aspect[0] <= aspect[1], "augmentation.erase_aspect_min and _max", aspect, "0 < min <= max")
        return self


@section
class SamplingConfig:
    """How a training batch is drawn: P identities times K images."""

    identities: int = setting(16, "P, identities in a batch (a triplet has a negative)", ge=2, le=65536)
    images: int = setting(4, "K, images of each identity (a triplet has a positive)", ge=2, le=65536)


@section
class EvaluateConfig:
    """What is ranked."""

    feature: Literal["f", "f_global", "f_local", "z", "z_global", "z_local", "f_regularisation", "f_fusion"] = setting(
        "f", "feature that is ranked: f of the network that is kept, all its branches or one; z of both streams fused"
    )
