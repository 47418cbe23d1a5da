"""The typed settings of a training run, checked when built."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, TypeAdapter, model_validator

from densereid.data_catalog.errors import UserError
from densereid.train.config.magnifiernet import MagnifierConfig, StagesConfig
from densereid.train.config.parsing import read_yaml
from densereid.train.config.per_dataset import dataset_settings
from densereid.train.config.sections import (
    AugmentationConfig,
    EvaluateConfig,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    SamplingConfig,
    ScheduleConfig,
)
from densereid.train.config.validation import build_config, flatten, require, section, setting, setting_schemas

CONFIG_VERSION = 1
"""Raised by one whenever a key changes its meaning; stored in every checkpoint."""

_FOLDER = Path(__file__).parent / "experiments"
_SMALL = "-small"
_Side = Annotated[int, Field(ge=32, multiple_of=16)]


@section
class TrainConfig:
    """Everything that decides what a run trains, apart from the data, the device and the seed."""

    name: str = setting("dsa-reid", "the experiment's name")
    height: _Side = setting(256, "image height in pixels (16 is the trunk's stride); other stores are resized")
    width: _Side = setting(128, "image width in pixels (16 is the trunk's stride); other stores are resized")
    epochs: int = setting(320, "passes over the training identities", ge=1)
    evaluate_every: NonNegativeInt = setting(40, "epochs between evaluations on query and gallery; 0 = only at the end")
    log_every: int = setting(20, "steps between logged values; reading them waits for the device", ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = setting(
        "32-true", "arithmetic, as Lightning Fabric names it: 32-true, bf16-mixed, 16-mixed"
    )
    compile: bool = setting(False, "torch.compile: off or on (minutes before the first step)")
    tuned_for: str = setting("", "dataset whose settings (train/config/experiments/datasets) were taken; empty = none")
    model: ModelConfig = ModelConfig()
    magnifier: MagnifierConfig = MagnifierConfig()
    stages: StagesConfig = StagesConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    sampling: SamplingConfig = SamplingConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @property
    def two_stages(self) -> bool:
        """Whether training ends with MagnifierNet's second stage, which exists for the diversity loss."""
        return self.model.family == "magnifiernet" and self.loss.diversity > 0

    @property
    def has_facilitator(self) -> bool:
        """Whether the network is a MagnifierNet with an attribute facilitator."""
        return self.model.family == "magnifiernet" and self.magnifier.has_facilitator

    @model_validator(mode="after")
    def _check_family(self) -> TrainConfig:
        if self.model.family == "magnifiernet":
            self._check_magnifier()
        else:
            self._check_dsa()
        return self

    def _check_dsa(self) -> None:
        stream, _, branch = self.evaluate.feature.partition("_")
        possible = stream == "f" or self.model.streams == "two"
        require(possible, "evaluate.feature", self.evaluate.feature, "f where model.streams is mf: nothing is fused")
        factor = self.loss.repeat_on_main
        possible = factor == 0 or self.model.streams == "two"
        require(possible, "loss.repeat_on_main", factor, "0 where model.streams is mf: z is f and has its losses")
        branches = ("global", "local") if self.model.branches == "both" else (self.model.branches,)
        known = branch in ("", *branches)
        require(known, "evaluate.feature", self.evaluate.feature, f"a feature of the {' or '.join(branches)} branch")

    def _check_magnifier(self) -> None:
        features = ("f", *(f"f_{branch}" for branch in self.magnifier.branches))
        known = self.evaluate.feature in features
        require(known, "evaluate.feature", self.evaluate.feature, " or ".join(features))
        possible = self.loss.diversity == 0 or self.magnifier.fusion != "none"
        require(possible, "loss.diversity", self.loss.diversity, "0 where magnifier.fusion is none: SFB has the parts")


@cache
def known_configs() -> tuple[str, ...]:
    """Names of the experiments that ship with the project, sorted; a variant has a ``-small`` form too."""
    files = {path.stem: "base" in read_yaml(path) for path in _FOLDER.glob("*.yaml")}
    return tuple(sorted([*files, *(f"{name}{_SMALL}" for name, is_variant in files.items() if is_variant)]))


def load_config(
    name_or_path: str | Path,
    overrides: Mapping[str, object] | None = None,
    *,
    base: str | None = None,
    dataset: str | None = None,
) -> TrainConfig:
    """The named (or pointed at) experiment with ``overrides`` applied.

    A file with the key ``base`` is a variant: it changes some settings of that experiment. ``base``
    here takes another one in its place; NAME-small is the variant NAME of the base's small form.
    Where a file has settings for ``dataset`` (:func:`densereid.train.config.per_dataset.dataset_settings`; the
    override ``tuned_for`` names another one) they follow the file's own; a small form has none.
    Override keys are dotted (``schedule.peak``) or nested mappings; values may be strings as typed
    on a command line. Raises UserError for an unknown name, key, type or range.
    """
    changes = flatten(overrides or {})
    asked = changes.pop("tuned_for", None)
    dataset = str(asked) if asked else dataset
    path = _config_path(name_or_path)
    values = flatten(read_yaml(path))
    name = path.stem if Path(name_or_path).suffix else str(name_or_path)
    small = name != path.stem
    if "base" in values:
        inherited = flatten(to_dict(_inherited(str(values.pop("base")), base, dataset, small=small)))
        del inherited["name"]
        values = {**inherited, **values}
    if base is None and not small:
        values |= dataset_settings(path.stem, dataset)
    if asked and values.get("tuned_for") != asked:
        raise UserError(
            f"{name} has no settings for dataset {asked!r}", "See train/config/experiments/datasets, or leave it out."
        )
    return from_dict({"name": name, **values, **changes})


def _inherited(parent: str, base: str | None, dataset: str | None, *, small: bool) -> TrainConfig:
    """What a variant of ``parent`` starts from: a chain of variants ends in ``base`` where one is given."""
    form = f"{parent}{_SMALL}" if small else parent
    if base in (None, parent, f"{parent}{_SMALL}") or "base" not in read_yaml(_config_path(parent)):
        return load_config(base or form, dataset=dataset)
    return load_config(form, base=base, dataset=dataset)


def from_dict(values: Mapping[str, object]) -> TrainConfig:
    """A config from nested or dotted keys; what is missing has its default. Raises UserError as load_config."""
    config: TrainConfig = build_config(TrainConfig, values)
    return config


def with_settings(config: TrainConfig, settings: Mapping[str, object]) -> TrainConfig:
    """The config with some settings (dotted keys) replaced. Raises UserError as load_config."""
    return from_dict({**setting_values(config), **settings})


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Nested plain values, as YAML and checkpoints hold them; ``from_dict`` reads them back."""
    plain: dict[str, Any] = TypeAdapter(TrainConfig).dump_python(config, mode="json")
    return plain


def describe_settings() -> tuple[tuple[str, object, str], ...]:
    """(dotted key, default, help text) of every setting, in the order of the sections."""
    schemas = setting_schemas(TrainConfig)
    return tuple((key, schema["default"], schema["description"]) for key, schema in schemas.items())


def setting_values(config: TrainConfig) -> dict[str, object]:
    """Value of every setting by its dotted key."""
    return flatten(to_dict(config))


def config_diff(first: TrainConfig, second: TrainConfig) -> tuple[str, ...]:
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


def second_stage(config: TrainConfig, epoch: float) -> bool:
    """Whether ``epoch`` lies in MagnifierNet's second stage (v1, section 4.2; v2, section 4.1)."""
    return config.two_stages and epoch >= config.stages.first_epochs
