"""The one error class for mistakes that the user can repair, and how other errors are quoted in it."""

from __future__ import annotations

import re

_NOT_PRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but line breaks and tabs, changes of direction, and what stands for bytes that are no text."""

_URL = re.compile(r"\S+://\S+")
_LOGIN = re.compile(r"(?<=://)(?:[^\s/@:]*:\S+|[^\s/@:]{16,})@")
"""Name and password, or a key; a short name alone is none. Keys may hold a slash, so it reaches to the last @."""

_QUERY = re.compile(r"([?&;#][\w.%~-]+=)[^&;#\s'\",)]+")
_SECRET_QUERY = re.compile(r"(?i)([?&;][\w.%-]*(?:token|secret|passw|sig|key|credential)[\w.%-]*=)[^&;#\s'\",)]+")
"""Of an address whose beginning stands elsewhere, as libraries quote it."""

_ASKED = re.compile(r"(?:GLOBAL |instance of )(?:<class ')?([\w.]+)")
"""What torch says of a name that a file may not have."""


class UserError(Exception):
    """A problem the user can repair: what is wrong, and what to do next.

    ``problem`` names the thing, what was found and what was expected; ``remedy`` is the next step.
    The command line prints both without a traceback and exits with 1.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = printable(problem)
        self.remedy = printable(remedy)

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


def masked(text: str) -> str:
    """The text with ``***`` for the secrets in its URLs: passwords, keys, and the values after a question mark."""
    text = _URL.sub(lambda found: _QUERY.sub(r"\1***", _LOGIN.sub("***@", found[0])), text)
    return _SECRET_QUERY.sub(r"\1***", text)


def printable(text: str) -> str:
    """The text with control characters spelt out, and no secrets: names of files and URLs end on a terminal."""
    text = masked(text)
    return _NOT_PRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, to be quoted in a sentence; the name of its type where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def asked_for(error: BaseException) -> str | None:
    """The name that a file wanted ``torch.load`` to call or to make, where that is why it was not loaded; else None."""
    found = _ASKED.search(str(error)) if "weights_only" in str(error) else None
    return found[1] if found else None


def why_not_loaded(error: BaseException) -> str:
    """Why ``torch.load`` could not read a file, in a sentence of ours: without its advice to switch its safety off."""
    text, name = str(error), asked_for(error)
    if name is not None:
        return f"it asks for {name}, which plain weights do not need; it was not run"
    if isinstance(error, EOFError) or "central directory" in text or "not a ZIP" in text:
        return "its end is missing"
    if "TorchScript" in text:
        return "it is a TorchScript archive: code and weights in one"
    if "weights_only" in text:
        words = text.partition("WeightsUnpickler error:")[2].strip()
        return f"torch stopped at: {words.splitlines()[0]}" if words else "torch cannot read it"
    sentence = first_line(error).partition(". ")[0]
    return sentence if " " in sentence else f"it is no file of torch.save, or a damaged one ({type(error).__name__})"
