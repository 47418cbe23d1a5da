"""DensePose weights: found by name, by path or in the cache, downloaded once, and pinned by their SHA-256.

The first use of a file records its digest under the cache folder; a file that changes afterwards is refused.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import replacing, write_json

LICENCE = "CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/)"
"""Of every published DensePose model, as the model zoo's page says (doc/DENSEPOSE_IUV.md, section License)."""

_SERVER = "https://dl.fbaipublicfiles.com/densepose"
_TIMEOUT = 30.0
_BLOCK = 2**20

_DOWNLOADING = ".downloading-"
_ABANDONED_SECONDS = 24 * 3600
"""How old a folder of an unfinished download is when no process can be at work in it any more."""


@dataclass(frozen=True)
class PublishedWeights:
    """An entry of DensePose's model zoo: its config, where it is published, and its published SHA-256 if known."""

    config: str
    url: str
    sha256: str | None = None

    @property
    def cached(self) -> Path:
        """Where the file belongs in the cache, whether or not it is there."""
        return cache_folder() / self.config / self.url.rsplit("/", 1)[1]


def _published(name: str, file: str) -> PublishedWeights:
    config = f"densepose_rcnn_{name}"
    return PublishedWeights(config, f"{_SERVER}/{config}/{file}")


# Source of the addresses: DensePose's doc/DENSEPOSE_IUV.md. It publishes no digests, so none stand here.
ZOO: dict[str, PublishedWeights] = {
    name: _published(name, file)
    for name, file in {
        "R_50_FPN_s1x": "165712039/model_final_162be9.pkl",
        "R_50_FPN_DL_s1x": "165712097/model_final_0ed407.pkl",
        "R_101_FPN_s1x": "165712084/model_final_c6ab63.pkl",
        "R_101_FPN_DL_s1x": "165712116/model_final_844d15.pkl",
    }.items()
}


@dataclass(frozen=True)
class Weights:
    """A weights file on this machine and the digest under which it was first used."""

    path: Path
    sha256: str


def cache_folder() -> Path:
    """DENSEREID_CACHE, or ``~/.cache/densereid``."""
    given = os.environ.get("DENSEREID_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "densereid"


def find_weights(name: str, notify: Callable[[str], None]) -> Weights:
    """The weights called ``name`` in :data:`ZOO`, or the file at the path ``name``, pinned.

    Published weights are looked for in the cache first and downloaded where they are not there; ``notify`` gets
    the address and the licence before. Raises UserError with the address and the target path where they cannot be
    had, and for an unknown name, a missing file or one that changed since its first use.
    """
    entry = ZOO.get(name.removeprefix("densepose_rcnn_"))
    if entry is None:
        return pin(_file_at(name))
    if not entry.cached.is_file():
        notify(f"downloading {entry.url} to {entry.cached}; licence: {LICENCE}")
        _download(entry)
    return pin(entry.cached, published=entry.sha256)


def first_use(name: str) -> str | None:
    """What :func:`find_weights` would write to this machine, in words; None where it would only read."""
    entry = ZOO.get(name.removeprefix("densepose_rcnn_"))
    path = _file_at(name) if entry is None else entry.cached
    if not path.is_file():
        return f"the weights would be downloaded to {path}"
    return None if _pin_of(path).is_file() else f"the digest of {path} would be recorded, at its first use"


def _file_at(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path.resolve()
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"WEIGHTS={name} is not a file", f"expected a .pkl or .pth file, or one of {', '.join(ZOO)}")
    near = difflib.get_close_matches(name, ZOO, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(
        f"WEIGHTS={name} is neither a file nor a published name{hint}",
        f"published are {', '.join(ZOO)}; or give the path of a .pkl or .pth file",
    )


def _download(entry: PublishedWeights) -> None:
    """Fetch ``entry`` into the cache, with a bar on a terminal; the file appears whole or not at all.

    It does not continue one that broke off: pooch starts every download from scratch.
    """
    import pooch  # takes a tenth of a second, and most often the weights are in the cache

    folder = entry.cached.parent
    pooch.get_logger().setLevel("WARNING")  # it would repeat what ``notify`` said
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=_BLOCK, timeout=_TIMEOUT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        with tempfile.TemporaryDirectory(prefix=_DOWNLOADING, dir=folder) as temporary:
            fetched = pooch.retrieve(entry.url, entry.sha256, entry.cached.name, temporary, downloader=fetch)
            with replacing(entry.cached) as target:
                Path(fetched).replace(target)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; pooch's, of a wrong digest, is a ValueError
        raise UserError(
            f"the weights {entry.config} are not on this machine, and downloading them failed: {_reason(error)}",
            f"get {entry.url} elsewhere and put it at {entry.cached}\n"
            "(DENSEREID_CACHE names another cache folder; WEIGHTS=FILE uses a file where it lies)",
        ) from error


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed downloads left behind; a younger one may be at work in another process."""
    for left in folder.glob(f"{_DOWNLOADING}*"):
        with contextlib.suppress(FileNotFoundError):  # another process's, finished meanwhile
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _reason(error: OSError | ValueError) -> object:
    """What requests wraps into "Max retries exceeded", where it does."""
    return getattr(error.args[0] if error.args else None, "reason", error)


def pin(path: Path, *, published: str | None = None) -> Weights:
    """The file with its digest: compared with the published one where that is known, and with its first use's.

    Raises UserError with both digests where they differ.
    """
    digest = file_digest(path)
    if published is not None and digest != published:
        raise UserError(
            f"{path} is not the published file: its SHA-256 is {digest}, published is {published}", "delete it"
        )
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
    return Weights(path, digest)


def _pin_of(path: Path) -> Path:
    return cache_folder() / "pins" / f"{path.stem}-{hashlib.sha256(bytes(path)).hexdigest()[:16]}.json"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal. Raises UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"the weights {path} cannot be read: {error.strerror}") from error


def _pinned(record: Path) -> str | None:
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{record} is no record of a digest", "delete it") from error
