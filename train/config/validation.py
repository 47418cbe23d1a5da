"""Plain values as checked sections of a config: dotted keys, and mistakes with key, value and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache, wraps
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from densereid.data_catalog.errors import UserError

_Section = TypeVar("_Section")
_CONFIG = ConfigDict(extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)
_KINDS = {
    "boolean": "on or off", "integer": "a whole number", "number": "a number", "string": "text",
    "array": "numbers with commas, as 40,70",
}  # fmt: skip
_LIMITS = {
    "multipleOf": "a multiple of", "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most",
    "exclusiveMaximum": "less than",
}  # fmt: skip


@dataclass_transform(frozen_default=True)
def section(owner: type[_Section]) -> type[_Section]:
    """A frozen dataclass whose values pydantic checks and converts; a wrong one raises UserError.

    Text is read as a command line gives it: ``8e-4`` is a number, ``on`` and ``off`` are truth values.
    """
    made: Any = dataclass(frozen=True, config=_CONFIG)(owner)
    build = made.__init__

    @wraps(build)
    def build_or_explain(self: object, *values: object, **settings: object) -> None:
        try:
            build(self, *values, **settings)
        except ValidationError as error:
            raise _explained(made, error) from None

    made.__init__ = build_or_explain
    return made


def setting(default: Any, text: str, **limits: float) -> Any:
    """A field of a section with its help text and pydantic's limits: ge, gt, le, lt, multiple_of."""
    return Field(default, description=text, **limits)  # type: ignore[call-overload]


def require(condition: bool, key: str, value: object, expected: str) -> None:
    """Raise UserError where the ``value`` of a setting is not what was ``expected``."""
    if not condition:
        raise _mistake(key, value, expected)


def build_config(owner: Any, values: Mapping[str, object]) -> Any:
    """``owner`` from nested or dotted keys; what is missing has its default.

    Raises UserError for an unknown key, with the nearest known one, and for a value of another type or range.
    """
    known = setting_schemas(owner)
    nested: dict[str, Any] = {}
    for key, value in flatten(values).items():
        if key not in known:
            raise _unknown_setting(key, known)
        if isinstance(value, bool) and known[key].get("type") in ("integer", "number"):  # Python's 0 and 1
            raise _mistake(key, value, known[key])
        group, _, name = key.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[name] = value
    return owner(**nested)


@cache
def setting_schemas(owner: type) -> dict[str, dict[str, Any]]:
    """JSON schema of every setting by dotted key, in the order of the fields: default, description, type, limits."""
    schema = TypeAdapter(owner).json_schema()
    flat: dict[str, dict[str, Any]] = {}
    for name, entry in schema["properties"].items():
        group = schema["$defs"][entry["$ref"].rpartition("/")[2]]["properties"] if "$ref" in entry else None
        flat |= {name: entry} if group is None else {f"{name}.{key}": value for key, value in group.items()}
    return flat


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def setting_text(value: object) -> str:
    """A value as a command line takes it: ``on``, ``off``, ``40,70``."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(f"{number:.12g}" for number in value) if isinstance(value, list) else str(value)


def _explained(owner: type, error: ValidationError) -> UserError:
    """The first mistake; its location may go deeper than a setting, to an element of a list or a choice of types."""
    known, mistake = setting_schemas(owner), error.errors(include_url=False)[0]
    path = [str(part) for part in mistake["loc"]]
    for key in (".".join(path[:2]), path[0]):
        if key in known:
            finite = "a finite number" if mistake["type"] == "finite_number" else ""
            return _mistake(key, mistake["input"], finite or known[key])
    return _unknown_setting(".".join(path), known)


def _mistake(key: str, value: object, expected: str | Mapping[str, Any]) -> UserError:
    """``expected`` is said in words, or by the setting's schema."""
    found = setting_text(value) if isinstance(value, bool) else repr(value)
    means = "" if isinstance(expected, str) else f" It is: {expected['description']}."
    words = expected if isinstance(expected, str) else _expectation(expected)
    return UserError(f"{key} is {found}; expected {words}", f"Correct it in the config file or on the command.{means}")


def _expectation(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_expectation(choice) for choice in schema["anyOf"])
    if "type" in schema and "enum" not in schema and "const" not in schema:
        limits = (f"{text} {schema[name]:.12g}" for name, text in _LIMITS.items() if name in schema)
        return ", ".join((_KINDS[schema["type"]], *limits))
    return " or ".join(schema.get("enum") or [schema["const"]])


def _unknown_setting(key: str, known: Mapping[str, object]) -> UserError:
    names = {name.rpartition(".")[2]: name for name in known}
    last = key.rpartition(".")[2]
    near = [name for name in known if name.startswith(f"{key}.")]
    near = near or [name for name in known if name.rpartition(".")[2] == last]
    near = near or get_close_matches(key, known, n=1) or [names[name] for name in get_close_matches(last, names, n=1)]
    listed = "`densereid describe dsa-reid` lists all settings."
    return UserError(f"unknown setting {key!r}", f"Did you mean {' or '.join(near)}?" if near else listed)
