"""The types of the options: how the text of a command line or of a variable becomes a value."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from math import isnan
from pathlib import Path
from typing import Any

import click

from densereid.data_catalog.errors import UserError
from densereid.pipeline.settings import LARGEST_EDGE, parse_size, parse_workers


class Parsed(click.ParamType):
    """Text that ``parse`` turns into a value; a value that is none of text stays as it is."""

    def __init__(self, parse: Callable[[str], Any], name: str) -> None:
        self.name = name
        self._parse = parse

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """What stands for the value in the help; click has changed the parameters."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """The value. Raises UserError with the variable's name for text that is not understood."""
        return self._parse(value) if isinstance(value, str) else value


class Switch(click.types.BoolParamType):
    """A flag, which has a value only as a variable: ``RERANK=1``."""

    def __init__(self, variable: str) -> None:
        self._variable = variable

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """Whether it is set. Raises UserError with the variable's name for a word that is neither yes nor no."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise UserError(f"the value of {self._variable} is '{value}'", "expected 1, or 0 as if not given") from None


def parse_numbers(name: str, text: str) -> tuple[int, ...]:
    """The numbers of a list with commas, from 0; UserError with the variable's ``name`` otherwise."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"\d{1,10}", word) and int(word) <= LARGEST_SEED for word in words):
        raise UserError(
            f"{name} is '{text}'", f"expected numbers from 0 to {LARGEST_SEED} with commas, for example 0,1,2"
        )
    return tuple(map(int, words))


def parse_edges(text: str) -> list[int]:
    """Short edges in pixels from a list with commas, sorted, without the one that all are compared with."""
    from densereid.preprocess.estimators.input_sizes import REFERENCE_SHORT_EDGE  # here: it imports torch

    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"\d{1,9}", word) and 0 < int(word) <= LARGEST_EDGE for word in words):
        raise UserError(
            f"SHORT_EDGES is '{text}'",
            f"expected pixels from 1 to {LARGEST_EDGE} with commas, for example 128,192,256,384,512",
        )
    edges = sorted({int(word) for word in words} - {REFERENCE_SHORT_EDGE})
    if not edges:
        raise UserError(f"SHORT_EDGES is '{text}'", f"expected something to compare with {REFERENCE_SHORT_EDGE}")
    return edges


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of an exported network from a list with commas, each once."""
    from densereid.train.deployment.formats import FORMATS  # here: it imports torch

    names = [word.strip() for word in text.split(",")]
    if unknown := [name for name in names if name not in FORMATS]:
        near = get_close_matches(unknown[0], FORMATS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"FORMAT is '{text}'", f"{hint}expected one or more of {', '.join(FORMATS)}, with commas")
    return tuple(dict.fromkeys(names))


def parse_setting(text: str) -> tuple[str, str]:
    """A setting's dotted key and its value from KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text} has no value", "expected KEY=VALUE, for example schedule.peak=4e-4")
    return key, os.path.expanduser(value)  # noqa: PTH111 - only some values are paths


def _parse_location(text: str) -> Any:
    from densereid.data_catalog.files.paths import parse_path  # here: fsspec takes a while

    return parse_path(os.path.expanduser(text))  # noqa: PTH111 - it may be a URL


class LocalPath(click.Path):
    """A local file or folder; ``~`` is the home folder also where no shell has seen it: ``make DATA_ROOT=~/data``."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """The paths of a variable that may have several, with spaces between them, quoted as for a shell."""
        return (rv,) if Path(rv).exists() else shlex.split(rv)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises click.BadParameter where it is not what was asked for."""
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111 - text, or a path already


class FiniteRange(click.FloatRange):
    """A number between two others. click's own takes nan for one, since it is neither below nor above any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises click.BadParameter where it is none, or out of range."""
        number = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number", param, ctx) if isnan(number) else number


def numbers(name: str) -> Parsed:
    """Whole numbers with commas, of the variable ``name``: a tuple of int."""
    return Parsed(lambda text: parse_numbers(name, text), "NUMBERS")


LARGEST_SEED = 2**32 - 1
"""numpy takes no larger one, and none below 0."""

SEED = click.IntRange(0, LARGEST_SEED)
"""A seed: int."""
SIZE = Parsed(parse_size, "HEIGHTxWIDTH")
"""An image size: (height, width)."""
WORKERS = Parsed(parse_workers, "NUMBER")
"""A number of processes, or auto: int."""
LOCATION = Parsed(_parse_location, "PATH-OR-URL")
"""A local folder, or a URL such as s3://BUCKET/FOLDER: a Path or a path at a URL."""
SHORT_EDGES = Parsed(parse_edges, "NUMBERS")
"""Short edges in pixels with commas: a list of int."""
FORMATS_OF_EXPORT = Parsed(parse_formats, "NAMES")
"""Formats of an exported network with commas: a tuple of their names."""
NAME_OR_PATH = Parsed(os.path.expanduser, "TEXT")
"""A name, or the path of a file or folder: text, without ``~``."""
SETTING = Parsed(parse_setting, "KEY=VALUE")
"""A setting of an experiment: the pair of its dotted key and its value."""
