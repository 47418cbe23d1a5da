"""The typed settings of a training run, checked when built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.names import EXPECTED, is_name
from densereid.train.config.experiment import experiments, with_bases
from densereid.train.config.magnifiernet import MagnifierConfig, StagesConfig
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

_MOST = 1_000_000
"""No training has more epochs, or steps in one."""

_Side = Annotated[int, Field(ge=32, le=4096, multiple_of=16)]


@section
class TrainConfig:
    """Everything that decides what a run trains, apart from the data, the device and the seed."""

    name: str = setting("dsa-reid", "the experiment's name")
    height: _Side = setting(256, "image height in pixels (16 is the trunk's stride); other stores are resized")
    width: _Side = setting(128, "image width in pixels (16 is the trunk's stride); other stores are resized")
    epochs: int = setting(320, "passes over the training identities", ge=1, le=_MOST)
    evaluate_every: int = setting(
        40, "epochs between evaluations on query and gallery; 0 = only at the end", ge=0, le=_MOST
    )
    log_every: int = setting(20, "steps between logged values; reading them waits for the device", ge=1, le=_MOST)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = setting(
        "32-true", "arithmetic, as Lightning Fabric names it: 32-true, bf16-mixed, 16-mixed"
    )
    compile: bool = setting(False, "torch.compile: off or on (minutes before the first step)")
    recompute: Literal["auto", "always", "never"] = setting(
        "auto",
        "activations of residual blocks: computed again in the backward pass (always), kept (never), or auto, which "
        "computes them again on a CPU behind any trunk but small; less memory, equal results",
    )
    tuned_for: str = setting(
        "", "dataset whose settings (`datasets` in the experiment's file) were taken; empty = none"
    )
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
    def _check_name(self) -> TrainConfig:
        require(is_name(self.name), "name", self.name, EXPECTED)
        return self

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


def known_configs() -> tuple[str, ...]:
    """Names of the experiments that ship with the project, sorted."""
    return tuple(sorted(experiments()))


def load_config(
    name_or_path: str | Path,
    overrides: Mapping[str, object] | None = None,
    *,
    base: str | Path | None = None,
    dataset: str | None = None,
) -> TrainConfig:
    """The named (or pointed at) experiment with ``overrides`` applied.

    An experiment with a base lies over it, with its settings for ``dataset`` where it has some (the override
    ``tuned_for`` names another one); ``base`` takes another one in its place, see
    :func:`densereid.train.config.experiment.with_bases`. Override keys are dotted (``schedule.peak``) or nested
    mappings; values may be strings as typed on a command line. Raises UserError for an unknown name or key and for a
    value of another type or range.
    """
    changes = flatten(overrides or {})
    asked = changes.pop("tuned_for", None)
    dataset = str(asked) if asked else dataset
    values: dict[str, object] = {}
    for experiment in reversed(with_bases(name_or_path, base)):
        values |= {"name": experiment.name, **experiment.settings}
        tuned = experiment.datasets.get(dataset or "")
        if tuned is not None:
            values |= {**tuned, "tuned_for": dataset}
    if asked and values.get("tuned_for") != asked:
        listed = f"`densereid describe {name_or_path}` lists those for which it has some."
        raise UserError(f"{values['name']} has no settings for dataset {asked!r}", listed)
    return from_dict({**values, **changes})


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


def second_stage(config: TrainConfig, epoch: float) -> bool:
    """Whether ``epoch`` lies in MagnifierNet's second stage (v1, section 4.2; v2, section 4.1)."""
    return config.two_stages and epoch >= config.stages.first_epochs
