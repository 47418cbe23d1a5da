"""How commands end and what they print: permissions, missing packages, and lines beside a progress bar."""

from __future__ import annotations

import errno
import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from helpers import ROOT

from densereid.pipeline.cli import cli, group
from densereid.pipeline.cli.variables import all_commands
from densereid.pipeline.console import StatusHandler, print_status
from densereid.pipeline.progress import ProgressReport


def ended(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    """The exit code of a command that ends with ``error``."""

    def end(**_: object) -> None:
        raise error

    monkeypatch.setattr(group, "stop_at_once_when_interrupted_twice", lambda: None)
    monkeypatch.setattr(cli, "main", end)
    monkeypatch.setenv("DENSEREID_MAKE_GOALS", "preprocess")
    with pytest.raises(SystemExit) as told:
        group.main()
    assert isinstance(told.value.code, int)
    return told.value.code


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_may_not_be_written_ends_in_a_sentence_about_permission(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    assert ended(monkeypatch, OSError(number, "Not allowed", "/somewhere/stores")) == 1
    said = capsys.readouterr().err
    assert "error: Not allowed: /somewhere/stores\nyou have no permission" in said
    assert "STORE_ROOT, RUN_ROOT or DATA_ROOT" in said
    assert "run the same command again" not in said


def test_a_full_disk_and_other_errors_of_the_system_say_what_helps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    assert "make room on that disk" in capsys.readouterr().err
    ended(monkeypatch, OSError(errno.EIO, "Input/output error", "x"))
    assert "run the same command again when that is mended" in capsys.readouterr().err


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, ModuleNotFoundError("No module named 'fsspec'", name="fsspec")) == 1
    said = capsys.readouterr().err
    assert "has no module fsspec" in said
    assert ".venv/bin/densereid" in said
    with pytest.raises(ModuleNotFoundError):
        ended(monkeypatch, ModuleNotFoundError("ours", name="densereid.nothing"))


def test_a_python_without_the_packages_says_which_one_has_them() -> None:
    command = [sys.executable, "-I", "-S", "-c", "import runpy; runpy.run_path('pipeline/__main__.py')"]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); " + command[-1]
    result = subprocess.run([*command[:-1], code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "has no module click\n`make` fills .venv" in result.stderr
    assert "Traceback" not in result.stderr


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_messages_stand_on_lines_of_their_own_while_a_bar_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    logger = logging.getLogger("densereid.test")
    logger.addHandler(StatusHandler())
    logger.setLevel(logging.INFO)
    with ProgressReport("rendering", 10) as report:
        report.advance(3)
        print_status("a line within")
        logger.info("a logged line")
        report.advance(1)
    print_status("error: after")
    lines = re.split(r"\n|\r", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
    assert {"a line within", "a logged line", "error: after"} <= {line.strip() for line in lines}


def test_the_home_folder_is_meant_by_a_tilde_in_every_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").touch()
    paths = {
        "data_root", "store_root", "run_root", "iuv_root", "catalog", "weights", "initial", "store_path", "source",
        "model", "run_folder", "target", "run_or_model", "runs",
    }  # fmt: skip
    folders = {"data_root", "run_root", "iuv_root"}
    for name, command in all_commands(cli).items():
        for parameter in (each for each in command.params if each.name in paths):
            text = "~/y" if parameter.name in folders else "~/x"
            value = parameter.type_cast_value(click.Context(command), [text] if parameter.nargs == -1 else text)
            value = value[0] if isinstance(value, tuple) else value
            assert str(value) == text.replace("~", str(tmp_path)), (name, parameter.name)
    context = all_commands(cli)["train"].make_context("train", ["--set", "model.pretrained=~/x"])
    assert context.params["overrides"] == (("model.pretrained", f"{tmp_path}/x"),)
