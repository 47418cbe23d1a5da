"""Mistakes of the user: what is wrong and what to do; and the one line that is quoted of any other error."""

from __future__ import annotations

import pytest

from densereid.data_catalog.errors import UserError, first_line, printable


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
