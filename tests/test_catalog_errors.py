"""Mistakes of the user: what is wrong and what to do; and the one line that is quoted of any other error."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densereid.data_catalog.errors import UserError, asked_for, first_line, printable, why_not_loaded


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such key"), "no such key"),
        (RuntimeError("\n  weights do not fit:\n  a is missing\n"), "weights do not fit:"),
        (EOFError(), "EOFError"),
        (OSError("   \n "), "OSError"),
        (UserError("the problem", "the remedy"), "the problem"),
    ],
)
def test_an_error_is_quoted_by_its_first_line(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_what_a_terminal_would_obey_is_spelt_out() -> None:
    """Names and contents of files end in messages; bytes of a name that are no text could not even be printed."""
    name = "a\x1b[2J\x07b\r\udcffc\u202e.png"
    shown = r"a\x1b[2J\x07b\r\udcffc\u202e.png"
    assert printable(name) == shown
    assert str(UserError(f"{name} is gone\n", f"\tget {name}")) == f"{shown} is gone\n\n\tget {shown}"
    assert printable("früh 早い 👩‍🔬\n") == "früh 早い 👩‍🔬\n"


class _Calls:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def _reading(path: Path) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - torch raises many types
        torch.load(path, weights_only=True)
    return caught.value


def test_torchs_advice_to_switch_its_safety_off_is_not_quoted(tmp_path: Path) -> None:
    """Of a weights file that asks for what it may not have, that is cut off, and that is no file of torch's."""
    for content, name in ((_Calls(), "posix.system"), ({"a": np.float32(1)}, r"numpy\._?core\.multiarray\.scalar")):
        torch.save(content, tmp_path / "a.pth")
        error = _reading(tmp_path / "a.pth")
        assert re.fullmatch(name, str(asked_for(error)))
        assert re.fullmatch(
            f"it asks for {name}, which plain weights do not need; it was not run", why_not_loaded(error)
        )
    whole = (tmp_path / "a.pth").read_bytes()
    for broken, words in (
        (b"", "its end is missing"),
        (b"hello", "it is no file of torch.save"),
        (whole[:90], "its end is missing"),
    ):
        (tmp_path / "a.pth").write_bytes(broken)
        reason = why_not_loaded(_reading(tmp_path / "a.pth"))
        assert reason.startswith(words)
        assert "weights_only" not in reason
