"""The pages of documentation as data, and what a reader does with them: run their blocks, in order, in one folder."""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from helpers import ROOT, as_started

from densereid.pipeline.cli import cli, main
from densereid.pipeline.cli.variables import variable_of
from densereid.train.config.train_config import describe_settings

PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in (
        "quickstart", "datasets", "estimators", "embedded", "preprocessing", "store", "models", "training", "reports",
        "commands", "python", "troubleshooting", "papers", "results", "reliability",
        "architecture",
    )),
    "CONTRIBUTING.md",
)  # fmt: skip
"""In reading order; what the first one leaves behind, the others find."""

GENERATED = runpy.run_path(str(ROOT / "docs" / "site" / "generated.py"))

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|file): (?P<note>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
_TOOLS = {"conda", "dask", "pip", "python", "tensorboard"}
"""Programs of others that blocks may name where they are not run."""

_NOT_OURS = {"PIP_NO_DEPS", "FAULTS"}
"""Variables that no command has."""

_RECORDER = f"""#!{sys.executable} -IS
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n")
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, what it is, and the comment before it, ``not run`` (why) or ``file`` (name)."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_page(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text = read_page(page)
    return [
        Block(page, text.count("\n", 0, match.start("language")) + 1, match["language"], match["text"],
              match["mark"] or "", match["note"] or "")
        for match in _BLOCK.finditer(text)
    ]  # fmt: skip


def inline_code(page: str) -> Iterator[str]:
    """Every `span` of code in a page's prose and tables; one may run over the end of a line."""
    for paragraph in _BLOCK.sub("", read_page(page)).split("\n\n"):
        assert paragraph.count("`") % 2 == 0, f"{page}: {paragraph}"
        yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", paragraph))


def commands_in(block: Block) -> Iterator[list[str]]:
    """The words of each command of a ``sh`` block. Only simple commands are understood: no pipes, no redirections."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        assert not {"|", ">", "<", "&&", "&", ";"} & set(words), f"{block}: {line}"
        if words:
            yield words


# What a command names exists.


def check_command(words: Sequence[str]) -> None:
    """AssertionError or click's UsageError where a command names a target, command, option or variable we lack."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        check_variable(words[0])
        words = words[1:]
    if words[0] == "make":
        for word in words[1:]:
            check_variable(word) if "=" in word else _check_target(word)
    elif ours(words) is not None:
        _check_options(list(ours(words) or ()))
    else:
        assert words[0].removeprefix(".venv/bin/") in _TOOLS, f"{words[0]} is no program that these pages know"


def ours(words: Sequence[str]) -> Sequence[str] | None:
    """The words after ``.venv/bin/densereid``, ``torchrun ... -m pipeline``; None for other programs."""
    for index in range(1, len(words) - 1):
        if list(words[index : index + 2]) == ["-m", "pipeline"] and Path(words[0]).name == "torchrun":
            return words[index + 2 :]
    return words[1:] if words[0] in ("densereid", ".venv/bin/densereid") else None


def check_variable(word: str) -> None:
    name = word.partition("=")[0]
    assert name in make_variables() | _NOT_OURS, f"{name} is no variable of make's"


def _check_target(name: str) -> None:
    if name.isupper():  # stands for any
        return
    assert re.search(rf"^{re.escape(name)}:", _makefile(), re.M), f"make has no target {name}"


def _check_options(words: list[str]) -> None:
    """Parse the words as click would, without running anything or asking for what is missing."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            assert set(words) <= {"--help", "-h", "--version"}, words
            return
        if words[0].isupper():  # stands for any
            return
        found = command.get_command(context, words.pop(0))
        assert found is not None, "no such command"
        command = found
    if words == ["--help"]:
        return
    given, _, _ = command.make_parser(click.Context(command)).parse_args(words)
    for setting in given.get("overrides") or ():
        check_setting(setting)


def check_setting(text: str) -> None:
    key = text.partition("=")[0]
    assert key in {known for known, _, _ in describe_settings()}, f"there is no setting {key}"


def sections() -> set[str]:
    """The sections of a training config: what stands before the dot of a setting."""
    return {key.partition(".")[0] for key, _, _ in describe_settings() if "." in key}


@cache
def make_variables() -> frozenset[str]:
    """Every variable that a command reads, and those that the Makefile itself gives a value."""
    read = {variable_of(parameter) for _, command in GENERATED["commands"]() for parameter in command.params}
    return frozenset(read) | set(re.findall(r"^(?:export )?([A-Z_]+) \?=", _makefile(), re.M))


@cache
def options() -> frozenset[str]:
    """Every option of every command."""
    return frozenset(name for _, command in GENERATED["commands"]() for one in command.params for name in one.opts)


def _makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


# A reader runs them.


class Reader:
    """Runs the blocks of one page in ``folder``, in their order. Commands run in this process: torch loads once."""

    def __init__(self, page: str, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self._ahead = [block for block in blocks(page) if block.mark != "not run"]
        self._namespace: dict[str, Any] = {}
        self._recorder = folder.parent / f"{folder.name}-make"
        (self._recorder / "bin").mkdir(parents=True)
        for name in ("python", "densereid"):
            (self._recorder / "bin" / name).write_text(_RECORDER)
            (self._recorder / "bin" / name).chmod(0o755)

    def read_to(self, last: Block | None = None) -> None:
        """Run what was not run yet of the page, to the block ``last``; AssertionError with the command that fails."""
        while self._ahead and (last is None or self._ahead[0].line <= last.line):
            self._run(self._ahead.pop(0))

    def _run(self, block: Block) -> None:
        if block.mark == "file":
            (self.folder / block.note).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            with contextlib.chdir(self.folder):
                exec(compile(block.text, str(block), "exec"), self._namespace)
        elif block.language == "sh":
            for words in commands_in(block):
                self._run_command(words)

    def _run_command(self, words: list[str]) -> None:
        if words[0] == "make":
            for arguments, environment in self._make(words[1:]):
                assert arguments[:2] == ["-m", "pipeline"], f"{shlex.join(words)} runs {arguments}"
                self._run_ours(arguments[2:], environment)
        else:
            arguments = ours(words)
            assert arguments is not None, f"{words[0]} is not run by this test: mark the block"
            self._run_ours(list(arguments), self.environment)

    def _make(self, words: list[str]) -> list[tuple[list[str], dict[str, str]]]:
        """Run the real make with an interpreter that only notes what it is asked: arguments and environment."""
        record = self._recorder / "record"
        record.write_text("")
        # DensePose's weights are not at hand: IUV maps stand for it.
        words = ["ESTIMATOR=iuv" if word == "ESTIMATOR=densepose" else word for word in words]
        (self._recorder / ".filled").touch()  # newer than pyproject.toml: the environment needs no filling
        command = ["make", "-C", str(ROOT), *words, f"VENV={self._recorder}"]
        environment = {**self.environment, "RECORD": str(record)}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, f"{shlex.join(words)}: {result.stdout}{result.stderr}"
        return [tuple(json.loads(line)) for line in record.read_text().splitlines()]

    def _run_ours(self, arguments: list[str], environment: dict[str, str]) -> None:
        with as_started(["pipeline", *arguments], environment, self.folder), pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, f"{shlex.join(arguments)} ended with {ended.value.code}"
