"""Plain values as typed dataclasses: dotted keys, text from a command line, unknown keys with the nearest known one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from densereid.data_catalog.errors import UserError


def build(owner: type, values: Mapping[str, object]) -> Any:
    """``owner`` from nested or dotted keys; what is missing has its default.

    Raises UserError for an unknown key, with the nearest known one, and for a value of another type.
    """
    flat = flatten(values)
    known = {key: kind for key, _, kind in settings_of(owner)}
    for key in flat:
        if key not in known:
            raise _unknown_key(key, known)
    return _build(owner, {key: _as_type(key, value, known[key]) for key, value in flat.items()}, "")


def settings_of(owner: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], type]]:
    """(dotted key, field, type) of every setting of a dataclass and of the dataclasses in it, in their order."""
    kinds = get_type_hints(owner)
    for setting in fields(owner):
        key, kind = prefix + setting.name, kinds[setting.name]
        if isinstance(kind, type) and is_dataclass(kind):
            yield from settings_of(kind, key + ".")
        else:
            yield key, setting, kind


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _unknown_key(key: str, known: Mapping[str, type]) -> UserError:
    names = {name.rsplit(".", 1)[-1]: name for name in known}
    near = get_close_matches(key, known, n=1) or [
        names[name] for name in get_close_matches(key.rsplit(".", 1)[-1], names, n=1)
    ]
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
    return UserError(f"unknown setting {key!r}", hint)


def _as_type(key: str, value: object, kind: type) -> object:
    """``value`` as ``kind``; YAML reads 8e-4 as text and a command line gives only text, so text is parsed."""
    if isinstance(value, bool) and kind is str:  # YAML reads on and off as truth values
        return "on" if value else "off"
    readers: dict[type, Callable[[Any], object]] = {float: float, int: _whole_number, str: str}
    if isinstance(value, bool) or value is None or isinstance(value, list):
        raise UserError(f"{key} is {value!r}; expected {kind.__name__}", "Correct it in the config or on the command.")
    try:
        return readers[kind](value)
    except ValueError as error:
        raise UserError(f"{key} is {value!r}; expected {kind.__name__}", "Correct it in the config.") from error


def _whole_number(value: str | float) -> int:
    number = float(value)
    if number != int(number):
        raise ValueError(f"{value} is not whole")
    return int(number)


def _build(owner: type, typed: Mapping[str, object], prefix: str) -> Any:
    kinds = get_type_hints(owner)
    values: dict[str, object] = {}
    for setting in fields(owner):
        key = prefix + setting.name
        if is_dataclass(kinds[setting.name]):
            values[setting.name] = _build(kinds[setting.name], typed, key + ".")
        elif key in typed:
            values[setting.name] = typed[key]
        else:
            assert setting.default is not MISSING, key
    return owner(**values)


def read_yaml(path: Path) -> dict[str, object]:
    """The keys and values of a YAML file; raises UserError where it cannot be read or holds something else."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}", "Correct the file.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}; expected keys with values", "Correct the file.")
    return values
