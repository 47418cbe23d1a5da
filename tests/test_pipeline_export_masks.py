"""Masks as files of other code: what is in them, how an export continues, and what it never replaces."""

from __future__ import annotations

import shutil
from pathlib import Path

import helpers
import numpy as np
import pytest
from helpers import failed, files_below, random_rows, run
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.parts import MASK_LABELS
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.store import create_store, open_store, write_shard
from densereid.pipeline.commands import export_masks as module
from densereid.pipeline.commands.export_masks import LAYOUTS, NOTE, bpbreid_planes, export_masks
from densereid.pipeline.settings import MASK_LAYOUTS


def file_of(path: str, layout: str) -> str:
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0]
    return {
        "bpbreid": f"masks/densereid/{folder.rpartition('/')[2]}/{stem}.npy",
        "label-png": f"{folder}/{stem}.png",
        "npy": f"{folder}/{stem}.npy",
    }[layout]


def test_the_layouts_are_those_that_the_command_names() -> None:
    assert tuple(LAYOUTS) == MASK_LAYOUTS


def test_planes_are_the_parts_one_after_the_other() -> None:
    mask = np.random.default_rng(0).integers(0, 8, (6, 4)).astype(np.uint8)
    planes = bpbreid_planes(mask)
    assert (planes.shape, planes.dtype) == ((7, 6, 4), np.float32)
    for label in range(1, len(MASK_LABELS)):
        for row in range(6):
            for column in range(4):
                assert planes[label - 1, row, column] == (mask[row, column] == label)


@pytest.mark.parametrize("layout", MASK_LAYOUTS)
@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_every_image_has_its_file(stores: dict[str, Path], tmp_path: Path, layout: str, format: str) -> None:
    if format == "hdf5" and layout != "npy":
        pytest.skip("one layout is enough of the second format")
    result = run("export-masks", stores[format], "--layout", layout, "--to", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / LAYOUTS[layout].folder)
    assert ("'densereid': (7, False, '.npy')" in result.stderr) == (layout == "bpbreid")
    store = open_store(stores[format])
    masks, paths = store.read("mask"), store.read("path")
    for mask, path in zip(masks, paths, strict=True):
        file = tmp_path / file_of(path, layout)
        if layout == "label-png":
            with Image.open(file) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(np.asarray(image), mask)
        else:
            np.testing.assert_array_equal(np.load(file), mask if layout == "npy" else bpbreid_planes(mask))
    assert sum(file.is_file() for file in tmp_path.rglob("*")) == len(paths) + 1


def test_the_store_is_chosen_as_by_the_other_commands(
    stores: dict[str, Path], synthetic_root: Path, tmp_path: Path
) -> None:
    given = {
        "DATA_ROOT": synthetic_root, "STORE_ROOT": stores["zarr"].parent, "SIZE": "64x32", "LAYOUT": "npy",
        "RUN_ROOT": tmp_path,
    }  # fmt: skip
    result = run("export-masks", **given)
    assert result.stdout.strip() == str(tmp_path / "masks" / "synthetic-64x32.zarr-npy"), result.stderr
    failed(
        run("export-masks", **{**given, "LAYOUT": "pcb"}), "'pcb' is not one of 'bpbreid', 'label-png', 'npy'", code=2
    )
    failed(
        run("export-masks", **{key: value for key, value in given.items() if key != "LAYOUT"}),
        "Missing option '--la",
        code=2,
    )
    failed(run("export-masks", tmp_path, "--layout", "npy"), "no store at")


def test_a_stopped_export_continues_and_writes_nothing_twice(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, whole = open_store(stores["zarr"]), tmp_path / "whole"
    export_masks(store, "npy", whole)
    stopped = tmp_path / "stopped"

    def stop(path: Path, *, flushed: bool) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_ROWS", 10)
        real = module.replacing
        left = iter(range(30))
        patch.setattr(
            module,
            "replacing",
            lambda path, flushed: (
                real(path, flushed=flushed) if next(left, None) is not None else stop(path, flushed=flushed)
            ),
        )
        with pytest.raises(OSError, match="No space left"):
            export_masks(store, "npy", stopped)
    before = {name: values for name, values in files_below(stopped).items() if name.endswith(".npy")}
    assert len(before) == 30
    torn = stopped / file_of(str(store.read("path")[3]), "npy")
    torn.write_bytes(b"")  # as a power cut leaves it
    result = run("export-masks", stores["zarr"], "--layout", "npy", "--to", stopped)
    assert "77 masks in" in result.stderr
    assert "29 of them there before" in result.stderr
    assert {name: files_below(stopped)[name] for name in before if name != str(torn)} == {
        name: values for name, values in before.items() if name != str(torn)
    }
    assert helpers.contents(stopped) == helpers.contents(whole)


def test_what_is_there_already_is_never_replaced(stores: dict[str, Path], tmp_path: Path) -> None:
    store = open_store(stores["zarr"])
    other = tmp_path / file_of(str(store.read("path")[5]), "npy")
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    failed(
        run("export-masks", stores["zarr"], "--layout", "npy", "--to", tmp_path),
        f"{other} and 0 other files of unknown origin are in the way of these masks",
        "Nothing was written. Give another folder with --to",
    )
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [other.name]
    other.unlink()
    export_masks(store, "npy", tmp_path)
    changed = tmp_path / "changed.zarr"
    shutil.copytree(stores["zarr"], changed)
    helpers.forget_checksum(changed, 0, "mask")  # as if other pixels had been written
    with pytest.raises(
        UserError, match=rf"76 other files of {stores['zarr']}, or of what it held before are in the way"
    ):
        export_masks(open_store(changed), "npy", tmp_path)
    (tmp_path / NOTE).write_text("{")
    with pytest.raises(UserError, match="of unknown origin"):
        export_masks(store, "npy", tmp_path)


def test_too_little_room_is_said_before_anything_is_written(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1000))  # type: ignore[attr-defined]
    words = r"the masks take up to 4\.4 MB in .*; 1\.0 kB are free there\nNothing was written\. Make room"
    with pytest.raises(UserError, match=words):
        export_masks(open_store(stores["zarr"]), "bpbreid", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["a/1.jpg", "../2.jpg"], r"an image at '\.\./2\.jpg', which leads out of a folder"),
        (["a/1.jpg", "/etc/2.jpg"], r"an image at '/etc/2\.jpg', which leads out of a folder"),
        (["a/1.jpg", "a/1.png"], r"the masks of a/1\.jpg and a/1\.png would be one file, a/1\.npy"),
        (["x/a/1.jpg", "y/a/1.jpg"], r"the masks of x/a/1\.jpg and y/a/1\.jpg would be one file, a/1\.npy"),
    ],
)
def test_paths_that_have_no_file_of_their_own_are_named(tmp_path: Path, paths: list[str], words: str) -> None:
    geometry = Geometry(2, 8, 4, dsap_size=8, shard_rows=32)
    rows = {**random_rows(geometry, "create"), "path": np.array(paths, object)}
    create_store(tmp_path / "a.zarr", format="zarr", geometry=geometry, attributes={"dataset": "odd"}, rows=rows)
    write_shard(tmp_path / "a.zarr", shard=0, rows=random_rows(geometry, "shard"))
    with pytest.raises(UserError, match=words):
        export_masks(open_store(tmp_path / "a.zarr"), "bpbreid", tmp_path / "new")
    assert not (tmp_path / "new").exists()
