"""Reading the layouts of known datasets: split folders, list files, random halves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from densereid.data_catalog.datasets.records import IMAGE_SUFFIXES, ImageRecord
from densereid.data_catalog.datasets.specs import DatasetSpec, ListFile
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.refusals import read_text
from densereid.data_catalog.files.time_limit import MATCHING_SECONDS, time_limit
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split


def read_layout(spec: DatasetSpec, root: Path) -> tuple[ImageRecord, ...]:
    """Every image of the dataset at ``root``, in store order.

    Raises UserError that names missing folders or lists, files outside the grammar, and empty splits.
    """
    _check_entries(spec, root)
    reader: Callable[[DatasetSpec, Path], Iterator[ImageRecord]]
    if spec.split_folders:
        reader = _read_folders
    elif spec.split_lists:
        reader = _read_lists
    else:
        reader = _read_halves
    try:
        with time_limit(MATCHING_SECONDS):
            return tuple(sorted(reader(spec, root), key=ImageRecord.sort_key))
    except TimeoutError:
        raise UserError(
            f"the names of {spec.title}'s images in {root} were not read after {MATCHING_SECONDS:g} seconds: "
            f"file_name is {spec.file_name.pattern!r}",
            f"let it match a name in one way alone, in the catalog's entry {spec.name}",
        ) from None


def _check_entries(spec: DatasetSpec, root: Path) -> None:
    missing = [entry for entry in spec.entries if not (root / entry).exists()]
    if missing:
        present = sorted(child.name for child in root.iterdir())[:12]
        raise UserError(
            f"{root} does not have {spec.title}'s layout: no {', '.join(missing)}; found {', '.join(present)}",
            f"expected {', '.join(spec.entries)}; unpack the dataset again, or fix DATA_ROOT",
        )


def _read_folders(spec: DatasetSpec, root: Path) -> Iterator[ImageRecord]:
    for split, folder in spec.split_folders.items():
        for name in _images_in(spec, root / folder):
            person, camera = spec.parse_name(name)
            yield ImageRecord((Path(folder) / name).as_posix(), person, camera, split)


def _images_in(spec: DatasetSpec, folder: Path) -> list[str]:
    """Names of the images of a folder, all of which follow the dataset's grammar."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    strays = [name for name in names if not spec.file_name.fullmatch(name)]
    if strays:
        raise UserError(
            f"{folder} holds {plural(len(strays), 'image')} not named as {spec.title}'s are, e.g. "
            f"{', '.join(strays[:3])}; expected names like {spec.example}",
            "move them away, or use DATASET=folder with PATTERN=... for a layout of your own",
        )
    if not names:
        raise UserError(f"{folder} holds no images", f"expected files like {spec.example}")
    return names


def _read_lists(spec: DatasetSpec, root: Path) -> Iterator[ImageRecord]:
    for split, lists in spec.split_lists.items():
        for source in lists:
            yield from _read_list(spec, root, split, source)


def _read_list(spec: DatasetSpec, root: Path, split: Split, source: ListFile) -> Iterator[ImageRecord]:
    """Lines of "path label"; labels count from 0, so ``first_person`` keeps 0 free and the splits apart."""
    for number, line in enumerate(_read_lines(root / source.file), start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        match = spec.file_name.fullmatch(path)
        if not match or not re.fullmatch(r"\d{1,18}", label):
            raise UserError(
                f"{root / source.file}, line {number}: {line.strip()!r} is not {spec.title}'s grammar",
                f"expected lines like '{spec.example}'",
            )
        yield ImageRecord(
            f"{source.images}/{path}", int(label) + source.first_person, spec.number(match, "camera"), split
        )


def _read_lines(path: Path) -> list[str]:
    return read_text(path, "list of images").splitlines()


def _read_halves(spec: DatasetSpec, root: Path) -> Iterator[ImageRecord]:
    """Half of the identities, drawn at random, for training; of the others, camera 1 is the query, 2 the gallery."""
    assert spec.halves is not None
    names = _images_in(spec, root / spec.halves.folder)
    people = np.array(sorted({spec.parse_name(name)[0] for name in names}))
    chosen = np.random.default_rng(spec.halves.seed).permutation(people)[: spec.halves.train_identities]
    training = set(chosen.tolist())
    for name in names:
        person, camera = spec.parse_name(name)
        split = Split.TRAIN if person in training else Split.QUERY if camera == 1 else Split.GALLERY
        yield ImageRecord((Path(spec.halves.folder) / name).as_posix(), person, camera, split)
