"""Masks of a store as files for other code: BPBReID and KPR, EANet, or plain numpy."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from rich import filesize

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import replacing, write_json
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.parts import MASK_LABELS, NUM_MASK_LABELS
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.digest import contents_digest
from densereid.data_catalog.store.store import Store
from densereid.pipeline.console import print_status
from densereid.pipeline.progress import ProgressReport

NOTE = "densereid-masks.json"
"""In the folder of the files: what they were made of. Whatever else has their names is never replaced."""

BPBREID = "masks/densereid"
"""Where BPBReID and KPR look inside a dataset's folder, for ``masks.dir`` ``densereid``."""

_ROWS = 256


@dataclass(frozen=True)
class Layout:
    """How other code wants its masks."""

    folder: str
    """Inside the target; empty for the target itself."""
    name: Callable[[PurePosixPath], PurePosixPath]
    """An image's path in its dataset to the file's path in the folder."""
    content: Callable[[np.ndarray], bytes]
    """The file of a mask, uint8 (height, width), 0..7."""
    bytes_of: Callable[[int], int]
    """The most bytes of the file of a mask of so many pixels."""


def bpbreid_planes(mask: np.ndarray) -> np.ndarray:
    """The seven parts of a mask (height, width), 0..7, as float32 (7, height, width), 0 or 1; no background."""
    return (mask == np.arange(1, NUM_MASK_LABELS, dtype=np.uint8)[:, None, None]).astype(np.float32)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


LAYOUTS = {
    "bpbreid": Layout(
        BPBREID,
        lambda path: PurePosixPath(path.parent.name, f"{path.stem}.npy"),
        lambda mask: _npy(bpbreid_planes(mask)),
        lambda pixels: 7 * 4 * pixels + 128,
    ),
    "label-png": Layout("", lambda path: path.with_suffix(".png"), _png, lambda pixels: pixels // 2 + 512),
    "npy": Layout("", lambda path: path.with_suffix(".npy"), _npy, lambda pixels: pixels + 128),
}
"""By the names of ``--layout``, :data:`densereid.pipeline.settings.MASK_LAYOUTS`."""


def export_masks(store: Store, layout: str, target: Path) -> Path:
    """Write the mask of every image of the store below ``target``; the folder of the files.

    Each file appears whole or not at all; what an export of the same masks has left is kept, and the rest is written.
    Raises UserError where files of other origin are in the way, where two images would share a file, where a path
    leads out of the folder, and where the disk has too little room.
    """
    chosen = LAYOUTS[layout]
    folder = target / chosen.folder
    files = _files(store, chosen, folder)
    missing = _missing(store, layout, folder, files)
    _check_room(folder, len(missing) * chosen.bytes_of(store.geometry.height * store.geometry.width))
    if missing:
        write_json(folder / NOTE, _made_of(store, layout))
    with ProgressReport("exporting masks", len(missing)) as report:
        for row, mask in _masks(store, missing):
            with replacing(files[row], flushed=False) as temporary:
                temporary.write_bytes(chosen.content(mask))
            report.advance(1)
    kept = len(files) - len(missing)
    print_status(f"{plural(len(files), 'mask')} in {folder}" + (f", {kept} of them there before" if kept else ""))
    if layout == "bpbreid":
        _tell_bpbreid()
    return folder


def _files(store: Store, layout: Layout, folder: Path) -> list[Path]:
    """The file of each row's mask. Raises UserError for paths that leave the folder, and for two rows of one file."""
    rows: dict[PurePosixPath, str] = {}
    for text in store.read("path"):
        path = PurePosixPath(str(text))
        if path.is_absolute() or ".." in path.parts or "\0" in str(text) or not path.name:
            raise UserError(
                f"{store.path} has an image at {str(text)!r}, which leads out of a folder",
                "Nothing was written. Stores that `make preprocess` makes have paths inside their dataset.",
            )
        name = layout.name(path)
        if name in rows:
            raise UserError(
                f"the masks of {rows[name]} and {path} would be one file, {name}",
                "Nothing was written. Rename one of the images and preprocess again, or use another layout: npy and "
                "label-png keep folders, bpbreid the last one alone.",
            )
        rows[name] = str(path)
    return [folder / name for name in rows]


def _made_of(store: Store, layout: str) -> dict[str, str]:
    return {"layout": layout, "store": str(store.path), "contents": contents_digest(store)}


def _missing(store: Store, layout: str, folder: Path, files: list[Path]) -> list[int]:
    """The rows whose files are not there. Raises UserError where files are that are not of these masks."""
    there = [row for row, file in enumerate(files) if file.is_symlink() or file.exists()]
    if not there:
        return list(range(len(files)))
    note: object = None
    with suppress(ValueError):
        note = json.loads(read_whole(folder / NOTE) or b"null")
    made_of = _made_of(store, layout)
    same = isinstance(note, dict) and all(note.get(key) == made_of[key] for key in ("layout", "contents"))
    if not same:
        what = f"of {note.get('store')}, or of what it held before" if isinstance(note, dict) else "of unknown origin"
        raise UserError(
            f"{files[there[0]]} and {plural(len(there) - 1, 'other file')} {what} are in the way of these masks",
            "Nothing was written. Give another folder with TO, or move those files away.",
        )
    whole = {row for row in there if files[row].is_file() and files[row].stat().st_size}
    return [row for row in range(len(files)) if row not in whole]


def _check_room(folder: Path, needed: int) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"the masks take up to {filesize.decimal(needed)} in {folder}; {filesize.decimal(free)} are free there",
            "Nothing was written. Make room, give a folder on another disk with TO, or choose label-png, the smallest.",
        )


def _masks(store: Store, rows: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), _ROWS):
        chosen = rows[start : start + _ROWS]
        yield from zip(chosen, store.read("mask", np.array(chosen)), strict=True)


def _tell_bpbreid() -> None:
    print_status(
        f"planes: {', '.join(MASK_LABELS[1:])}\n"
        f"BPBReID and KPR read them as {BPBREID} in the dataset's folder, with "
        f"'densereid': ({NUM_MASK_LABELS - 1}, False, '.npy') in the masks_dirs of the dataset's class; "
        "docs/commands.md has the other lines for BPBReID"
    )
