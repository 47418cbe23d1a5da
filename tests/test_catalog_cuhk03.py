"""CUHK03's release: exact pixels, names counted from 1, both ways of having the dataset compared with each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner
from PIL import Image

from densereid.data_catalog.datasets.cuhk03 import (
    KINDS,
    extract_cuhk03,
    find_release,
    read_protocol,
    release_differences,
)
from densereid.data_catalog.datasets.lookup import count_differences, find_dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.matlab.variables import open_matlab
from densereid.pipeline.cli import cli

Pixels = dict[tuple[int, int, int], np.ndarray]
"""Images by (pair, identity, image), all counted from 1."""

LABELED = "cuhk03-labeled"
SOURCES = (
    "1_001_1_01",
    "1_001_1_02",
    "1_001_2_06",
    "1_002_1_03",
    "1_002_2_06",
    "1_002_2_10",
    "3_001_1_01",
    "3_001_2_07",
)
"""The tiny release's file list; its persons are 1, 1, 1, 2, 2, 2, 3, 3."""


def tiny_images() -> Pixels:
    """Random pictures, each of its own height and width."""
    generator = np.random.default_rng(0)
    images = {}
    for index, source in enumerate(SOURCES):
        pair, identity, _, image = map(int, source.split("_"))
        images[pair, identity, image] = generator.integers(0, 256, (9 + index, 5 + index, 3)).astype(np.uint8)
    return images


def write_images(path: Path, images: Pixels) -> None:
    """A file as MATLAB writes it: a header, cells of references, dimensions reversed, empty cells as their size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        pairs = []
        for pair in range(1, 6):
            identities = max((identity for other, identity, _ in images if other == pair), default=1)
            table = np.empty((10, identities), h5py.ref_dtype)
            for identity in range(identities):
                for image in range(10):
                    table[image, identity] = stored(file, images.get((pair, identity + 1, image + 1))).ref
            pairs.append(file["#refs#"].create_dataset(f"pair{pair}", data=table, dtype=h5py.ref_dtype).ref)
        for kind in KINDS.values():
            file.create_dataset(kind, data=np.array([pairs], h5py.ref_dtype), dtype=h5py.ref_dtype)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def stored(file: h5py.File, pixels: np.ndarray | None) -> h5py.Dataset:
    group = file.require_group("#refs#")
    if pixels is not None:
        return group.create_dataset(f"image{len(group)}", data=pixels.transpose(2, 1, 0))
    empty = group.create_dataset(f"empty{len(group)}", data=np.zeros(2, np.uint64))
    empty.attrs["MATLAB_empty"] = np.uint8(1)
    return empty


def write_protocol(path: Path, sources: list[str], persons: list[int], indices: dict[str, list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files = np.array([[f"{source}.png"] for source in sources], object)
    views = [[int(source.split("_")[2])] for source in sources]
    columns = {f"{name}_idx": np.array(values)[:, None] for name, values in indices.items()}
    scipy.io.savemat(
        path, {"filelist": files, "labels": np.array(persons)[:, None], "camId": np.array(views), **columns}
    )


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """DATA_ROOT with a tiny release: person 1 trains; 2 and 3 ask from one view and answer from the other."""
    write_images(tmp_path / "cuhk03_release" / "cuhk-03.mat", tiny_images())
    indices = {"train": [1, 2, 3], "query": [4, 8], "gallery": [5, 6, 7]}
    for kind in KINDS.values():
        path = tmp_path / f"cuhk03_new_protocol_config_{kind}.mat"
        write_protocol(path, list(SOURCES), [1, 1, 1, 2, 2, 2, 3, 3], indices)
    return tmp_path


EXTRACTED = {
    "bounding_box_train/0001_c1_1.png": (1, 1, 1),
    "bounding_box_train/0001_c1_2.png": (1, 1, 2),
    "bounding_box_train/0001_c2_3.png": (1, 1, 6),
    "query/0002_c1_4.png": (1, 2, 3),
    "query/0003_c2_8.png": (3, 1, 7),
    "bounding_box_test/0002_c2_5.png": (1, 2, 6),
    "bounding_box_test/0002_c2_6.png": (1, 2, 10),
    "bounding_box_test/0003_c1_7.png": (3, 1, 1),
}


def run_extract(data_root: Path, name: str = LABELED) -> str:
    result = CliRunner().invoke(
        cli, ["catalog", "extract", name, "--data-root", str(data_root)], catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.output


def check(data_root: Path) -> tuple[int, str]:
    result = CliRunner().invoke(
        cli, ["catalog", "check", LABELED, "--data-root", str(data_root)], catch_exceptions=False
    )
    return result.exit_code, result.output


def test_extraction_gives_the_exact_pixels_under_the_names_that_the_catalog_reads(release: Path) -> None:
    assert "extracting: 8/8 images" in run_extract(release, "cuhk03")
    images = tiny_images()
    for kind in KINDS.values():
        root = release / "cuhk03-np" / kind
        assert {path.relative_to(root).as_posix() for path in root.rglob("*.*")} == set(EXTRACTED)
        for path, key in EXTRACTED.items():
            np.testing.assert_array_equal(np.asarray(Image.open(root / path)), images[key])
    records = find_dataset(LABELED, release).records
    assert {(record.path, record.person_id, record.camera_id) for record in records} == {
        (path, int(path.split("/")[1][:4]), int(path.split("_c")[1][0])) for path in EXTRACTED
    }


def test_a_killed_extraction_goes_on_and_leaves_what_is_there(release: Path) -> None:
    root = release / "cuhk03-np" / "labeled"
    steps = extract_cuhk03(find_release(LABELED, release), release, root)
    first = [next(steps) for _ in range(3)]
    steps.close()
    (root / "query").mkdir(exist_ok=True)
    (root / "query" / ".0002_c1_4.png.partial").write_bytes(b"half")  # what a kill leaves behind
    before = {path: (root / path).stat().st_mtime_ns for path in first}
    run_extract(release)
    assert {path: (root / path).stat().st_mtime_ns for path in first} == before
    assert len(find_dataset(LABELED, release).records) == len(EXTRACTED)
    assert not list(root.rglob("*.partial"))


def spoil(root: Path) -> None:
    """One of every difference there can be."""
    for path, change in (
        ("bounding_box_train/0001_c1_1.png", lambda pixels: pixels.transpose(1, 0, 2)),
        ("bounding_box_train/0001_c1_2.png", lambda pixels: pixels[..., ::-1]),
        ("bounding_box_train/0001_c2_3.png", lambda pixels: pixels ^ 1),
    ):
        changed = change(np.asarray(Image.open(root / path)))
        Image.fromarray(np.ascontiguousarray(changed)).save(root / path)
    (root / "query/0002_c1_4.png").unlink()
    (root / "query/0003_c2_8.png").write_bytes(b"broken")
    (root / "bounding_box_test/0002_c2_5.png").rename(root / "query/0002_c2_5.png")
    Image.new("RGB", (5, 9)).save(root / "bounding_box_test/0002_c2_6.jpg")
    (root / "bounding_box_test/0002_c2_6.png").unlink()
    (root / "bounding_box_test/0009_c1_99.png").touch()
    (root / "bounding_box_test/notes.txt").touch()


def test_check_compares_an_extracted_folder_with_the_release(release: Path) -> None:
    """The tiny release has other counts than the published ones; names and pixels agree until they are changed."""
    run_extract(release)
    root = release / "cuhk03-np" / "labeled"
    assert release_differences(find_release(LABELED, release), root) == []
    spoil(root)
    code, printed = check(release)
    assert code == 1
    for words in (
        "[7368, 767] train (images, identities), this copy has [3, 1]",
        "0001_c1_1.png does not hold the pixels of cuhk-03.mat: rows and columns are exchanged",
        "0001_c1_2.png does not hold the pixels of cuhk-03.mat: red and blue are exchanged",
        "0001_c2_3.png does not hold the pixels of cuhk-03.mat\n",
        "query/0003_c2_8.png cannot be read",
        "query/0002_c1_4.png is missing",
        "query/0002_c2_5.png: cuhk03_new_protocol_config_labeled.mat has it in bounding_box_test",
        "bounding_box_test/0002_c2_6.jpg is a JPEG",
        "bounding_box_test/0009_c1_99.png: cuhk03_new_protocol_config_labeled.mat does not have it",
        "bounding_box_test/notes.txt is no image of CUHK03",
    ):
        assert words in printed, words
    assert "0003_c1_7" not in printed


@pytest.mark.parametrize("name", sorted(KINDS))
def test_names_by_the_new_protocol_are_exactly_the_published_splits(tmp_path: Path, name: str) -> None:
    """Lists of the published length: 767 persons to train on, 700 to test, of whom each asks twice."""
    train = {"cuhk03-labeled": 7368, "cuhk03-detected": 7365}[name]
    gallery = {"cuhk03-labeled": 5328, "cuhk03-detected": 5332}[name]
    sources, persons, indices = full_size_lists(train, gallery)
    assert len(sources) == {"cuhk03-labeled": 14096, "cuhk03-detected": 14097}[name]
    write_protocol(tmp_path / f"cuhk03_new_protocol_config_{KINDS[name]}.mat", sources, persons, indices)
    release = find_release(name, tmp_path)
    assert release.protocol is not None
    wanted = read_protocol(name, release.protocol)
    splits = Counter(path.split("/")[0] for path in wanted)
    assert splits == {"bounding_box_train": train, "query": 1400, "bounding_box_test": gallery}
    root = tmp_path / "cuhk03-np" / KINDS[name]
    for folder in splits:
        (root / folder).mkdir(parents=True)
    for path, source in wanted.items():
        (root / path).touch()
        number = int(path.rsplit("_", 1)[1].removesuffix(".png"))
        assert source == f"{sources[number - 1]}.png"
    assert count_differences(find_dataset(name, tmp_path)) == []
    assert release_differences(release, root) == []


def full_size_lists(train: int, gallery: int) -> tuple[list[str], list[int], dict[str, list[int]]]:
    """File list, persons and indices: every person has nine or ten images, five or fewer from the second view."""
    counts = [*shares(train, 767), *shares(1400 + gallery, 700)]
    sources: list[str] = []
    persons: list[int] = []
    indices: dict[str, list[int]] = {"train": [], "query": [], "gallery": []}
    for person, count in enumerate(counts, start=1):
        for image in range(1, count + 1):
            sources.append(f"1_{person:03d}_{1 if image <= 5 else 2}_{image:02d}")
            persons.append(person)
            split = "train" if person <= 767 else "query" if image in (1, 6) else "gallery"
            indices[split].append(len(sources))
    return sources, persons, indices


def shares(total: int, people: int) -> list[int]:
    return [total // people + (index < total % people) for index in range(people)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"indices": {"train": [0], "query": [1], "gallery": [2]}},
            "train_idx holds 0, filelist has the entries 1 to 2",
        ),
        (
            {"indices": {"train": [1], "query": [3], "gallery": [2]}},
            "query_idx holds 3, filelist has the entries 1 to 2",
        ),
        (
            {"sources": ["1_001_1_01", "1_1_2_x"]},
            r"entry 2 is '1_1_2_x.png' of camera 2\nexpected PAIR_IDENTITY_VIEW_IMAGE",
        ),
        ({"indices": {"train": [1], "query": [2]}}, r"has no gallery_idx; it has filelist, labels"),
    ],
)
def test_a_wrong_protocol_is_explained(tmp_path: Path, change: dict[str, list[str]], message: str) -> None:
    lists = {"sources": ["1_001_1_01", "1_001_2_06"], "persons": [1, 1]}
    path = tmp_path / "protocol.mat"
    write_protocol(path, **{**lists, "indices": {"train": [1], "query": [2], "gallery": [1]}, **change})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        read_protocol(LABELED, path)


def test_a_protocol_of_another_release_is_named_and_what_was_extracted_stays(release: Path) -> None:
    images = tiny_images()
    del images[1, 2, 6]
    write_images(release / "cuhk03_release" / "cuhk-03.mat", images)
    with pytest.raises(
        UserError, match=r"cuhk-03.mat has no image 1_002_2_06.png in labeled: its cell holds shape \(0,\)"
    ):
        run_extract(release)
    assert len(list((release / "cuhk03-np/labeled").rglob("*.png"))) >= 3


def test_missing_and_foreign_files_are_named(release: Path) -> None:
    matlab = release / "cuhk03_release" / "cuhk-03.mat"
    with (
        pytest.raises(UserError, match=r"cuhk-03.mat: labeled\{2, 1\}\{7, 1\} cannot be read"),
        open_matlab(matlab) as read,
    ):
        read("labeled", (1, 0), (6, 0))
    matlab.write_bytes(b"not HDF5" * 100)
    with pytest.raises(UserError, match=r"cuhk-03\.mat cannot be read as a MATLAB 7\.3 file"):
        run_extract(release)
    matlab.unlink()
    with pytest.raises(UserError, match=r"cuhk-03.mat not found in .*(.|\n)*its authors"):
        run_extract(release)


def test_a_dataset_that_is_not_extracted_says_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"make extract DATASET=cuhk03"):
        find_dataset(LABELED, tmp_path)
