"""What is wrong with a file is a failed image; what is wrong for a moment stops the run, and the next one continues."""

from __future__ import annotations

import errno
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import contents
from PIL import Image

from densereid.data_catalog.datasets.lookup import Dataset, find_dataset, find_spec
from densereid.data_catalog.datasets.records import IMAGE_SUFFIXES
from densereid.data_catalog.datasets.specs import ListFile
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.image_files import IMAGE_FORMATS, read_content
from densereid.data_catalog.store.schema import Split, Status
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.exit import explained
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.images import Crop, read_image
from densereid.preprocess.writing.fill import list_failures, write_store
from densereid.preprocess.writing.plan import Plan

PASSING = ["EMFILE", "ENFILE", "EIO", "ESTALE", "EACCES", "ENOTCONN", "ETIMEDOUT", "ENOENT", "EHOSTDOWN", "ENOMEM"]
MakePlan = Callable[..., Plan]


def faulty(patch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Let files of that name not be read."""
    sound = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self.name == name:
            raise OSError(number, os.strerror(number), str(self))
        return sound(self)

    patch.setattr(Path, "read_bytes", read_bytes)


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("name", ["0002_c2.png", "0002_c2_IUV.png"])
def test_a_passing_fault_stops_the_run_and_the_same_run_continues(
    crops: Path, tmp_path: Path, make_plan: MakePlan, fault: str, name: str
) -> None:
    plan = make_plan(crops, tmp_path / "store", "folder")
    with pytest.MonkeyPatch.context() as patch:
        faulty(patch, name, getattr(errno, fault))
        with pytest.raises(OSError, match=name) as caught:
            write_store(plan, format="zarr")
    problem, remedy = explained(pickle.loads(pickle.dumps(caught.value)))  # as a worker sends it
    assert name in problem
    assert "what is finished is kept" in remedy
    assert "the same command" in remedy
    assert open_store(plan.path, incomplete=True).missing_shards() == [0]
    write_store(make_plan(crops, tmp_path / "store", "folder"), format="zarr")
    write_store(make_plan(crops, tmp_path / "at once", "folder"), format="zarr")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


@pytest.mark.parametrize("gone", ["crops", "crops/iuv"])
def test_a_folder_that_is_gone_for_a_moment_makes_no_failed_images(
    crops: Path, tmp_path: Path, make_plan: MakePlan, gone: str
) -> None:
    plan = make_plan(crops, tmp_path / "store", "folder")
    (tmp_path / gone).rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError):
        write_store(plan, format="zarr")
    (tmp_path / "aside").rename(tmp_path / gone)
    assert list_failures(write_store(make_plan(crops, tmp_path / "store", "folder"), format="zarr")) == []


def test_a_finished_store_stays_when_its_images_are_gone_for_a_moment(
    crops: Path, tmp_path: Path, make_plan: MakePlan
) -> None:
    write_store(make_plan(crops, tmp_path / "store", "folder"), format="zarr")
    before, plan = contents(tmp_path / "store"), make_plan(crops, tmp_path / "store", "folder")
    crops.rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError):
        write_store(plan, format="zarr")
    assert contents(tmp_path / "store") == before


def test_an_image_that_only_a_list_names_is_a_failed_one_while_its_folder_is_there(
    crops: Path, tmp_path: Path, make_plan: MakePlan
) -> None:
    """As in an incomplete copy of MSMT17."""
    (crops / "iuv").rename(tmp_path / "iuv")
    folder = make_plan(tmp_path, tmp_path / "store", "folder")
    spec = replace(find_spec("market"), split_folders={}, split_lists={Split.TRAIN: (ListFile("a.txt", "crops", 1),)})
    plan = replace(folder, dataset=replace(folder.dataset, spec=spec))
    (crops / "0002_c2.png").unlink()
    store = write_store(replace(plan), format="zarr")
    assert [failure["path"] for failure in list_failures(store)] == ["crops/0002_c2.png"]
    assert list_failures(store)[0]["reason"].endswith("crops/0002_c2.png is not there")
    crops.rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError):
        write_store(replace(plan, path=tmp_path / "other"), format="zarr")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", [b"iCCP", b"gAMA", b"pHYs", b"cHRM", b"sRGB", b"fcTL", b"acTL", b"IHDR", b"zTXt"])
@pytest.mark.parametrize("after_the_pixels", [False, True])
def test_an_odd_map_is_a_failed_image_by_name_and_never_a_failed_shard(
    crops: Path, tmp_path: Path, make_plan: MakePlan, kind: bytes, after_the_pixels: bool
) -> None:
    """Pillow's reader of each of these chunks expects more than nothing."""
    name = crops / "iuv" / "0002_c2_IUV.png"
    content = name.read_bytes()
    at = len(content) - 12 if after_the_pixels else 33
    name.write_bytes(content[:at] + chunk(kind, b"") + content[at:])
    store = write_store(make_plan(crops, tmp_path / "store", "folder"), format="zarr")
    failures = list_failures(store)
    assert [failure["path"] for failure in failures] in ([], ["0002_c2.png"])
    assert all(f"{name} cannot be read as an image" in failure["reason"] for failure in failures)
    assert all("0x" not in failure["reason"] for failure in failures)
    if kind == b"iCCP" and not after_the_pixels:
        assert len(failures) == 1


def test_the_formats_are_those_that_the_names_promise() -> None:
    suffixes = {suffix for suffix, format in Image.registered_extensions().items() if format in IMAGE_FORMATS}
    assert set(IMAGE_SUFFIXES) <= suffixes


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize(
    "begin", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", b"P6 1 1 255 abc", b"\x0a\x05"]
)
def test_no_other_format_is_read_whatever_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, begin: bytes
) -> None:
    """PostScript would be run by Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(begin + b"%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match=r"cannot be read as an image .*: it is no JPEG or PNG or BMP or TIFF or WEBP"):
        read_image(path)


@pytest.mark.parametrize("format", ["EPS", "TIFF", "BMP", "WEBP", "GIF", "JPEG"])
def test_a_map_is_a_png_whatever_its_name(crops: Path, format: str) -> None:
    dataset = find_dataset("folder", crops)
    path = crops / "iuv" / "0002_c2_IUV.png"
    Image.open(path).convert("RGB").save(path, format)
    failures = open_iuv(dataset).estimate(_crops(dataset, 1), (32, 16)).failures
    assert str(path) in failures[0]
    assert ("is a JPEG, whatever its name" if format == "JPEG" else "it is no PNG") in failures[0]


def _crops(dataset: Dataset, index: int) -> list[Crop]:
    record = dataset.records[index]
    return [Crop(record, read_image(dataset.root / record.path))]


@pytest.mark.filterwarnings("ignore:Image size")
def test_an_enormous_map_is_refused_before_it_is_decoded(crops: Path) -> None:
    dataset = find_dataset("folder", crops)
    estimator = open_iuv(dataset)
    size = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    packed = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (crops / "iuv" / "0001_c1_IUV.png").write_bytes(b"\x89PNG\r\n\x1a\n" + packed)
    failures = estimator.estimate(_crops(dataset, 0), (32, 16)).failures
    assert "10000x10000 pixels are no crop of a person" in failures[0]


def test_a_pipe_or_a_link_to_itself_is_not_waited_for(crops: Path, tmp_path: Path, make_plan: MakePlan) -> None:
    os.mkfifo(crops / "0006_c1.png")
    (crops / "0007_c1.png").symlink_to(crops / "0007_c1.png")
    (crops / "0008_c1.png").symlink_to(crops / "nothing.png")
    store = write_store(make_plan(crops, tmp_path / "store", "folder"), format="zarr")
    reasons = {failure["path"]: failure["reason"] for failure in list_failures(store)}
    assert list(reasons) == ["0006_c1.png", "0007_c1.png", "0008_c1.png"]
    assert "Is a pipe or device" in reasons["0006_c1.png"]
    assert "Too many levels of symbolic links" in reasons["0007_c1.png"]
    assert "is a link to nothing" in reasons["0008_c1.png"]
    np.testing.assert_array_equal(store.read("status")[:5], Status.OK)
    with pytest.raises(UserError, match="Is a pipe or device"):
        read_content(crops / "0006_c1.png")
