"""Which files the rows of a store were made from, and whether those files are still the same.

A row's *digest* says what its files held: it stands in the shard's marker, and is equal for equal files wherever they
lie. A row's *stamp* is the sizes and times of change of its files: it stands in :data:`INPUTS` beside the markers, and
spares reading files that nobody touched. Both have the image first, then ``+`` and what else the dense pose was read
from.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict, TypeVar

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import write_json
from densereid.data_catalog.files.image_files import is_of_the_file, read_content
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.sealed_json import is_sealed, parsed_json, sealed
from densereid.data_catalog.store.store import INPUTS
from densereid.preprocess.estimators.base import EstimatorInputs

ABSENT = "-"
"""Digest or stamp of a file that is not there, or that is none: a link to nothing, a folder."""

UNKNOWN = ""
"""Digest of a row whose files nobody recorded: stores that were made before they were."""

_THREADS = 8
_Item = TypeVar("_Item")


def digest_of(image: Path, inputs: EstimatorInputs) -> str:
    """What the files hold: 32 hexadecimal digits (BLAKE2b) of the image, and of what else there is.

    Raises OSError where a file that is there cannot be read for the moment.
    """
    return _joined(_digest, image, inputs)


def stamp_of(image: Path, inputs: EstimatorInputs) -> str:
    """Size in bytes and time of change in nanoseconds of the image, and of what else there is."""
    return _joined(_stamp, image, inputs)


def image_of(identity: str) -> str:
    """The part of a digest or stamp that says what the image is."""
    return identity.partition("+")[0]


def _joined(identify: Callable[[Path], str], image: Path, inputs: EstimatorInputs) -> str:
    noted = [inputs.note] if inputs.note else []
    return "+".join([identify(image), *(identify(file) for file in inputs.files), *noted])


def _digest(file: Path) -> str:
    try:
        return hashlib.blake2b(read_content(file), digest_size=16).hexdigest()
    except (UserError, FileNotFoundError):
        return ABSENT


def _stamp(file: Path) -> str:
    try:
        status = file.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) or is_of_the_file(error):
            return ABSENT
        raise
    return f"{status.st_size}:{status.st_mtime_ns}"


def in_threads(identify: Callable[[_Item], str], items: Sequence[_Item]) -> list[str]:
    """``identify`` of every item, in order; on a network's file system each waits for an answer."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(identify, items))


class RecordedInputs(TypedDict):
    """Where the images of a store lie, and their IUV maps (empty, where there are none), and the stamp of every row.

    ``pattern`` is the PATTERN of a folder of crops, which says their labels; empty where there was none.
    """

    root: str
    iuv_root: str
    pattern: str
    stamps: list[str]


def write_inputs(store: AnyPath, inputs: RecordedInputs) -> None:
    """Record the inputs of the store, unless they are recorded already."""
    if read_inputs(store) != inputs:
        write_json(store / INPUTS, sealed(inputs))


def read_inputs(store: AnyPath) -> RecordedInputs:
    """What :func:`write_inputs` recorded; everything is empty where nothing was."""
    file = store / INPUTS
    stored = read_whole(file)
    try:
        content = parsed_json(stored or b"{}")
        if not is_sealed(content):
            raise ValueError(f"{file} is not as it was written")
        root, iuv_root, pattern = str(content["root"]), str(content["iuv_root"]), str(content.get("pattern", ""))
        stamps = [str(stamp) for stamp in content["stamps"]]
        return {"root": root, "iuv_root": iuv_root, "pattern": pattern, "stamps": stamps}
    except (ValueError, KeyError, TypeError):  # then files are compared by what they hold
        return {"root": "", "iuv_root": "", "pattern": "", "stamps": []}
