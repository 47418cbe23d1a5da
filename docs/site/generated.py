"""The parts of the documentation that are printed by the code: `python docs/site/generated.py` writes them again.

They stand in the pages, between ``<!-- generated: NAME ARGUMENT -->`` and ``<!-- end -->``, so that the pages can be
read without a build and a changed option shows up in a diff. A test compares them with the code.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from densereid.data_catalog.datasets.specs import known_datasets
from densereid.data_catalog.store.schema import schema_table
from densereid.pipeline.cli import cli
from densereid.pipeline.reports.paper_tables import known_tables
from densereid.train.config.experiment import experiments
from densereid.train.config.train_config import describe_settings
from densereid.train.config.validation import setting_text

ROOT = Path(__file__).parents[2]
_REGION = re.compile(r"(<!-- generated: (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHARED = 3
"""An option of so many commands is described once, for all of them."""


def updated(text: str) -> str:
    """A page's text with all of its regions written anew."""

    def region(match: re.Match[str]) -> str:
        return f"{match[1]}{CONTENTS[match[2]](match[3])}\n{match[4]}"

    return _REGION.sub(region, text)


def commands(group: click.Group = cli, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by the words after ``python -m pipeline``, in the order of their names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        elif command is not None:
            yield f"{prefix}{name}", command


def _key(option: click.Option) -> tuple[str, str]:
    return option.opts[0], option.help or ""


def _options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def _shared() -> dict[tuple[str, str], click.Option]:
    """The options that are the same in :data:`_SHARED` commands or more, by name and meaning."""
    everywhere = [option for _, command in commands() for option in _options(command)]
    keys = [_key(option) for option in everywhere]
    return {_key(option): option for option in everywhere if keys.count(_key(option)) >= _SHARED}


def _shared_options(_: str) -> str:
    return _option_table([option for _, option in sorted(_shared().items())])


def _command(name: str) -> str:
    """What a command does, its arguments, its own options as a table, and the names of those it shares."""
    command = dict(commands())[name.replace("/", " ")]
    shared, parts = _shared(), [" ".join((command.help or "").split())]
    arguments = [f"`{one.name}`".upper() for one in command.params if isinstance(one, click.Argument)]
    own = [option for option in _options(command) if _key(option) not in shared]
    others = [f"`{option.opts[0]}`" for option in _options(command) if _key(option) in shared]
    parts += [f"Arguments: {', '.join(arguments)}."] if arguments else []
    parts += [_option_table(own)] if own else []
    parts += [f"Shared options: {', '.join(others)}."] if others else []
    return "\n\n".join(parts)


def _option_table(options: Sequence[click.Option]) -> str:
    lines = ["| option | meaning |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{option.opts[0]}` | {_meaning(option)} |" for option in options)])


def _meaning(option: click.Option) -> str:
    """The option's help, its choices and its default."""
    sentences, default = [option.help or ""], option.get_default(click.Context(cli))
    if isinstance(option.type, click.Choice):
        sentences.append(f"One of {', '.join(f'`{choice}`' for choice in option.type.choices)}.")
    if isinstance(default, str | int | Path) and not option.is_flag:
        sentences.append(f"Default: `{default}`.")
    return " ".join(sentences).replace("|", r"\|")


def _files(folder: str) -> str:
    """The modules of a folder and of its subfolders, each with the first sentence of its docstring."""
    lines = ["| file | what it holds |", "|---|---|"]
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name != "__init__.py":
            lines.append(f"| `{path.relative_to(ROOT).as_posix()}` | {_first_sentence(path)} |")
    return "\n".join(lines)


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n\n")[0].replace("\n", " ").replace("``", "`").replace("|", r"\|")


def _settings(_: str) -> str:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for key, default, text in describe_settings():
        value = setting_text(default)
        lines.append(f"| `{key}` | `{value}` | {text} |" if value else f"| `{key}` | | {text} |")
    return "\n".join(lines)


def _variants(family: str) -> str:
    """The rows of the papers that change ``dsa-reid``, or an experiment of MagnifierNet's."""
    lines = ["| model | changes | the papers' row |", "|---|---|---|"]
    for name, one in experiments().items():
        if one.paper and one.small is not None and name.startswith("magnifiernet") == (family == "magnifiernet"):
            lines.append(f"| `{name}` | `{one.base}` | {one.paper} |")
    return "\n".join(lines)


def _datasets(_: str) -> str:
    lines = ["| `DATASET` | dataset | train | query | gallery |", "|---|---|---|---|---|"]
    for name, spec in known_datasets().items():
        numbers = [_count(spec.counts.get(split)) for split in ("train", "query", "gallery")]
        lines.append(f"| `{name}` | {spec.title} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def _count(numbers: Sequence[int] | None) -> str:
    return "any" if numbers is None else f"{numbers[0]:,} / {numbers[1]:,}"


def _tables(_: str) -> str:
    lines = ["| `TABLE` | what it is | rows | variants of |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {table.title} | {len(table.rows)} | `{table.base}` |" for name, table in known_tables().items()
    ]
    return "\n".join(lines)


CONTENTS = {
    "schema": lambda _: schema_table(),
    "shared_options": _shared_options,
    "command": _command,
    "files": _files,
    "settings": _settings,
    "variants": _variants,
    "datasets": _datasets,
    "tables": _tables,
}
"""What a region can hold, by the NAME in its first line."""


def main() -> None:
    """Write every region of every page again; say which pages changed."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = updated(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            sys.stderr.write(f"updated {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
