"""Variables: every option may also be set by make (``make train EPOCHS=3``) or in the environment (DENSEREID_EPOCHS=3).

The rule is one: the variable of ``--short-edge`` is SHORT_EDGE, in the environment with DENSEREID_ before it, so that
an exported SIZE or SEED of another program changes nothing. The Makefile passes on whatever it is given on its command
line; what a command knows is decided here, by its options.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches

import click

from densereid.pipeline.console import print_status
from densereid.pipeline.invocation import make_variables

PREFIX = "DENSEREID_"

_DRY_RUN = "DRY_RUN"
_OFF = ("", "0", "false", "f", "no", "n", "off")
"""What click reads as a flag that is not set."""


def variable_of(parameter: click.Parameter) -> str:
    """The variable of an option, ``SHORT_EDGE`` of ``--short-edge``, or of an argument, by its name."""
    names = parameter.opts if isinstance(parameter, click.Option) else [parameter.name or ""]
    return max(names, key=len).lstrip("-").replace("-", "_").upper()


def check_variables(command: click.Command, root: click.Command, name: str) -> None:
    """Refuse variables that make was given and no command has; mention those that only others than ``name`` have.

    Raises click.UsageError with the nearest variable, and where a dry run is asked of a command that has none.
    """
    own = {variable_of(parameter) for parameter in command.params}
    if _DRY_RUN not in own and os.environ.get(PREFIX + _DRY_RUN, "").lower() not in _OFF:
        raise click.UsageError(f"{name} has no dry run (DRY_RUN is set); nothing was done")
    others = [variable for variable in make_variables() if variable not in own]
    if not others:
        return
    known = {variable_of(parameter) for each in _commands(root) for parameter in each.params}
    for variable in others:
        if variable not in known:
            raise _unknown(variable, name, own, known)
        print_status(f"note: {name} does not use {variable}")


def _unknown(variable: str, name: str, own: set[str], known: set[str]) -> click.UsageError:
    meant = variable.upper().replace("-", "_")
    near = get_close_matches(meant, sorted(own), n=1) or get_close_matches(meant, sorted(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return click.UsageError(
        f"{name} has no variable {variable}{hint}\n"
        f"It has {', '.join(sorted(own)) or 'none'}.\n"
        f"What is meant for another program stands before make: {variable}=... make"
    )


def _commands(command: click.Command) -> Iterator[click.Command]:
    """The command, or all those of a group."""
    if not isinstance(command, click.Group):
        yield command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _commands(found)
