"""Mistakes of the user: what is wrong and what to do; and the one line that is quoted of any other error."""

from __future__ import annotations

import pytest

from densereid.data_catalog.errors import UserError, first_line


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
