"""Stores as the commands ask for them: made, found, brought up to date, and told from another dataset's."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import contents, failed, run
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.sealed_json import sealed
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.commands.dry_run import dry_run_report
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import derive_store, ensure_store, make_store


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
    assert "the images of folder are not at hand" in (said := capsys.readouterr().err)
    assert f"; the store, of the images in {request.data_root}, is taken as it is" in said


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
    assert dry_run_report(request)["to do"] == "1 shard, 5 images (1 changed)"
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
    assert f"{request.path()}: 1 changed; 0 of 1 shard kept, 1 written again" in said
    assert "nothing to do" not in said


PATTERN = r"(?P<person>\d+)_c(?P<camera>\d+)"


@pytest.fixture
def named(crops: Path, tmp_path: Path) -> StoreRequest:
    """The request, without its PATTERN and IUV_ROOT, of a finished store that was made with both."""
    maps = (crops / "iuv").rename(tmp_path / "maps")
    request = request_of(crops, tmp_path / "stores")
    make_store(replace(request, pattern=PATTERN, iuv_root=maps))
    return request


def labels(store_path: object) -> tuple[list[int], list[int]]:
    store = open_store(store_path)  # type: ignore[arg-type]
    return store.read("person_id").tolist(), store.read("camera_id").tolist()


def test_the_pattern_and_the_maps_of_a_store_are_kept(named: StoreRequest, capsys: pytest.CaptureFixture[str]) -> None:
    before, files = labels(named.path()), contents(named.path())  # type: ignore[arg-type]
    assert before == ([1, 2, 3, 4, 5], [1, 2, 1, 2, 1])
    capsys.readouterr()
    make_store(named)
    said = capsys.readouterr().err
    assert rf"PATTERN='{PATTERN}' is used, with which {named.path()} was made" in said
    assert "estimator iuv (the store that is there was made with it)" in said
    assert "is complete; nothing to do" in said
    assert dry_run_report(named)["to do"].startswith("0 ")
    assert contents(named.path()) == files  # type: ignore[arg-type]
    shutil.copy(named.data_root / "0001_c1.png", named.data_root / "0009_c2.png")
    shutil.copy(named.data_root.parent / "maps" / "0001_c1_IUV.png", named.data_root.parent / "maps" / "0009_c2.png")
    make_store(named)
    assert labels(named.path())[0] == [1, 2, 3, 4, 5, 9]


def test_known_labels_are_not_lost_unasked(named: StoreRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """The store is older than the record of its PATTERN."""
    record = named.path() / "inputs.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(sealed({**content, "pattern": ""})))
    before = labels(named.path())
    words = r"knows 5 identities of 5 images, the camera of 5 images; without a PATTERN none of that is known"
    with pytest.raises(UserError, match=words):
        make_store(named)
    with pytest.raises(UserError, match="give the PATTERN with which the store was made; for a store without"):
        dry_run_report(named)
    assert labels(named.path()) == before
    capsys.readouterr()
    make_store(replace(named, pattern=r"c(?P<camera>\d+)"))
    assert "by this PATTERN not known any more: 5 identities of 5 images; 0 of 1 " in capsys.readouterr().err
    assert labels(named.path()) == ([-1] * 5, sorted(before[1]))


def test_a_derived_store_keeps_its_labels(named: StoreRequest) -> None:
    derived = replace(named, dsap_size=16)
    derive_store(derived)
    before = labels(derived.path())
    assert before[0] == [1, 2, 3, 4, 5]
    make_store(derived)
    assert labels(derived.path()) == before


def test_a_source_without_labels_clears_none_of_a_derived_store(crops: Path, tmp_path: Path) -> None:
    request = request_of(crops, tmp_path / "stores")
    make_store(request)
    make_store(replace(request, dsap_size=16, pattern=PATTERN))
    with pytest.raises(UserError, match=r"dsap16.zarr knows 5 identities .*dsap8.zarr, from which .* does not"):
        derive_store(replace(request, dsap_size=16), request.path())
    assert labels(replace(request, dsap_size=16).path())[0] == [1, 2, 3, 4, 5]


def test_maps_that_are_gone_download_nothing(named: StoreRequest) -> None:
    maps = named.data_root.parent / "maps"
    maps.rename(maps.with_name("elsewhere"))
    words = rf"was made with IUV maps from {maps}, and none are there now for .*crops\ngive IUV_ROOT=FOLDER"
    for command in (make_store, dry_run_report):
        with pytest.raises(UserError, match=words):
            command(named)
        with pytest.raises(UserError, match=rf"IUV_ROOT={maps} is not there\ngive the folder of the IUV maps"):
            command(replace(named, iuv_root=maps))
    assert ensure_store(named).path == named.path()
    make_store(replace(named, iuv_root=maps.with_name("elsewhere")))


@pytest.mark.parametrize("command", ["inspect", "verify", "derive"])
def test_every_command_tells_folders_of_one_name_apart(
    sites: tuple[StoreRequest, StoreRequest], command: str, tmp_path: Path
) -> None:
    first, second = sites
    given = {"DATASET": "folder", "STORE_ROOT": first.store_root, "SIZE": "32x16", "DSAP_SIZE": 8}
    given |= {"RUN_ROOT": tmp_path / "runs"} if command == "inspect" else {}
    given |= {"DSAP_SIZE": 16} if command == "derive" else {}
    failed(run(command, DATA_ROOT=second.data_root, **given), f"was made from the images in {first.data_root}; 5 of")
    assert not (tmp_path / "runs").exists()
    done = run(command, DATA_ROOT=tmp_path / "none" / "crops", **given)
    assert f"the store, of the images in {first.data_root}, is taken as it is" in done.stderr
    assert done.returncode == 0
    assert "note" not in run(command, DATA_ROOT=first.data_root, **given).stderr


def test_a_misspelt_dataset_is_told_before_a_store_is_made(tmp_path: Path) -> None:
    wrong = run("train", "--device", "cpu", DATASET="foldr", STORE_ROOT=tmp_path, DATA_ROOT=tmp_path, RUN_ROOT=tmp_path)
    failed(wrong, "unknown dataset 'foldr'", "did you mean DENSEREID_DATASET=folder?")
    assert "making it first" not in wrong.stderr


def test_a_moved_folder_is_told_the_pattern_that_its_store_was_made_with(named: StoreRequest) -> None:
    maps, before = named.data_root.parent / "maps", labels(named.path())
    (named.data_root.parent / "other").mkdir()
    moved = replace(named, data_root=named.data_root.rename(named.data_root.parent / "other" / "crops"), iuv_root=maps)
    with pytest.raises(UserError, match=f"give PATTERN='{re.escape(PATTERN)}' with which the store was made"):
        make_store(moved)
    make_store(replace(moved, pattern=PATTERN))
    assert labels(named.path()) == before
