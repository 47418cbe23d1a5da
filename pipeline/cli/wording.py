"""Options in messages as they were typed: SHORT_EDGE=512 for make, ``--short-edge 512`` without, and which program.

Messages everywhere name variables as make has them, and commands as ``make preprocess DATASET=...`` in backticks, or
``densereid describe`` where there is more to say than a target takes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from densereid.pipeline.invocation import TARGETS, Parameter, by_make, exported_variables, program

_COMMAND = re.compile(r"`(make|densereid) ([a-z][\w-]*)((?: [^`]*)?)`")
_VARIABLE = re.compile(r"""(?<![\w/.'"=$~-])([A-Z][A-Z_]+)(?:=('[^']*'|"[^"]*"|[^\s,;:()'"`]*)|(?![\w/'"=-]|\.\w))""")
"""A name in capitals with its value, if it has one; neither in quotation marks nor part of a path."""

_OPTION = re.compile(r"""(?<![\w/-])'?--([a-z][a-z-]*)'?(?:[ =]([\w.-]+=[^\s,;:()'"`]*))?""")
_ORDINARY = {"JSON"}
"""Words that are rather words than variables."""


def as_typed(text: str, commands: Mapping[str, Sequence[Parameter]]) -> str:
    """A message for people who have these ``commands``, each with its parameters, in the words in which they type."""
    known = {each.variable: each for parameters in commands.values() for each in parameters if each.option}
    pieces = re.split(r"(`[^`]*`)", text)
    typed = (_command(piece, commands) if index % 2 else _prose(piece, known) for index, piece in enumerate(pieces))
    return re.sub(r"(\S+) \(\1\)", r"\1", "".join(typed))  # what a message gives in both forms


def _prose(text: str, known: Mapping[str, Parameter]) -> str:
    options = {parameter.option: parameter for parameter in known.values()}
    if by_make():
        return _OPTION.sub(lambda match: _as_variable(match, options), text)
    typed = _VARIABLE.sub(lambda match: _as_option(match, known), text)
    for variable in exported_variables():
        if variable in known:
            typed = re.sub(rf"'?(?<![\w-]){known[variable].option}(?![\w-])'?", f"DENSEREID_{variable}", typed)
    return typed


def _as_variable(match: re.Match[str], options: Mapping[str, Parameter]) -> str:
    parameter = options.get(f"--{match[1]}")
    if parameter is None:
        return match[0]
    value = "1" if parameter.is_flag else shlex.quote(match[2]) if match[2] else ""
    return f"{parameter.variable}={value}" if value else parameter.variable


def _as_option(match: re.Match[str], known: Mapping[str, Parameter]) -> str:
    name, value = match[1], match[2]
    parameter = known.get(name)
    if parameter is None or name in _ORDINARY:
        return match[0]
    if name in exported_variables():
        return f"DENSEREID_{match[0]}"
    return parameter.option if value is None or parameter.is_flag else f"{parameter.option} {value}".rstrip()


def _command(quoted: str, commands: Mapping[str, Sequence[Parameter]]) -> str:
    match = _COMMAND.fullmatch(quoted)
    if match is None or (match[1] == "make" and by_make()):
        return quoted
    name, rest = match[2], match[3]
    if match[1] == "make":
        name = TARGETS.get(name, name)
        known = {each.variable: each for each in commands.get(name, ())}
        rest = _VARIABLE.sub(lambda found: _as_word(found, known), rest)
    return f"`{program()} {name}{rest}`" if name.split()[0] in {each.split()[0] for each in commands} else quoted


def _as_word(match: re.Match[str], known: Mapping[str, Parameter]) -> str:
    parameter = known.get(match[1])
    if parameter is None or not parameter.option:
        return match[2] or match[0]
    return parameter.option if parameter.is_flag else f"{parameter.option} {match[2]}"
