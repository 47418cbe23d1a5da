"""Settings that an experiment has for one dataset: MagnifierNet's stages, loss weights and decay (v1, table 2)."""

from __future__ import annotations

from pathlib import Path

from densereid.train.config.parsing import read_yaml
from densereid.train.config.validation import flatten

_FOLDER = Path(__file__).parent / "experiments" / "datasets"


def dataset_table(experiment: str) -> dict[str, dict[str, object]]:
    """The settings (dotted keys) of each dataset that the experiment was tuned for; empty for most experiments."""
    path = _FOLDER / f"{experiment}.yaml"
    if not path.is_file():
        return {}
    rows = {dataset: settings for dataset, settings in read_yaml(path).items() if isinstance(settings, dict)}
    return {dataset: flatten(settings) for dataset, settings in rows.items()}


def tuned_datasets() -> tuple[str, ...]:
    """The datasets that some experiment has settings for, sorted."""
    return tuple(sorted({dataset for path in _FOLDER.glob("*.yaml") for dataset in dataset_table(path.stem)}))


def dataset_settings(experiment: str, dataset: str | None) -> dict[str, object]:
    """The experiment's settings for ``dataset``, ``tuned_for`` among them; empty where it has none for it."""
    table = dataset_table(experiment)
    if dataset is None or dataset not in table:
        return {}
    return {**table[dataset], "tuned_for": dataset}
