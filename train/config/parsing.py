"""Reading of a YAML file of settings."""

from __future__ import annotations

from pathlib import Path

import yaml

from densereid.data_catalog.errors import UserError


def read_yaml(path: Path) -> dict[str, object]:
    """The keys and values of a YAML file; raises UserError where it cannot be read or holds something else."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}", "Correct the file.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}; expected keys with values", "Correct the file.")
    return values
