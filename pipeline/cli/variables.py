"""Variables: every option may also be set by make (``make train EPOCHS=3``) or in the environment (DENSEREID_EPOCHS=3).

The rule is one: the variable of ``--short-edge`` is SHORT_EDGE, in the environment with DENSEREID_ before it, so that
an exported SIZE or SEED of another program changes nothing. The Makefile passes on whatever it is given on its command
line; what a command knows is decided here, by its options.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from difflib import get_close_matches

import click
from click.core import ParameterSource

from densereid.pipeline.console import print_status
from densereid.pipeline.invocation import make_variables

PREFIX = "DENSEREID_"

_DRY_RUN = "DRY_RUN"
_NOT_OPTIONS = {"CACHE", "MAKE_GOALS", "MAKE_VARIABLES", "MAKE_OWN"}
"""Variables of ours in the environment that are no options."""

_OFF = ("", "0", "false", "f", "no", "n", "off")
"""What click reads as a flag that is not set."""


def variable_of(parameter: click.Parameter) -> str:
    """The variable of an option, ``SHORT_EDGE`` of ``--short-edge``, or of an argument, by its name."""
    names = parameter.opts if isinstance(parameter, click.Option) else [parameter.name or ""]
    return max(names, key=len).lstrip("-").replace("-", "_").upper()


def check_variables(command: click.Command, root: click.Command, name: str) -> None:
    """Refuse variables that no command has, of make or of ours in the environment.

    Those that make was given and only others than ``name`` have are mentioned. Raises click.UsageError with the
    nearest variable, and where a dry run is asked of a command that has none.
    """
    own = {variable_of(parameter) for parameter in command.params}
    if _DRY_RUN not in own and os.environ.get(PREFIX + _DRY_RUN, "").lower() not in _OFF:
        raise click.UsageError(f"{name} has no dry run (DRY_RUN is set); nothing was done")
    given = set(make_variables())
    for variable in sorted(given):
        if os.environ.get(PREFIX + variable) == "":
            print_status(f"note: {variable} is empty, as if it had not been given")
    exported = {word.removeprefix(PREFIX) for word in os.environ if word.startswith(PREFIX)} - _NOT_OPTIONS - given
    others = [*sorted(given - own), *sorted(exported - own)]
    if not others:
        return
    known = {variable_of(parameter) for each in all_commands(root).values() for parameter in each.params}
    for variable in others:
        if variable not in known:
            raise _unknown(variable if variable in given else PREFIX + variable, name, own, known)
        if variable in given:
            print_status(f"note: {name} does not use {variable}")


def say_unused(names: Collection[str], what: str) -> None:
    """Say of each of these parameters of the running command that was given that ``what`` does not use it."""
    context = click.get_current_context()
    given = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) in given:
            print_status(f"note: {what} does not use {variable_of(parameter)}")


def _unknown(variable: str, name: str, own: set[str], known: set[str]) -> click.UsageError:
    prefix = PREFIX if variable.startswith(PREFIX) else ""
    meant = variable.removeprefix(prefix).upper().replace("-", "_")
    near = [each for names in (own, known) for each in _nearest(meant, sorted(names))]
    hint = f"; did you mean {prefix}{near[0]}?" if near else ""
    hint += f" {name} does not use it: other commands do." if near and near[0] not in own else ""
    where = "It stands in the environment: unset it, or correct it."
    if not prefix:
        where = f"What is meant for another program stands before make: {variable}=... make"
    return click.UsageError(
        f"{name} has no variable {variable}{hint}\nIt has {', '.join(sorted(own)) or 'none'}.\n{where}"
    )


def _nearest(meant: str, names: Sequence[str]) -> list[str]:
    """RUN_FOLDER for RUN, EPOCHS for EPOCH: the names that begin so, or the one that is spelt most alike."""
    return [name for name in names if name.startswith(f"{meant}_")] or get_close_matches(meant, names, n=1)


def all_commands(root: click.Command, group: str = "") -> dict[str, click.Command]:
    """The command, or all those of a group, by their names: ``catalog check`` for example."""
    if not isinstance(root, click.Group):
        return {group: root}
    context, found = click.Context(root), dict[str, click.Command]()
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        found |= all_commands(command, f"{group} {name}".lstrip())
    return found
