"""CUHK03 as it is released: ``cuhk-03.mat`` and the new protocol's lists, extracted into the folders of cuhk03-np.

``cuhk-03.mat`` holds, for each of five camera pairs, a table of identities and ten images, the first five of which are
of the pair's first view. A file of the new protocol (Z. Zhong et al., CVPR 2017) lists image files as pair, identity,
view and image, all counted from 1. A folder's file ``0002_c1_22.png`` is the 22nd of that list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densereid.data_catalog.datasets.records import IMAGE_SUFFIXES, LARGEST_ID
from densereid.data_catalog.datasets.specs import known_datasets
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import remove_partial, replacing
from densereid.data_catalog.files.image_files import open_image
from densereid.data_catalog.files.matlab.variables import open_matlab, read_matlab

KINDS = {"cuhk03-labeled": "labeled", "cuhk03-detected": "detected"}
"""The variable of ``cuhk-03.mat`` that each dataset is made of."""

IMAGES_FILE = "cuhk-03.mat"

_FOLDERS = (".", "cuhk03_release", "cuhk03", "cuhk03/cuhk03_release", "CUHK03", "CUHK03/cuhk03_release", "cuhk03-np")
_SOURCE = re.compile(r"(?P<pair>\d+)_(?P<identity>\d+)_(?P<view>[12])_(?P<image>\d+)\.png")
_INDICES = {"train": "train_idx", "query": "query_idx", "gallery": "gallery_idx"}


@dataclass(frozen=True)
class Release:
    """The released files of one dataset that are on disk; ``images`` or ``protocol`` is None where it is not."""

    name: str
    images: Path | None
    protocol: Path | None

    @property
    def protocol_name(self) -> str:
        """Name of the protocol's file."""
        return f"cuhk03_new_protocol_config_{KINDS[self.name]}.mat"

    def require(self, data_root: Path) -> tuple[Path, Path]:
        """Both files; UserError that names those that are missing and where they were looked for."""
        files = {IMAGES_FILE: self.images, self.protocol_name: self.protocol}
        missing = [name for name, path in files.items() if path is None]
        if missing:
            raise UserError(
                f"{' and '.join(missing)} not found in {data_root}, nor in its {', '.join(_FOLDERS[1:])}",
                f"{IMAGES_FILE} is in CUHK03's own release; the protocol's files are in the repository of its authors, "
                "https://github.com/zhunzhong07/person-re-ranking; put them into one of those folders",
            )
        assert self.images is not None
        assert self.protocol is not None
        return self.images, self.protocol


def find_release(name: str, data_root: Path) -> Release:
    """What is on disk of the release that the dataset ``name`` (a key of :data:`KINDS`) is made of."""
    release = Release(name, None, None)
    paths = {}
    for file in (IMAGES_FILE, release.protocol_name):
        candidates = (data_root / folder / file for folder in _FOLDERS)
        paths[file] = next((path for path in candidates if path.is_file()), None)
    return Release(name, paths[IMAGES_FILE], paths[release.protocol_name])


def read_protocol(name: str, path: Path) -> dict[str, str]:
    """The new protocol: each image's path in cuhk03-np's folders, and its file in the protocol's own list.

    For example ``bounding_box_train/0002_c1_22.png`` and ``1_002_1_03.png``. Raises UserError where a variable is
    missing, an index is outside 1..n (MATLAB counts from 1), or a camera is not the view in the file's name.
    """
    variables = read_matlab(path)
    absent = [key for key in ("filelist", "labels", "camId", *_INDICES.values()) if key not in variables]
    if absent:
        raise UserError(
            f"{path} has no {', '.join(absent)}; it has {', '.join(variables) or 'nothing'}",
            f"expected the new protocol's {path.name}",
        )
    folders = {split.name.lower(): folder for split, folder in known_datasets()[name].split_folders.items()}
    variables = {key: np.ravel(value).tolist() for key, value in variables.items()}
    sources = {}
    for split, key in _INDICES.items():
        for entry in variables[key]:
            number = _whole(path, key, entry)
            person, camera, source = _listed(path, variables, key, number)
            sources[f"{folders[split]}/{person:04d}_c{camera}_{number}.png"] = source
    return sources


def _whole(path: Path, key: str, value: object) -> int:
    """A number of the protocol; UserError where it is none that a person, a camera or an index can have."""
    if not isinstance(value, int | float) or value != value or not 0 <= value <= LARGEST_ID or int(value) != value:
        raise UserError(
            f"{path}: {key} holds {value!r}; expected whole numbers from 0 to {LARGEST_ID}", "get the file again"
        )
    return int(value)


def _listed(path: Path, variables: Mapping[str, list[Any]], key: str, number: int) -> tuple[int, int, str]:
    """(person, camera, file) of entry ``number`` of the list, counted from 1."""
    files = variables["filelist"]
    if not 1 <= number <= len(files):
        raise UserError(f"{path}: {key} holds {number}, filelist has the entries 1 to {len(files)}")
    source = str(files[number - 1]).strip()
    camera, person = (_whole(path, name, _entry(path, variables, name, number)) for name in ("camId", "labels"))
    match = _SOURCE.fullmatch(source)
    if match is None or int(match["view"]) != camera:
        raise UserError(
            f"{path}: entry {number} is {source!r} of camera {camera}",
            "expected PAIR_IDENTITY_VIEW_IMAGE.png, for example 1_001_2_06.png, and the view as camera",
        )
    return person, camera, source


def _entry(path: Path, variables: Mapping[str, list[Any]], key: str, number: int) -> object:
    values = variables[key]
    if number > len(values):
        raise UserError(f"{path}: {key} has {len(values)} entries, filelist has more", "get the file again")
    return values[number - 1]


def extract_cuhk03(release: Release, data_root: Path, target: Path) -> Iterator[str]:
    """Write every image of the protocol as PNG, without loss, into ``target``'s folders; what is there stays.

    Yields the path of each, also of those that are there already; a killed extraction is resumed. Raises UserError for
    missing files and for an image that ``cuhk-03.mat`` does not hold.
    """
    images, protocol = release.require(data_root)
    wanted = read_protocol(release.name, protocol)
    for folder in {Path(path).parent for path in wanted}:
        (target / folder).mkdir(parents=True, exist_ok=True)
        remove_partial(target / folder)
    with open_matlab(images) as read:
        for path, source in wanted.items():
            if not (target / path).exists():
                _write(target / path, _pixels(read, images, KINDS[release.name], source))
            yield path


def _write(path: Path, pixels: np.ndarray) -> None:
    with replacing(path, flushed=False) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")


def _pixels(read: Callable[..., np.ndarray], path: Path, kind: str, source: str) -> np.ndarray:
    """An image of ``cuhk-03.mat``, uint8 (height, width, 3) RGB, by its name in the protocol's list."""
    match = _SOURCE.fullmatch(source)
    assert match is not None
    pair, identity, image = (int(match[key]) - 1 for key in ("pair", "identity", "image"))
    pixels = read(kind, (pair, 0), (identity, image))
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UserError(
            f"{path} has no image {source} in {kind}: its cell holds shape {pixels.shape}, type {pixels.dtype}",
            "the two files are not of one release; get both again",
        )
    return np.ascontiguousarray(pixels)


def release_differences(release: Release, root: Path) -> list[str]:
    """How the folders at ``root`` differ from the release's files on disk, one sentence each: names, then pixels."""
    if release.protocol is None:
        return []
    wanted = read_protocol(release.name, release.protocol)
    differences = _name_differences(wanted, root, release.protocol)
    if release.images is not None:
        with open_matlab(release.images) as read:
            for path in sorted(wanted):
                if (root / path).is_file():
                    expected = _pixels(read, release.images, KINDS[release.name], wanted[path])
                    differences += _pixel_difference(root / path, expected, release.images)
    return differences


def _name_differences(wanted: Mapping[str, str], root: Path, protocol: Path) -> list[str]:
    folders = {Path(path).parent for path in wanted}
    files = (path for folder in folders for path in (root / folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    found = {path.relative_to(root).as_posix() for path in files}
    jpegs = {path for path in found if path.endswith(".jpg") and f"{path[:-4]}.png" in wanted}
    path_of_name = {Path(path).name: path for path in wanted}
    differences = [
        f"{path} is a JPEG, encoded again: it scores lower than the release's pixels" for path in sorted(jpegs)
    ]
    differences += [
        f"{path} is missing" for path in sorted(set(wanted) - found - {f"{path[:-4]}.png" for path in jpegs})
    ]
    for path in sorted(found - set(wanted) - jpegs):
        belongs = path_of_name.get(Path(path).name)
        where = f"has it in {Path(belongs).parent}" if belongs else "does not have it"
        differences.append(f"{path}: {protocol.name} {where}")
    return differences


def _pixel_difference(path: Path, expected: np.ndarray, images: Path) -> list[str]:
    """The sentence about one image whose pixels are not ``expected``'s, with the usual mistake where it is one."""
    try:
        with open_image(path) as image:
            pixels = np.asarray(image)
    except UserError as error:
        return [error.problem]
    if np.array_equal(pixels, expected):
        return []
    mistakes = {
        ": rows and columns are exchanged": expected.transpose(1, 0, 2),
        ": red and blue are exchanged": expected[..., ::-1],
    }
    why = next((text for text, mistaken in mistakes.items() if np.array_equal(pixels, mistaken)), "")
    return [f"{path} does not hold the pixels of {images.name}{why}"]
