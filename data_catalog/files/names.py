"""Names that come from files and folders and become part of a path: names, never paths."""

from __future__ import annotations

MOST_BYTES = 200
"""Of a name; a file's name may have 255, and what is made of a name adds sizes, suffixes and numbers."""


def is_name(name: object) -> bool:
    """Whether a value can be part of a file's name: not a path, hidden, empty, too long, or of control characters."""
    if not isinstance(name, str) or not name or name.startswith(".") or set(name) & set("/\\"):
        return False
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # what stands for bytes that are no text
        return False
    return size <= MOST_BYTES and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)


EXPECTED = f"a name of at most {MOST_BYTES} bytes: no /, \\ or control characters, no dot at its beginning"
"""What :func:`is_name` asks for, in words."""
