"""Files made to do harm, given to the commands that read such files: nothing runs, nothing else is reached.

Single readers have their own tests (test_preprocess_restricted_reader.py, test_catalog_hdf5_storage.py,
test_catalog_names.py, test_catalog_limits.py, test_preprocess_passing_faults.py); here a whole command meets the file.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from faults.attack import Tally, call, command
from faults.scenarios import SMALL, Given, train_words

from densereid.data_catalog.files.sealed_json import sealed
from densereid.data_catalog.store.manifest import MANIFEST

CANARY, SECRET = "canary", "content of a file of the user"
"""A file that exists where code has run, and what stands in one that nobody asked for."""

ROOM = 40 << 30
"""Bytes of address space."""


class Code:
    """Pickled, it makes the canary."""

    def __init__(self, folder: Path) -> None:
        self.canary = str(folder / CANARY)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)


Hostile = Callable[[Given, Path], list[Any]]


def _pickled(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(pickle.dumps({"model": Code(folder)}))
        return folder / name

    return make


def _torch(folder: Path) -> Path:
    torch.save({"model": Code(folder)}, folder / "last.pt")
    return folder / "last.pt"


def _zip_bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "last.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("archive/data.pkl", "archive/version", "archive/byteorder"):
            archive.writestr(name, bytes(200 << 20) if name.endswith("pkl") else b"3")
    return folder / "last.pt"


def _fifo(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


def _yaml(folder: Path) -> Path:
    text = f"x: !!python/object/apply:os.mkdir [{folder / CANARY}]\n"
    (folder / "own.yaml").write_text(text)
    return folder / "own.yaml"


def _yaml_bomb(folder: Path) -> Path:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (folder / "own.yaml").write_text("\n".join(lines))
    return folder / "own.yaml"


def _weights(make: Callable[[Path], Path]) -> Hostile:
    def words(given: Given, folder: Path) -> list[Any]:
        own = ["--estimator", "densepose", "--weights", make(folder), "--data-root", given.data()]
        return ["preprocess", *SMALL, *own, "--store-root", folder / "stores"]

    return words


def _dump(given: Given, folder: Path) -> list[Any]:
    own = ["--estimator", "iuv", "--iuv-root", _pickled("results.pkl")(folder), "--data-root", given.data()]
    return ["preprocess", *SMALL, *own, "--store-root", folder / "stores"]


def _checkpoint(make: Callable[[Path], Path]) -> Hostile:
    return lambda _given, folder: ["evaluate", make(folder), "--device", "cpu"]


def _catalog(make: Callable[[Path], Path]) -> Hostile:
    return lambda given, folder: [
        "catalog",
        "check",
        "synthetic",
        "--catalog",
        make(folder),
        "--data-root",
        given.data(),
    ]


def _model(make: Callable[[Path], Path]) -> Hostile:
    return lambda given, folder: ["train", "--model", make(folder), "--store-path", given.store(), "--run-root", folder]


def _images(make: Callable[[Path], object]) -> Hostile:
    """A folder of crops in which one file is not what its name says."""

    def words(given: Given, folder: Path) -> list[Any]:
        crops = folder / "crops"
        shutil.copytree(given.data() / "synthetic" / "query", crops)
        shutil.copytree(given.data() / "synthetic" / "iuv" / "query", crops / "iuv")
        make(crops)
        options = ["--dataset", "folder", "--data-root", crops, "--size", "16x8", "--dsap-size", 8, "--device", "cpu"]
        return ["preprocess", *options, "--store-root", folder / "stores", "--estimator", "iuv"]

    return words


def _postscript(crops: Path) -> None:
    image = sorted(crops.glob("*.jpg"))[0]
    code = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({crops.parent / CANARY}) (w) file closefile\nshowpage\n"
    image.write_text(code)


def _pipe(crops: Path) -> None:
    image = sorted(crops.glob("*.jpg"))[0]
    image.unlink()
    os.mkfifo(image)


def _store(change: Callable[[Path], object], suffix: str, *words: Any) -> Hostile:
    """A store that came from elsewhere, whole by its own checksums."""

    def typed(given: Given, folder: Path) -> list[Any]:
        store = Path(shutil.copytree(given.store(suffix), folder / given.store(suffix).name))
        change(store)
        return [store if word == "STORE" else folder / "made" if word == "MADE" else word for word in words]

    return typed


def _secret_link(store: Path) -> None:
    with h5py.File(store.parent / "secret.h5", "w") as file:
        file["image"] = np.frombuffer(SECRET.encode(), np.uint8)
    with h5py.File(store / "shard-00000.h5", "r+") as file:
        del file["image"]
        file["image"] = h5py.ExternalLink(str(store.parent / "secret.h5"), "/image")


def _dataset_path(store: Path) -> None:
    _edit(store / "zarr.json", lambda content: content["attributes"].update(dataset="../../outside"))


def _many_images(store: Path) -> None:
    _edit(store / "zarr.json", lambda content: content["attributes"]["geometry"].update(num_samples=10**15))


def _edit(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    manifest = json.loads((file.parent / MANIFEST).read_text())
    manifest["files"][file.name] = zlib.crc32(file.read_bytes())
    (file.parent / MANIFEST).write_text(json.dumps(sealed({"files": manifest["files"]})))


def _marker_pipe(store: Path) -> None:
    (store / "shards" / "00000.json").unlink()
    os.mkfifo(store / "shards" / "00000.json")


def _training(given: Given, folder: Path) -> list[Any]:
    words = train_words(folder / given.store().name, folder / "deep" / "runs")
    _store(_dataset_path, "zarr")(given, folder)
    return words


CASES: dict[str, Hostile] = {
    "a pickle with code as weights": _weights(_pickled("model.pkl")),
    "a torch file with code as weights": _weights(_torch),
    "a pickle with code as a dump": _dump,
    "a pickle with code as a checkpoint": _checkpoint(_pickled("last.pt")),
    "a torch file with code as a checkpoint": _checkpoint(_torch),
    "a bomb as a checkpoint": _checkpoint(_zip_bomb),
    "a pipe as a checkpoint": _checkpoint(_fifo("last.pt")),
    "a tag with code in a catalog": _catalog(_yaml),
    "a bomb of aliases as a catalog": _catalog(_yaml_bomb),
    "a tag with code in a model": _model(_yaml),
    "PostScript as an image": _images(_postscript),
    "a pipe as an image": _images(_pipe),
    "a link to a file of the user, verified": _store(_secret_link, "hdf5", "verify", "STORE"),
    "a link to a file of the user, shown": _store(
        _secret_link, "hdf5", "inspect", "--store-path", "STORE", "--run-root", "MADE"
    ),
    "a link to a file of the user, converted": _store(_secret_link, "hdf5", "convert", "STORE", "copy.zarr"),
    "a dataset that is a path": _training,
    "a million billion images": _store(_many_images, "zarr", "verify", "STORE"),
    "a pipe as a marker": _store(_marker_pipe, "zarr", "verify", "STORE"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", list(CASES))
def test_nothing_runs_and_nothing_is_reached(
    name: str, given: Given, place: Path, tally: Tally, amount: Callable[[int, int], int]
) -> None:
    if not amount(1, name in ("a pickle with code as weights", "a link to a file of the user, verified")):
        pytest.skip("in a whole run alone")
    folder = place / "a" / "case"
    folder.mkdir(parents=True)
    words = [str(word) for word in CASES[name](given, folder)]
    words = [str(folder / word) if word == "copy.zarr" else word for word in words]
    ended = call(command, words, said=place / "said", limits={resource.RLIMIT_AS: ROOM})
    if tally.ended(ended, name):
        return
    escaped = sorted({path.name for path in place.iterdir()} - {"a", "said", "cache"})
    reached = (folder / CANARY).exists() or SECRET in ended.said or bool(escaped)
    if reached or ended.code not in (1, 3) or not ended.said.strip():
        tally.count("silent", f"{name}: {ended.how} {ended.code} {escaped}\n{ended.said}")
    else:
        tally.count("noticed")
