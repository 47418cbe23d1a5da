"""How this program was started, by make or not, and how another command is started in the same way."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path


def make_variables() -> list[str]:
    """The names of the variables that make was given for a command; none without make.

    The Makefile passes them on in DENSEREID_MAKE_VARIABLES, and the value of each as DENSEREID_ and its name.
    """
    return os.environ.get("DENSEREID_MAKE_VARIABLES", "").split()


def this_command() -> str:
    """The command line as the user typed it: make's, where make was asked."""
    goals = os.environ.get("DENSEREID_MAKE_GOALS")
    if goals is None:
        return f"{program()} {shlex.join(sys.argv[1:])}"
    own = os.environ.get("DENSEREID_MAKE_OWN", "").split()  # VENV and the like, which make exports as they are
    values = {name: os.environ.get(f"DENSEREID_{name}", "") for name in make_variables()}
    values |= {name: os.environ.get(name, "") for name in own}
    return " ".join((f"make {goals}", *_assignments(values)))


def program() -> str:
    """How this program was started: ``densereid``, ``python -m densereid``, in a checkout ``python -m pipeline``."""
    started = Path(sys.argv[0])
    if started.stem == "densereid":
        return "densereid"
    package = started.parent.name if started.name == "__main__.py" else ""
    return f"python -m {package if package == 'densereid' else 'pipeline'}"


def command_line(command: str, arguments: Mapping[str, object], options: Mapping[str, str] | None = None) -> str:
    """How another command is started, as this one was: by make, or not.

    ``command`` is its name, ``catalog check`` for example, whose target for make is the last word. ``arguments`` and
    ``options`` are its values by name; make takes both as variables.
    """
    named = {**arguments, **(options or {})}
    if "DENSEREID_MAKE_GOALS" in os.environ:
        variables = {name.upper(): str(value) for name, value in named.items()}
        return " ".join((f"make {command.split()[-1]}", *_assignments(variables)))
    words = [word for name, value in (options or {}).items() for word in (f"--{name.replace('_', '-')}", value)]
    return " ".join((f"{program()} {command}", shlex.join((*map(str, arguments.values()), *words)))).rstrip()


def _assignments(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={shlex.quote(value) if value else ''}" for name, value in variables.items()]
