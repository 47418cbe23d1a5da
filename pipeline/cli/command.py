"""Commands as this project has them: loaded when they are asked for, every parameter also a variable."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import click

from densereid.pipeline.cli.parameter_types import Switch
from densereid.pipeline.cli.variables import PREFIX, all_commands, check_variables, variable_of
from densereid.pipeline.invocation import Invocation, Parameter, make_variables, set_running


class Command(click.Command):
    """A command each of whose parameters is also read from the environment, as ``DENSEREID_`` and its variable."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            parameter.envvar = PREFIX + variable_of(parameter)
            if getattr(parameter, "is_flag", False):
                parameter.type = Switch(variable_of(parameter))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, after a look at the variables that were given, and note what was typed."""
        if not ctx.resilient_parsing:
            check_variables(self, ctx.find_root().command, name_in(ctx))
            _note(self, ctx, args)
        return super().parse_args(ctx, args)


def _note(command: click.Command, context: click.Context, args: list[str]) -> None:
    """Note what is typed for the command's parameters, and what stands in the environment for the others."""
    words, _, _ = command.make_parser(context).parse_args(list(args))
    typed = {parameter: _texts(words.get(parameter.name or "")) for parameter in command.params}
    there = {parameter: os.environ.get(str(parameter.envvar)) for parameter in command.params if not typed[parameter]}
    exported = {each: tuple(text.split()) if each.multiple else (text,) for each, text in there.items() if text}
    given = {variable_of(each): texts for each, texts in {**typed, **exported}.items() if texts}
    for name in make_variables():  # make may have been given what the next command alone takes
        if text := os.environ.get(PREFIX + name):
            given.setdefault(name, (text,))
    root = context.find_root().command

    def parameters(name: str) -> list[Parameter]:
        return as_parameters(all_commands(root)[name])

    set_running(Invocation(name_in(context), given, frozenset(map(variable_of, exported)), parameters))


def _texts(value: Any) -> tuple[str, ...]:
    """What the parser found for a parameter as texts; none for what click calls unset."""
    if isinstance(value, list | tuple):
        return tuple(text for text in value if isinstance(text, str))
    return (str(int(value)),) if isinstance(value, bool) else (value,) if isinstance(value, str) else ()


def as_parameters(command: click.Command) -> list[Parameter]:
    """How a command's options and arguments are typed."""
    return [_as_parameter(each) for each in command.params]


def _as_parameter(parameter: click.Parameter) -> Parameter:
    is_option = isinstance(parameter, click.Option)
    option = max(parameter.opts, key=len) if is_option else ""
    return Parameter(variable_of(parameter), option, is_option and bool(getattr(parameter, "is_flag", False)))


def name_in(context: click.Context) -> str:
    """The command's name within its groups: ``catalog check``."""
    if context.parent is None:
        return ""
    return f"{name_in(context.parent)} {context.info_name}".lstrip()


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
