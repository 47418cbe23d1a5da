"""Where the IUV map of an image lies, beside a dataset or inside a folder of crops."""

from __future__ import annotations

from pathlib import Path

_SUFFIXES = ("", "_IUV", "_iuv")


def iuv_path(iuv_root: Path, image: str) -> Path | None:
    """The IUV map of an image: the image's relative path, or its bare name, under ``iuv_root``; None if absent."""
    relative = Path(image)
    for folder in (iuv_root / relative.parent, iuv_root):
        for suffix in _SUFFIXES:
            candidate = folder / f"{relative.stem}{suffix}.png"
            if candidate.is_file():
                return candidate
    return None


def is_iuv_file(path: Path, iuv_root: Path | None) -> bool:
    """Whether a file among a folder's crops is an IUV map by its name or folder."""
    named = any(suffix and path.stem.endswith(suffix) for suffix in _SUFFIXES)
    return named or (iuv_root is not None and path.is_relative_to(iuv_root))
