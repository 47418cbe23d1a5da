"""Typed settings of a training run, read from one YAML file per experiment and checked when built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from data_catalog.errors import UserError
from train.config_values import build, flatten, settings_of

CONFIG_VERSION = 1
"""Raised by one whenever a key changes its meaning; stored in every checkpoint."""

_FOLDER = Path(__file__).parent / "configs"
_SMALL = "-small"


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise UserError(f"{name} is {value!r}; expected {expected}", "Correct it in the config file or on the command.")


_MODEL_CHOICES = {
    "family": ("dsa-reid",),
    "streams": ("two", "mf"),
    "branches": ("both", "global", "local"),
    "fusion": ("add", "concat"),
    "part_images": ("dsap", "crops"),
    "backbone": ("resnet50", "small"),
    "conv5": ("random", "imagenet"),
}
FEATURES = ("f", "f_global", "f_local", "z", "z_global", "z_local")
"""Features that can be ranked: f of the MF-Stream, z of both streams fused; both branches or one."""


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained, and its widths."""

    family: str = _setting("dsa-reid", "network family: dsa-reid")
    streams: str = _setting("two", "two: MF-Stream and guiding stream; mf: the MF-Stream alone")
    branches: str = _setting("both", "branches of every stream: both, global or local")
    fusion: str = _setting("add", "how the streams meet in z: add (f + d), or concat (a fully connected layer)")
    part_images: str = _setting("dsap", "what guides: dsap (warped along U and V), or crops (each part's box, CSA)")
    backbone: str = _setting("resnet50", "trunk: resnet50 (1024 channels at stride 16) or small (for a CPU)")
    pretrained: str = _setting("auto", "ImageNet weights: auto (download), never, or the path of a weights file")
    initial: str = _setting("", "fine-tuning: the run or checkpoint to start from, but for its classifiers")
    conv5: str = _setting("random", "the global branch's conv5_x starts from: random weights, or imagenet")
    dsap_size: int = _setting(32, "size the DSAP images enter the guiding stream with; smaller than stored = pooled")
    classifier_hidden: int = _setting(512, "width of a classifier's hidden layer; the paper leaves it open")
    classifier_slope: float = _setting(0.1, "LeakyReLU slope in the classifiers")
    classifier_dropout: float = _setting(0.5, "dropout probability in the classifiers")

    def __post_init__(self) -> None:
        for name, choices in _MODEL_CHOICES.items():
            _require(getattr(self, name) in choices, f"model.{name}", getattr(self, name), " or ".join(choices))
        size = self.dsap_size
        _require(size >= 8 and size % 4 == 0, "model.dsap_size", size, "a multiple of 4, at least 8")
        _require(self.classifier_hidden >= 1, "model.classifier_hidden", self.classifier_hidden, "at least 1")
        _require(0 <= self.classifier_dropout < 1, "model.classifier_dropout", self.classifier_dropout, "0 <= p < 1")


@dataclass(frozen=True)
class LossConfig:
    """Weights and constants of the losses; the defaults are DSA-reID's (section 4.2)."""

    identity_main: float = _setting(0.5, "weight of the identity loss on f_G and on each f_L,i")
    identity_fused: float = _setting(1.0, "weight of the identity loss on z_G and z_L")
    triplet_fused: float = _setting(1.5, "weight of the batch-hard triplet loss on z_G and z_L")
    margin: float = _setting(0.3, "triplet margin (Euclidean distance)")
    label_smoothing: float = _setting(0.1, "share of the target spread over all identities")

    def __post_init__(self) -> None:
        for name in ("identity_main", "identity_fused", "triplet_fused", "margin"):
            _require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "0 or more")
        _require(0 <= self.label_smoothing < 1, "loss.label_smoothing", self.label_smoothing, "0 <= share < 1")


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam's settings."""

    weight_decay: float = _setting(5e-4, "L2 penalty added to the gradient (Adam, not AdamW)")
    beta1: float = _setting(0.9, "decay of Adam's first moment")
    beta2: float = _setting(0.999, "decay of Adam's second moment")

    def __post_init__(self) -> None:
        _require(self.weight_decay >= 0, "optimiser.weight_decay", self.weight_decay, "0 or more")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, f"optimiser.{name}", getattr(self, name), "0 <= beta < 1")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over time; see :func:`train.schedule.learning_rate`."""

    kind: str = _setting(
        "step", "after the warm-up: step (x decay_factor every decay_every epochs), cosine or constant"
    )
    warmup_epochs: float = _setting(20.0, "epochs of linear growth from warmup_start to peak")
    warmup_start: float = _setting(8e-6, "learning rate at epoch 0")
    peak: float = _setting(8e-4, "learning rate after the warm-up")
    decay_factor: float = _setting(0.5, "step: factor at each milestone")
    decay_every: float = _setting(40.0, "step: epochs between milestones")
    decay_from: float = _setting(
        0.0, "step: epoch from which milestones count; 0 = 40, 80, ... (SAN), 20 = 60, 100, ..."
    )

    def __post_init__(self) -> None:
        kinds = ("step", "cosine", "constant")
        _require(self.kind in kinds, "schedule.kind", self.kind, "step, cosine or constant")
        _require(self.warmup_epochs >= 0, "schedule.warmup_epochs", self.warmup_epochs, "0 or more")
        _require(self.peak > 0, "schedule.peak", self.peak, "more than 0")
        _require(self.warmup_start >= 0, "schedule.warmup_start", self.warmup_start, "0 or more")
        _require(0 < self.decay_factor <= 1, "schedule.decay_factor", self.decay_factor, "0 < factor <= 1")
        _require(self.decay_every > 0, "schedule.decay_every", self.decay_every, "more than 0")


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training image; see :mod:`train.augment`."""

    flip: float = _setting(0.5, "probability of a horizontal flip (image, mask and DSAP together)")
    pad: int = _setting(10, "pixels padded on every side before the random crop back to the image size")
    erase: float = _setting(0.5, "probability of random erasing (image only)")
    erase_area_min: float = _setting(0.02, "smallest erased share of the image")
    erase_area_max: float = _setting(0.4, "largest erased share of the image")
    erase_aspect_min: float = _setting(0.3, "smallest height / width of the erased rectangle")
    erase_aspect_max: float = _setting(3.33, "largest height / width of the erased rectangle")
    blank_parts: float = _setting(0.0, "probability of empty part images, as where no person is found (not the paper)")

    def __post_init__(self) -> None:
        for name in ("flip", "erase", "blank_parts"):
            _require(0 <= getattr(self, name) <= 1, f"augmentation.{name}", getattr(self, name), "0 <= p <= 1")
        _require(self.pad >= 0, "augmentation.pad", self.pad, "0 or more")
        area = (self.erase_area_min, self.erase_area_max)
        _require(0 < area[0] <= area[1] < 1, "augmentation.erase_area_min and _max", area, "0 < min <= max < 1")
        aspect = (self.erase_aspect_min, self.erase_aspect_max)
        _require(0 < aspect[0] <= aspect[1], "augmentation.erase_aspect_min and _max", aspect, "0 < min <= max")


@dataclass(frozen=True)
class SamplingConfig:
    """How a training batch is drawn: P identities times K images."""

    identities: int = _setting(16, "P, identities in a batch")
    images: int = _setting(4, "K, images of each identity")

    def __post_init__(self) -> None:
        _require(self.identities >= 2, "sampling.identities", self.identities, "at least 2 (a triplet has a negative)")
        _require(self.images >= 2, "sampling.images", self.images, "at least 2 (a triplet has a positive)")


@dataclass(frozen=True)
class EvaluateConfig:
    """What is ranked."""

    feature: str = _setting("f", "feature that is ranked: f, z, or one branch of them (f_global, z_local, ...)")

    def __post_init__(self) -> None:
        _require(self.feature in FEATURES, "evaluate.feature", self.feature, " or ".join(FEATURES))


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run trains, apart from the data, the device and the seed."""

    name: str = _setting("dsa-reid", "the experiment's name")
    height: int = _setting(256, "image height in pixels; other stores are resized with a notice")
    width: int = _setting(128, "image width in pixels")
    epochs: int = _setting(320, "passes over the training identities")
    evaluate_every: int = _setting(40, "epochs between evaluations on query and gallery; 0 = only at the end")
    log_every: int = _setting(20, "steps between logged values; reading them waits for the device")
    precision: str = _setting("32-true", "arithmetic, as Lightning Fabric names it: 32-true, bf16-mixed, 16-mixed")
    compile: str = _setting("off", "torch.compile: off or on (minutes before the first step)")
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            size = getattr(self, name)
            _require(size >= 32 and size % 16 == 0, name, size, "a multiple of 16 (the trunk's stride), at least 32")
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.evaluate_every >= 0, "evaluate_every", self.evaluate_every, "0 or more")
        _require(self.log_every >= 1, "log_every", self.log_every, "at least 1")
        precisions = ("32-true", "bf16-mixed", "16-mixed")
        _require(self.precision in precisions, "precision", self.precision, " or ".join(precisions))
        _require(self.compile in ("off", "on"), "compile", self.compile, "off or on")
        stream, _, branch = self.evaluate.feature.partition("_")
        possible = stream == "f" or self.model.streams == "two"
        _require(possible, "evaluate.feature", self.evaluate.feature, "f where model.streams is mf: nothing is fused")
        possible = branch in ("", self.model.branches) or self.model.branches == "both"
        _require(possible, "evaluate.feature", self.evaluate.feature, f"a feature of the {self.model.branches} branch")


def known_configs() -> tuple[str, ...]:
    """Names of the experiments that ship with the project, sorted; a variant has a ``-small`` form too."""
    files = {path.stem: "base" in _read_yaml(path) for path in _FOLDER.glob("*.yaml")}
    return tuple(sorted([*files, *(f"{name}{_SMALL}" for name, is_variant in files.items() if is_variant)]))


def load_config(
    name_or_path: str | Path, overrides: Mapping[str, object] | None = None, *, base: str | None = None
) -> TrainConfig:
    """The named (or pointed at) experiment with ``overrides`` applied.

    A file with the key ``base`` is a variant: it changes some settings of that experiment. ``base``
    here takes another one in its place; NAME-small is the variant NAME of the base's small form.
    Override keys are dotted (``schedule.peak``) or nested mappings; values may be strings as typed
    on a command line. Raises UserError for an unknown name, key, type or range.
    """
    path = _config_path(name_or_path)
    values = flatten(_read_yaml(path))
    name = path.stem if Path(name_or_path).suffix else str(name_or_path)
    if "base" in values:
        inherited = flatten(to_dict(_inherited(str(values.pop("base")), base, small=name != path.stem)))
        del inherited["name"]
        values = {**inherited, **values}
    return from_dict({"name": name, **values, **flatten(overrides or {})})


def _inherited(parent: str, base: str | None, *, small: bool) -> TrainConfig:
    """What a variant of ``parent`` starts from: a chain of variants ends in ``base`` where one is given."""
    if "base" in _read_yaml(_config_path(parent)):
        return load_config(f"{parent}{_SMALL}" if small else parent, base=base)
    return load_config(base or (f"{parent}{_SMALL}" if small else parent))


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}", "Correct the file.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}; expected keys with values", "Correct the file.")
    return values


def from_dict(values: Mapping[str, object]) -> TrainConfig:
    """A config from nested or dotted keys; what is missing has its default. Raises UserError as load_config."""
    config: TrainConfig = build(TrainConfig, values)
    return config


def changed(config: TrainConfig, settings: Mapping[str, object]) -> TrainConfig:
    """The config with some settings (dotted keys) replaced. Raises UserError as load_config."""
    return from_dict({**setting_values(config), **settings})


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Nested plain values, as YAML and checkpoints hold them; ``from_dict`` reads them back."""
    return asdict(config)


def describe_settings() -> tuple[tuple[str, object, str], ...]:
    """(dotted key, default, help text) of every setting, in the order of the dataclasses."""
    return tuple((key, setting.default, setting.metadata["help"]) for key, setting, _ in settings_of(TrainConfig))


def setting_values(config: TrainConfig) -> dict[str, object]:
    """Value of every setting by its dotted key."""
    return flatten(to_dict(config))


def changed_settings(first: TrainConfig, second: TrainConfig) -> tuple[str, ...]:
    """Dotted keys whose values differ between two configs."""
    left, right = setting_values(first), setting_values(second)
    return tuple(key for key in left if left[key] != right[key])


def _config_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"config file {path} does not exist", f"Known experiments: {', '.join(known_configs())}.")
        return path
    name = str(name_or_path)
    if name not in known_configs():
        near = get_close_matches(name, known_configs(), n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        known = ", ".join(known_configs())
        raise UserError(f"unknown model {name!r}", f"{hint}Known: {known}; or give the path of a .yaml file.")
    file = _FOLDER / f"{name}.yaml"
    return file if file.is_file() else _FOLDER / f"{name.removesuffix(_SMALL)}.yaml"
