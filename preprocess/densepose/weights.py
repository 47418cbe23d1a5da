"""DensePose weights: found by name, by path or in the cache, downloaded once, and pinned by their SHA-256.

The first use of a file records its digest under the cache folder, once it was read; a file that changes afterwards is
refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import write_json
from densereid.data_catalog.files.sealed_json import parsed_json
from densereid.preprocess.densepose.download import download
from densereid.preprocess.densepose.restricted_reader import UnreadableFile
from densereid.preprocess.densepose.zoo import (
    LICENCE,
    NAMES_IN_WORDS,
    PublishedWeights,
    cache_folder,
    nearest_name,
    published,
)

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Weights:
    """A weights file on this machine and the digest under which it was first used."""

    path: Path
    sha256: str


def find_weights(name: str, read: Callable[[Path], _Read], notify: Callable[[str], None]) -> tuple[Path, _Read]:
    """The path of the weights called ``name`` in the zoo, or of the file ``name``, and what ``read`` makes of it.

    Published weights are looked for in the cache first and downloaded where they are not there; ``notify`` gets
    the address and the licence before. A file in the cache that cannot be read is set aside. Raises UserError with
    the address and the target path where the weights cannot be had, for an unknown name, and where ``read`` does.
    """
    entry = published(name)
    if entry is None:
        path = _file_at(name)
        return path, read(path)
    if entry.cached.is_file():
        try:
            return entry.cached, read(entry.cached)
        except UnreadableFile as error:
            _set_aside(entry.cached, error, notify)
    notify(f"downloading {entry.url} to {entry.cached}; licence: {LICENCE}")
    return entry.cached, _downloaded(entry, read, notify)


def at_hand(name: str) -> bool:
    """Whether the weights of that name or path are on this machine."""
    entry = published(name)
    return (Path(name).expanduser() if entry is None else entry.cached).is_file()


def first_use(name: str) -> str | None:
    """What :func:`find_weights` and :func:`pin` would write to this machine, in words; None where only read."""
    entry = published(name)
    path = _file_at(name) if entry is None else entry.cached
    if not path.is_file():
        return f"the weights would be downloaded to {path}"
    return None if _pin_of(path).is_file() else f"the digest of {path} would be recorded, at its first use"


def _file_at(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path.resolve()
    remedy = f"{NAMES_IN_WORDS}; or give the path of a .pkl or .pth file"
    if path.is_dir():
        raise UserError(f"WEIGHTS={name} is a folder, not a file", remedy)
    near = nearest_name(name)
    hint = f"; did you mean WEIGHTS={near}?" if near else ""
    raise UserError(f"WEIGHTS={name} is neither a file nor a published name{hint}", remedy)


def _set_aside(path: Path, error: UnreadableFile, notify: Callable[[str], None]) -> None:
    aside = path.with_name(f"{path.name}.unreadable")
    try:
        path.replace(aside)
        _pin_of(path).unlink(missing_ok=True)
    except FileNotFoundError:
        return  # another process was first
    except OSError:
        raise error from None  # of a cache that may not be written to
    notify(f"{error.problem}; it is now {aside}, and the file is fetched again")


def _downloaded(entry: PublishedWeights, read: Callable[[Path], _Read], notify: Callable[[str], None]) -> _Read:
    try:
        return download(entry.url, entry.cached, read=read, notify=notify)
    except OSError as error:  # requests' errors are OSErrors too
        raise UserError(
            f"the weights {entry.config} are not on this machine, and downloading them failed: {_reason(error)}",
            "run the same command again, which continues what broke off where the server can; or get\n"
            f"{entry.url} elsewhere and put it at {entry.cached}\n"
            "(DENSEREID_CACHE names another cache folder; WEIGHTS=FILE uses a file where it lies)",
        ) from error


def _reason(error: OSError) -> object:
    """What requests wraps into "Max retries exceeded", where it does."""
    return getattr(error.args[0] if error.args else None, "reason", error)


def pin(weights: Weights) -> None:
    """Record the digest as that of the file's first use, once the file was read; or compare it with that.

    Raises UserError with both digests where they differ.
    """
    path, digest = weights.path, weights.sha256
    record = _pin_of(path)
    pinned = _pinned(record)
    if pinned is None:
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            write_json(record, {"path": str(path), "sha256": digest})
        except OSError as error:
            raise UserError(
                f"the digest of {path} cannot be recorded: {error}", "set DENSEREID_CACHE to a folder you can write to"
            ) from error
    elif pinned != digest:
        raise UserError(
            f"{path} has changed: its SHA-256 is {digest}, at its first use it was {pinned}",
            f"if you replaced it on purpose, delete {record}; stores made with the old file keep its digest",
        )


def _pin_of(path: Path) -> Path:
    return cache_folder() / "pins" / f"{path.stem}-{hashlib.sha256(bytes(path)).hexdigest()[:16]}.json"


def _pinned(record: Path) -> str | None:
    try:
        return str(parsed_json(record.read_text(encoding="utf-8"))["sha256"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{record} is no record of a digest", "move it away") from error
