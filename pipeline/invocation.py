"""How this program was started, by make or not, and how another command is started in the same way."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from densereid.data_catalog.errors import masked

TARGETS = {"check": "catalog check", "extract": "catalog extract", "catalog": "catalog list"}
"""The commands whose target for make has another name, by that name."""

_ONLY_ONCE = frozenset({"DRY_RUN", "FRESH", "IMAGES", "ROWS", "SOURCE", "STORE_PATH", "TO"})
"""Variables of one command that the next one does not take over."""


@dataclass(frozen=True)
class Parameter:
    """An option or an argument of a command, as it is typed."""

    variable: str
    """For make: SHORT_EDGE."""
    option: str
    """``--short-edge``; empty for an argument, which stands alone."""
    is_flag: bool = False


@dataclass(frozen=True)
class Invocation:
    """The command that is running: what it was given, as it was typed, and which parameters every command has."""

    command: str = ""
    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts by variable; more than one for an option that may be repeated."""
    exported: Collection[str] = ()
    """The variables among them that stood in the environment."""
    parameters: Callable[[str], Sequence[Parameter]] = lambda _: ()
    """Of a command by its name, ``catalog check`` for example."""


_running = [Invocation()]


def set_running(invocation: Invocation) -> None:
    """Note what this process was asked; :func:`next_command` and :func:`this_command` say it again."""
    _running[0] = invocation


def exported_variables() -> Collection[str]:
    """The options of the running command that stood in the environment alone, by their variables."""
    return _running[0].exported


def by_make() -> bool:
    """Whether make started this command."""
    return "DENSEREID_MAKE_GOALS" in os.environ


def make_variables() -> list[str]:
    """The names of the variables that make was given for a command; none without make.

    The Makefile passes them on in DENSEREID_MAKE_VARIABLES, and the value of each as DENSEREID_ and its name.
    """
    return os.environ.get("DENSEREID_MAKE_VARIABLES", "").split()


def this_command() -> str:
    """The command line as the user typed it: make's, where make was asked; with what only stood in the environment.

    It is shown and recorded: secrets in URLs are masked.
    """
    return masked(_this_command())


def _this_command() -> str:
    if by_make():
        values = {name: os.environ.get(f"DENSEREID_{name}", "") for name in make_variables()}
        return " ".join((f"make {os.environ['DENSEREID_MAKE_GOALS']}", *_assignments({**values, **_make_own()})))
    running = _running[0]
    exported = {name: texts for name, texts in running.given.items() if name in running.exported}
    return " ".join((program(), shlex.join(sys.argv[1:]), *_words(running.command, exported))).rstrip()


def program() -> str:
    """How this program is started without make, as far as it is known from how it was: for a shell, quoted."""
    started = Path(sys.argv[0])
    if by_make():  # make's python has the program beside it
        beside = Path(sys.executable).parent / "densereid"
        return _typed(beside) if beside.is_file() else f"{_typed(Path(sys.executable))} -m pipeline"
    if started.stem == "densereid":
        return "densereid" if shutil.which("densereid") == str(started) else _typed(started)
    package = started.parent.name if started.name == "__main__.py" else ""
    return f"{_typed(Path(sys.orig_argv[0]))} -m {package if package == 'densereid' else 'pipeline'}"


def beside_python(name: str) -> str:
    """How a program of this Python's environment is started, ``tensorboard`` for example: for a shell, quoted."""
    beside = Path(sys.executable).parent / name
    return name if shutil.which(name) == str(beside) or not beside.is_file() else _typed(beside)


def _typed(path: Path) -> str:
    """A program's path, from the current folder where it lies below it."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def next_command(command: str, /, *, without: Collection[str] = (), **named: object) -> str:
    """How another command is started, as this one was: by make, or not; it may be pasted as it is.

    ``command`` is its name, ``catalog check`` for example. ``named`` are values by the name of their option or
    argument, a list for one that may be repeated. What this command was given, and the other one takes, follows, but
    for the options ``without``.
    """
    texts = {
        name.upper(): tuple(map(str, value if isinstance(value, list) else [value])) for name, value in named.items()
    }
    left = {name.upper() for name in without}
    texts = {name: values for name, values in texts.items() if name not in left}
    for parameter in _running[0].parameters(command):
        given = _running[0].given.get(parameter.variable)
        if given is not None and parameter.variable not in left | _ONLY_ONCE:
            texts.setdefault(parameter.variable, given)
    if not by_make():
        return masked(" ".join((program(), command, *_words(command, texts))))
    target = next((target for target, name in TARGETS.items() if name == command), command)
    joined = {name: " ".join(values) for name, values in texts.items()}
    return masked(" ".join((f"make {target}", *_assignments({**joined, **_make_own()}))))


def _words(command: str, texts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Arguments, then options, quoted for a shell; a name that the command does not have is taken for an option."""
    known = {parameter.variable: parameter for parameter in _running[0].parameters(command)}
    arguments, options = [], []
    for name, values in texts.items():
        parameter = known.get(name) or Parameter(name, f"--{name.lower().replace('_', '-')}")
        if not parameter.option:
            arguments += [shlex.quote(value) for value in values]
        elif parameter.is_flag:
            options.append(parameter.option)
        else:
            options += [f"{parameter.option} {shlex.quote(value)}" for value in values]
    return [*arguments, *options]


def _make_own() -> dict[str, str]:
    """VENV and the like, which make was given and exports as they are."""
    return {name: os.environ.get(name, "") for name in os.environ.get("DENSEREID_MAKE_OWN", "").split()}


def _assignments(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={shlex.quote(value) if value else ''}" for name, value in variables.items()]
