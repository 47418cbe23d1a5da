"""The one error class for mistakes that the user can repair, and how other errors are quoted in it."""

from __future__ import annotations


class UserError(Exception):
    """A problem the user can repair: what is wrong, and what to do next.

    ``problem`` names the thing, what was found and what was expected; ``remedy`` is the next step.
    The command line prints both without a traceback and exits with 1.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


def first_line(error: BaseException) -> str:
    """The first line of an error's text, to be quoted in a sentence; the name of its type where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
