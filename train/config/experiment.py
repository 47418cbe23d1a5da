"""The experiments by name: what each one sets, on which base, for which dataset; read when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.refusals import read_text
from densereid.data_catalog.files.sealed_json import load_yaml
from densereid.train.config.validation import flatten

_FOLDER = Path(__file__).parent / "experiments"
_VARIANTS = _FOLDER / "variants.yaml"
_LISTED = "`densereid describe` lists the experiments."


@dataclass(frozen=True)
class Experiment:
    """The settings (dotted keys) of one experiment, which lie over those of its base."""

    name: str
    settings: Mapping[str, object]
    base: str | None = None
    """Name or path of the experiment that this one changes; None for one that stands alone."""
    small: str | None = None
    """Name of the same experiment at a scale for a CPU."""
    paper: str = ""
    """What the paper calls it."""
    datasets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Settings for single datasets, which lie over its own."""


@cache
def experiments() -> dict[str, Experiment]:
    """Every experiment that ships with the project, by name."""
    files = {path.stem: read_yaml(path) for path in _FOLDER.glob("*.yaml") if path != _VARIANTS}
    entries: dict[str, Any] = {**files, **read_yaml(_VARIANTS)}
    found = {name: _experiment(name, values, "base", "small", "paper", "datasets") for name, values in entries.items()}
    for variant in tuple(found.values()):
        if variant.base is not None and variant.small is not None:  # its small form lies over that of its base
            base = found[variant.base].small
            found[variant.small] = replace(variant, name=variant.small, base=base, small=None, datasets={})
    return found


def find_experiment(name_or_path: str | Path) -> Experiment:
    """The experiment of that name, or that of a YAML file, whose key ``base`` may name another one.

    Raises UserError for an unknown name, with the nearest known one, and for a file that cannot be read.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(
                f"config file {path} does not exist", f"Give its path, or a name such as dsa-reid; {_LISTED}"
            )
        return _experiment(path.stem, read_yaml(path), "base")
    if name not in experiments():
        near = "".join(f"Did you mean {known}? " for known in get_close_matches(name, experiments(), n=1))
        raise UserError(f"unknown model {name!r}", f"{near}{_LISTED} Or give the path of a .yaml file.")
    return experiments()[name]


def small_form(name: str) -> str:
    """Name of the experiment that is ``name`` at a scale for a CPU."""
    small = find_experiment(name).small
    assert small is not None, name
    return small


def with_bases(
    name_or_path: str | Path, base: str | Path | None = None, *, above: tuple[str, ...] = ()
) -> tuple[Experiment, ...]:
    """The experiment, its base, the base's base, to the one that has none.

    ``base`` takes the place of the last one, or of the one whose name or small form it is; the experiments above it
    then have no settings for datasets. Raises UserError as find_experiment, and for one of ``above``: a circle.
    """
    if str(name_or_path) in above:
        raise UserError(f"{name_or_path} is its own base: {' -> '.join(above)}", "Let `base` name another experiment.")
    experiment, above = find_experiment(name_or_path), (*above, str(name_or_path))
    if base is not None:
        experiment = replace(experiment, datasets={})
    if experiment.base is None:
        return (experiment,)
    parent = find_experiment(experiment.base)
    if base is not None and (parent.base is None or base in (parent.name, parent.small)):
        return (experiment, *with_bases(base))
    return (experiment, *with_bases(experiment.base, base, above=above))


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; raises UserError where it cannot be read or holds something else."""
    try:
        values = load_yaml(read_text(path, "config file")) or {}
    except ValueError as error:
        raise UserError(f"{path} cannot be read as YAML: {error}", "Correct the file.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}; expected keys with values", "Correct the file.")
    return values


def _experiment(name: str, values: dict[str, Any], *not_settings: str) -> Experiment:
    about = {key: values.pop(key) for key in not_settings if key in values}
    datasets = {dataset: flatten(settings) for dataset, settings in about.pop("datasets", {}).items()}
    texts = {key: str(value) for key, value in about.items()}
    return Experiment(name, flatten(values), datasets=datasets, **texts)
