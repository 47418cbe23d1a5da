"""Whether a folder is a store of ours, of a version that is read here: another program's is told from a damaged one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.names import EXPECTED, is_name
from densereid.data_catalog.files.paths import AnyPath, UrlPath
from densereid.data_catalog.files.refusals import read_whole, unreadable
from densereid.data_catalog.store.manifest import MANIFEST
from densereid.data_catalog.store.schema import FORMAT_NAME, FORMAT_VERSION, Geometry

_ANOTHER = (
    "if it is another program's, leave it, and choose another path with STORE_ROOT or STORE_PATH; if it was a store of "
    "ours, bring its files back from a copy, or move it away and preprocess again. Nothing of it was changed"
)
_OR_ANOTHER = "Nothing of it was changed; STORE_ROOT names another folder"
_MOVE_AWAY = "restore it from a copy, if you have one. Otherwise move it away and preprocess again"


LOST = (
    "The store was moved or deleted, or a file in it is damaged: bring it back, or let `make verify` say what has to "
    "be made again. What is finished is kept; the same command continues."
)
"""What to do where a store that was open cannot be read any more."""


def check_free(path: AnyPath, marker: str) -> None:
    """Raise UserError where a file, or a folder with anything in it, is in the place of a new store."""
    if isinstance(path, UrlPath) or not (path.exists() or path.is_symlink()):
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file, or a link to nothing; a store is a folder", f"move it away. {_OR_ANOTHER}")
    if any(path.iterdir()):
        raise UserError(
            f"{path} is there and is no store: it has no file {marker}",
            f"bring that file back if the store lost it, or move the folder away. {_OR_ANOTHER}",
        )


def check_no_pipes(path: AnyPath) -> None:
    """Raise UserError where a pipe or a device lies in a store: whoever reads it would wait for ever."""
    if isinstance(path, UrlPath):
        return
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder) / name
            if file.exists() and not file.is_file():
                raise UserError(
                    f"{file} is a pipe or device; expected a file",
                    "move it away; `make verify` then says what is missing, and how it is made again",
                )


def check_description(path: AnyPath, attributes: Mapping[str, Any]) -> None:
    """Raise UserError where what a store says of itself is of another program, or of a version not read here."""
    if attributes.get("format") != FORMAT_NAME:
        raise UserError(
            f"{path} was not written by DenseReID: its format is {attributes.get('format')!r}, expected "
            f"{FORMAT_NAME!r}",
            _ANOTHER,
        )
    version = attributes.get("format_version", 0)
    if not isinstance(version, int) or not 0 < version <= FORMAT_VERSION:
        raise UserError(
            f"{path} has store format {version}; this version of DenseReID reads up to {FORMAT_VERSION}",
            "update DenseReID, or make a store with this version in another folder",
        )
    for key in {"dataset", "collision"} & set(attributes):  # they name other stores, and runs
        if not is_name(attributes[key]):
            raise UserError(f"{path} says that its {key} is {attributes[key]!r}", f"expected {EXPECTED}")


def geometry_of(path: AnyPath, attributes: Mapping[str, Any]) -> Geometry:
    """The sizes of the store at ``path``. Raises UserError where its attributes do not say them."""
    try:
        return Geometry(**attributes["geometry"])
    except UserError as error:
        raise UserError(f"{path}: {error.problem}", error.remedy) from None
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not say its sizes: {attributes.get('geometry')!r} is no geometry", _MOVE_AWAY
        ) from error


def not_opened(path: AnyPath, file: AnyPath, error: Exception) -> UserError:
    """The error for the file that makes a folder a store, which its library does not read: whose it is, is told by
    the manifest that is written beside ours."""
    if refused := unreadable(file, error):
        return refused
    if read_whole(path / MANIFEST) is None:
        return UserError(f"{file} is not a store of DenseReID's: {first_line(error)}", _ANOTHER)
    return UserError(f"{path} is damaged: {file.name} is not as it was written: {first_line(error)}", _MOVE_AWAY)


def not_read(path: AnyPath, name: str, error: Exception) -> UserError:
    """The error for an array of the store at ``path`` that its library does not read."""
    return unreadable(f"'{name}' of {path}", error) or UserError(
        f"'{name}' of {path} cannot be read: {first_line(error)}", LOST
    )
