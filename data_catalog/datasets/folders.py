"""DATASET=folder: any directory of crops; identity, camera and split by a regular expression, or none."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from densereid.data_catalog.datasets.iuv_files import is_iuv_file
from densereid.data_catalog.datasets.records import IMAGE_SUFFIXES, UNKNOWN, ImageRecord
from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.time_limit import MATCHING_SECONDS, time_limit
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split

log = logging.getLogger(__name__)


def read_folder(root: Path, *, pattern: str | None, iuv_root: Path | None) -> tuple[ImageRecord, ...]:
    """Every image below ``root`` that is no IUV map, in store order; without a split everything is training.

    ``pattern`` is searched in each relative path; its groups ``person``, ``camera`` and ``split`` are all
    optional. Raises UserError for a pattern that cannot be used, for a folder without images or that cannot be
    listed, and for names that are not UTF-8.
    """
    if not root.is_dir():
        raise UserError(f"DATA_ROOT={root} is not a folder", "with DATASET=folder it is the folder of the images")
    paths = sorted(
        path.relative_to(root).as_posix()
        for path in _files_below(root)
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_iuv_file(path, iuv_root)
    )
    if not paths:
        raise UserError(
            f"{root} holds no images", f"expected files ending in {', '.join(IMAGE_SUFFIXES)}, in any subfolder"
        )
    _check_text(root, paths)
    matches = _match_all(paths, pattern) if pattern else [{} for _ in paths]
    splits = [_split_named(match.get("split")) for match in matches]
    person_ids = _person_zero(_numbers([match.get("person") for match in matches]), splits)
    camera_ids = _numbers([match.get("camera") for match in matches])
    records = (ImageRecord(*fields) for fields in zip(paths, person_ids, camera_ids, splits, strict=True))
    return tuple(sorted(records, key=ImageRecord.sort_key))


def _files_below(root: Path) -> Iterator[Path]:
    """Every file below ``root``, and every broken link, which is reported later; a linked folder is entered once."""
    seen = {root.resolve()}
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_unlistable):
        yield from (Path(folder) / name for name in names)
        fresh = {(Path(folder) / name).resolve(): name for name in sorted(inner, reverse=True)}
        inner[:] = sorted(name for real, name in fresh.items() if real not in seen)
        seen |= set(fresh)


def _unlistable(error: OSError) -> None:
    raise UserError(
        f"the folder {error.filename} cannot be listed: {error.strerror}", "make it readable, or move it away"
    )


def _check_text(root: Path, paths: list[str]) -> None:
    """Paths are text in a store; a name of other bytes cannot be written there."""
    strange = [path for path in paths if not path.isascii() and path.encode("utf-8", "replace").decode() != path]
    if strange:
        raise UserError(
            f"{root} holds {plural(len(strange), 'image')} whose name is not UTF-8, e.g. {strange[0]!r}",
            "rename them (convmv does it for whole folders)",
        )


def _match_all(paths: list[str], pattern: str) -> list[dict[str, str | None]]:
    try:
        with time_limit(MATCHING_SECONDS):
            return _match_each(paths, pattern)
    except TimeoutError:
        raise UserError(
            f"PATTERN={shlex.quote(pattern)} was not done with {plural(len(paths), 'name')} after {MATCHING_SECONDS:g} "
            "seconds",
            "it can match a name in too many ways: repeat nothing that repeats, as in (a+)+; [^_]+ is better than .*",
        ) from None


def _match_each(paths: list[str], pattern: str) -> list[dict[str, str | None]]:
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"PATTERN={shlex.quote(pattern)} is not a regular expression: {first_line(error)}") from error
    unknown = set(expression.groupindex) - {"person", "camera", "split"}
    if unknown or not expression.groupindex:
        raise UserError(
            f"PATTERN={shlex.quote(pattern)} has the groups {sorted(expression.groupindex) or 'none'}",
            r"name the groups person, camera and split, for example (?P<person>\d+)_c(?P<camera>\d+)",
        )
    matches = {path: expression.search(path) for path in paths}
    misses = [path for path, match in matches.items() if match is None]
    if misses:
        raise UserError(
            f"PATTERN={shlex.quote(pattern)} does not match {len(misses)} of {plural(len(paths), 'image')}, e.g. "
            f"{', '.join(misses[:3])}",
            "change the pattern, or move those images away",
        )
    return [match.groupdict() for match in matches.values() if match is not None]


def _numbers(texts: list[str | None]) -> list[int]:
    """Integers as they are; other names numbered from 1 in sorted order; None is unknown."""
    names = sorted({text for text in texts if text is not None})
    numeric = all(re.fullmatch(r"-?\d+", name) for name in names)
    number = {name: int(name) if numeric else index for index, name in enumerate(names, start=1)}
    return [UNKNOWN if text is None else number[text] for text in texts]


def _person_zero(person_ids: list[int], splits: list[Split]) -> list[int]:
    """Identities in which 0 is a person like the others gets the next free number: 0 means a distractor in a store.

    It is a person where it has images that train or are asked for, which a distractor never has; in a gallery alone
    it is the distractors, as in Market-1501. Both are said.
    """
    zeros = sum(person == 0 for person in person_ids)
    if not zeros:
        return person_ids
    images = plural(zeros, "image")
    if all(split == Split.GALLERY for person, split in zip(person_ids, splits, strict=True) if person == 0):
        log.info("Person 0 is in the gallery alone: distractors, which match no query (%s).", images)
        return person_ids
    free = max(person_ids) + 1
    log.info("Person 0 is a person like the others, and is stored under the number %d (%s).", free, images)
    return [person or free for person in person_ids]


def _split_named(text: str | None) -> Split:
    folders = {"bounding_box_train": Split.TRAIN, "bounding_box_test": Split.GALLERY, "test": Split.GALLERY}
    if text is None:
        return Split.TRAIN
    if text in folders:
        return folders[text]
    if text.upper() not in Split.__members__:
        raise UserError(
            f"PATTERN found the split '{text}'", f"expected train, query or gallery (or {', '.join(folders)})"
        )
    return Split[text.upper()]
