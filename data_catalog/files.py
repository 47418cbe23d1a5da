"""Files that are either whole or absent: written aside, flushed to disk and renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that ``path`` holds either its old content or all of the new one, whatever happens."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    publish(aside, path)


def publish(aside: Path, path: Path) -> None:
    """Flush the finished file or folder ``aside`` to disk and rename it to ``path``."""
    flush(aside)
    aside.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Ask the operating system to put a file's content, or a folder's entries, on disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
