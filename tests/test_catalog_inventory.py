"""What is missing from a dataset, what lies there and belongs to nothing, and links among a folder's crops."""

from __future__ import annotations

from pathlib import Path

from densereid.data_catalog.datasets.inventory import missing_images, stray_files
from densereid.data_catalog.datasets.lookup import find_dataset


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_images_that_lists_name_are_told_when_missing_and_validation_images_are_no_strays(tmp_path: Path) -> None:
    train, validation, query, unlisted, missing = (
        f"0000/0000_000_{camera:02d}_0303morning_0001_0.jpg" for camera in range(1, 6)
    )
    folder = touch(tmp_path / "MSMT17_V1", f"train/{train}", f"train/{validation}", f"test/{query}", f"test/{unlisted}")
    for name, image in {"train": train, "val": validation, "query": query, "gallery": missing}.items():
        (folder / f"list_{name}.txt").write_text(f"{image} 0\n")
    dataset = find_dataset("msmt17", tmp_path)
    assert missing_images(dataset) == [f"test/{missing} is missing"]
    assert stray_files(dataset) == [f"test/{unlisted} is no image of MSMT17 (V1)'s"]


def test_stray_files_in_split_folders_are_named(tmp_path: Path) -> None:
    name = "0002_c1s1_000451_03.jpg"
    folders = ("bounding_box_train", "query", "bounding_box_test")
    root = touch(tmp_path / "market", *(f"{folder}/{name}" for folder in folders), "query/Thumbs.db", "query/.DS_Store")
    assert stray_files(find_dataset("market", tmp_path)) == []  # Thumbs.db is in the archive itself
    touch(root, f"query/query/{name}", f"bounding_box_train/{name}.part")
    assert stray_files(find_dataset("market", tmp_path)) == [
        f"bounding_box_train/{name}.part is no image of Market-1501's",
        f"query/query/{name} is no image of Market-1501's",
    ]


def test_iuv_maps_are_no_strays(synthetic_root: Path) -> None:
    dataset = find_dataset("synthetic", synthetic_root)
    assert missing_images(dataset) == stray_files(dataset) == []


def test_linked_folders_are_entered_once_and_links_to_nothing_are_images(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/0001.jpg", "crops/0002.jpg")
    for name in ("first", "second"):
        (tmp_path / "crops" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "crops" / "circle").symlink_to(tmp_path / "crops")
    (tmp_path / "crops" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    records = find_dataset("folder", tmp_path / "crops").records
    assert [record.path for record in records] == ["0002.jpg", "first/0001.jpg", "gone.jpg"]
