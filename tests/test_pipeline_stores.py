"""Stores as the commands ask for them: made, found, brought up to date, and told from another dataset's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import contents
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.pipeline.commands.dry_run import dry_run_report
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import ensure_store, make_store


def request_of(crops: Path, store_root: Path) -> StoreRequest:
    return StoreRequest("folder", crops, store_root, "zarr", (32, 16), 8, "last", iuv_order="vui")


def flip(image: Path) -> None:
    with Image.open(image) as content:
        content.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(image)


@pytest.fixture
def sites(crops: Path, tmp_path: Path) -> tuple[StoreRequest, StoreRequest]:
    """Requests of two folders with one last name and equal file names, the first of which has its store."""
    first, second = tmp_path / "site1" / "crops", tmp_path / "site2" / "crops"
    shutil.copytree(crops, first)
    shutil.copytree(crops, second)
    for image in second.glob("*.png"):
        flip(image)
    requests = request_of(first, tmp_path / "stores"), request_of(second, tmp_path / "stores")
    assert requests[0].path() == requests[1].path()
    make_store(requests[0])
    return requests


@pytest.mark.parametrize("command", [make_store, ensure_store], ids=["preprocess", "train"])
def test_the_store_of_another_folder_is_refused(sites: tuple[StoreRequest, StoreRequest], command: object) -> None:
    first, second = sites
    before = contents(first.path())  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"was made from the images in .*site1/crops; 5 of its 5 are not those in"):
        command(second)  # type: ignore[operator]
    assert contents(first.path()) == before  # type: ignore[arg-type]
    assert command(replace(second, store_root=second.data_root.parent / "stores"))  # type: ignore[operator]


def test_training_says_what_has_changed_since(
    sites: tuple[StoreRequest, StoreRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    request, other = sites
    ensure_store(request)
    assert "note" not in capsys.readouterr().err
    flip(request.data_root / "0001_c1.png")
    shutil.copy(request.data_root / "0002_c2.png", request.data_root / "0009_c2.png")
    (request.data_root / "0003_c1.png").unlink()
    ensure_store(request)
    said = capsys.readouterr().err
    assert "of the images in" in said
    assert "are 1 new, 1 changed, 1 gone; `" in said
    assert "-m pipeline preprocess --size 32x16` updates it" in said
    shutil.rmtree(other.data_root)
    ensure_store(other)
    assert "the images of folder are not at hand; the store is taken as it is" in capsys.readouterr().err


def test_iuv_maps_elsewhere_among_the_images_are_no_new_images(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (crops / "iuv").rename(crops / "poses")
    for map_file in (crops / "poses").iterdir():
        map_file.rename(map_file.with_name(map_file.name.replace("_IUV", "")))
    request = replace(request_of(crops, tmp_path / "stores"), iuv_root=crops / "poses")
    make_store(request)
    ensure_store(replace(request, iuv_root=None))
    assert "note" not in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_redone(sites: tuple[StoreRequest, StoreRequest]) -> None:
    request, other = sites
    assert dry_run_report(request)["to do"] == "0 shards, 0 images"
    flip(request.data_root / "0001_c1.png")
    before = contents(request.store_root)  # type: ignore[arg-type]
    assert dry_run_report(request)["to do"] == "1 shards, 5 images (1 changed)"
    assert contents(request.store_root) == before  # type: ignore[arg-type]
    with pytest.raises(UserError, match="was made from the images in"):
        dry_run_report(other)


def test_preprocessing_tells_what_it_redoes(
    sites: tuple[StoreRequest, StoreRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    request, _ = sites
    make_store(request)
    assert "is complete; nothing to do" in capsys.readouterr().err
    flip(request.data_root / "0001_c1.png")
    make_store(request)
    said = capsys.readouterr().err
    assert f"{request.path()}: 1 changed; 0 of 1 shards stay as they are, 1 are written again" in said
    assert "nothing to do" not in said
