"""Commands as this project has them: loaded when they are asked for, every parameter also a variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import click

from densereid.pipeline.cli.variables import PREFIX, check_variables, variable_of


class Command(click.Command):
    """A command each of whose parameters is also read from the environment, as ``DENSEREID_`` and its variable."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            parameter.envvar = PREFIX + variable_of(parameter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, after a look at the variables that make was given."""
        if not ctx.resilient_parsing:
            check_variables(self, ctx.find_root().command, _name(ctx))
        return super().parse_args(ctx, args)


def _name(context: click.Context) -> str:
    """The command's name within its groups: ``catalog check``."""
    if context.parent is None:
        return ""
    return f"{_name(context.parent)} {context.info_name}".lstrip()


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is asked for.

    ``modules`` has the module of each command, by the command's name, in the order of the help; there the command
    is the object ``NAME_command``, with ``_`` for ``-``.
    """

    def __init__(self, *args: Any, modules: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, without importing anything."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, its module imported; None where there is none of that name."""
        if cmd_name not in self._modules:
            return None
        command = getattr(import_module(self._modules[cmd_name]), f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command


def command(name: str) -> Callable[[Callable[..., None]], Command]:
    """Make a function, with its options, the command ``name``."""
    return click.command(name, cls=Command)
