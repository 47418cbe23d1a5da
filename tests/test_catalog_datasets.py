"""Dataset layouts: Market-1501's grammar and counts, folders by a pattern, and words for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from densereid.data_catalog.datasets.iuv_files import iuv_path
from densereid.data_catalog.datasets.lookup import Dataset, count_differences, find_dataset
from densereid.data_catalog.datasets.specs import DatasetSpec, known_datasets
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def market(root: Path) -> Path:
    folder = root / "Market-1501-v15.09.15"
    touch(
        folder,
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c2s1_000476_01.jpg",
        "bounding_box_train/0007_c6s3_077617_02.jpg",
        "bounding_box_train/Thumbs.db",
        "query/0001_c1s1_001051_00.jpg",
        "bounding_box_test/0001_c2s1_000301_00.jpg",
        "bounding_box_test/0000_c1s1_000151_01.jpg",
        "bounding_box_test/-1_c1s1_000401_03.jpg",
        "readme.txt",
    )
    return folder


def facts(dataset: Dataset) -> list[tuple[str, int, int, Split]]:
    return [
        (record.path.split("/")[-1][:7], record.person_id, record.camera_id, record.split) for record in dataset.records
    ]


def test_market_is_read_by_its_grammar_in_store_order(tmp_path: Path) -> None:
    market(tmp_path)
    assert facts(find_dataset("market", tmp_path)) == [
        ("0002_c1", 2, 1, Split.TRAIN),
        ("0002_c2", 2, 2, Split.TRAIN),
        ("0007_c6", 7, 6, Split.TRAIN),
        ("0001_c1", 1, 1, Split.QUERY),
        ("-1_c1s1", -1, 1, Split.GALLERY),
        ("0000_c1", 0, 1, Split.GALLERY),
        ("0001_c2", 1, 2, Split.GALLERY),
    ]


def test_market_is_found_by_any_of_its_names_or_directly(tmp_path: Path) -> None:
    folder = market(tmp_path)
    records = find_dataset("market", tmp_path).records
    assert find_dataset("market", folder).records == records
    folder.rename(tmp_path / "market1501")
    assert find_dataset("market", tmp_path).records == records


def test_counts_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    market(tmp_path)
    differences = "\n".join(count_differences(find_dataset("market", tmp_path)))
    assert "[12936, 751] train (images, identities), this copy has [3, 2]" in differences
    assert "3819 junk images, this copy has 1" in differences
    assert "2798 distractors images, this copy has 1" in differences


def test_full_counts_raise_no_difference(tmp_path: Path) -> None:
    """A tree of Market-1501's exact counts (names only)."""
    folder = tmp_path / "market"
    names = []
    for index in range(12936):
        names.append(f"bounding_box_train/{2 + 2 * (index % 751):04d}_c{index % 6 + 1}s1_{index:06d}_00.jpg")
    for index in range(3368):
        names.append(f"query/{1 + 2 * (index % 750):04d}_c{index % 6 + 1}s1_{index:06d}_00.jpg")
    for index in range(19732):
        person = "-1" if index < 3819 else "0000" if index < 3819 + 2798 else f"{1 + 2 * (index % 750):04d}"
        names.append(f"bounding_box_test/{person}_c{index % 6 + 1}s1_{index:06d}_00.jpg")
    for parent in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / parent).mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    dataset = find_dataset("market", tmp_path)
    assert len(dataset.records) == 36036
    assert count_differences(dataset) == []


def test_absent_market_says_where_it_looked_what_it_expected_how_large_it_is_and_who_grants_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_dataset("market", tmp_path)
    message = str(caught.value)
    for expected in (
        str(tmp_path / "Market-1501-v15.09.15"),
        "bounding_box_train, query, bounding_box_test",
        "0002_c1s1_000451_03.jpg",
        "about 150 MB",
        "zheng-lab",
        "DATA_ROOT",
    ):
        assert expected in message


def test_a_layout_that_is_not_markets_is_named(tmp_path: Path) -> None:
    folder = market(tmp_path)
    (folder / "query").rename(folder / "queries")
    with pytest.raises(UserError, match=r"no query; found .*queries"):
        find_dataset("market", tmp_path)


def test_a_file_that_breaks_the_grammar_is_named(tmp_path: Path) -> None:
    touch(market(tmp_path), "query/person12.jpg")
    with pytest.raises(UserError, match=r"1 image not named as Market-1501's are, e.g. person12.jpg"):
        find_dataset("market", tmp_path)


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    folder = market(tmp_path)
    (folder / "query/0001_c1s1_001051_00.jpg").unlink()
    with pytest.raises(UserError, match="query holds no images"):
        find_dataset("market", tmp_path)


def test_an_unknown_dataset_lists_the_known_and_guesses(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"unknown dataset 'markt'\ndid you mean DATASET=market\? known: .*folder, market"
    ):
        find_dataset("markt", tmp_path)


def test_a_folder_without_a_pattern_has_unknown_identities(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "deep/a.JPG", "iuv/b.png", "b_IUV.png", "notes.txt")
    dataset = find_dataset("folder", tmp_path)
    assert [(record.path, record.person_id, record.camera_id) for record in dataset.records] == [
        ("b.png", -1, -1),
        ("deep/a.JPG", -1, -1),
    ]
    assert dataset.iuv_root == tmp_path / "iuv"


def test_a_pattern_gives_identity_camera_and_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/7_c2.jpg", "query/9_c1.jpg", "bounding_box_test/9_c3.jpg")
    dataset = find_dataset("folder", tmp_path, pattern=r"(?P<split>\w+)/(?P<person>\d+)_c(?P<camera>\d)")
    assert [(record.person_id, record.camera_id, record.split) for record in dataset.records] == [
        (7, 2, Split.TRAIN),
        (9, 1, Split.QUERY),
        (9, 3, Split.GALLERY),
    ]


def test_identities_that_are_words_are_numbered_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "zoe_1.jpg", "ada_1.jpg", "ada_2.jpg")
    dataset = find_dataset("folder", tmp_path, pattern=r"(?P<person>[a-z]+)_")
    assert {record.path: record.person_id for record in dataset.records} == {
        "ada_1.jpg": 1,
        "ada_2.jpg": 1,
        "zoe_1.jpg": 2,
    }


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is not a regular expression"),
        (r"\d+", "has the groups none"),
        (r"(?P<pid>\d+)", r"has the groups \['pid'\]"),
        (r"(?P<person>\d{9})", r"does not match 1 of 1 image, e.g. 0001.jpg"),
        (r"(?P<split>\d)", "found the split '0'"),
    ],
)
def test_a_wrong_pattern_is_explained(tmp_path: Path, pattern: str, message: str) -> None:
    touch(tmp_path, "0001.jpg")
    with pytest.raises(UserError, match=message):
        find_dataset("folder", tmp_path, pattern=pattern)


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no images"):
        find_dataset("folder", tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        find_dataset("folder", tmp_path / "absent")


def test_iuv_maps_are_found_beside_the_layout_or_flat(tmp_path: Path) -> None:
    touch(tmp_path, "query/a.png", "b_IUV.png")
    assert iuv_path(tmp_path, "query/a.jpg") == tmp_path / "query/a.png"
    assert iuv_path(tmp_path, "elsewhere/b.jpg") == tmp_path / "b_IUV.png"
    assert iuv_path(tmp_path, "c.jpg") is None


def test_synthetic_is_markets_layout(synthetic_root: Path) -> None:
    dataset = find_dataset("synthetic", synthetic_root)
    assert {record.split for record in dataset.records} == set(Split)
    assert {-1, 0} < {record.person_id for record in dataset.records}
    assert dataset.iuv_root is not None
    assert all(iuv_path(dataset.iuv_root, record.path) for record in dataset.records)


def exact_tree(root: Path, name: str) -> Path:
    """Empty files with exactly the published counts and the dataset's own grammar; the dataset's folder."""
    spec = known_datasets()[name]
    folder = root / spec.folders[0]
    if spec.halves:
        cuhk01_tree(folder)
    elif spec.split_lists:
        msmt17_tree(folder, spec)
    else:
        split_folder_tree(folder, spec)
    return folder


def split_folder_tree(folder: Path, spec: DatasetSpec) -> None:
    prefix = {"train": 1, "query": 2001, "gallery": 2001}
    for split, parent in spec.split_folders.items():
        images, identities = spec.counts[split.name.lower()]
        (folder / parent).mkdir(parents=True)
        for index in range(images):
            person, camera = prefix[split.name.lower()] + index % identities, 1 + index % 2
            tail = f"{index}.png" if "cuhk03" in spec.name else f"f{index:07d}.jpg"
            (folder / parent / f"{person:04d}_c{camera}_{tail}").touch()


def msmt17_tree(folder: Path, spec: DatasetSpec) -> None:
    counts = {"list_train.txt": (30248, 1041), "list_val.txt": (2373, 1041)}
    counts |= {"list_query.txt": (11659, 3060), "list_gallery.txt": (82161, 3060)}
    for entry in spec.entries:
        if entry in counts:
            images, identities = counts[entry]
            lines = []
            for index in range(images):
                person = index % identities
                name = f"{person:04d}_000_{1 + index % 15:02d}_0303morning_{index:04d}_0.jpg"
                lines.append(f"{person:04d}/{name} {person}")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / entry).write_text("\n".join(lines) + "\n")
        else:
            (folder / entry).mkdir(parents=True)


def cuhk01_tree(folder: Path) -> None:
    (folder / "campus").mkdir(parents=True)
    for person in range(1, 972):
        for view in range(1, 5):
            (folder / "campus" / f"{person:04d}{view:03d}.png").touch()


@pytest.mark.parametrize("name", sorted(set(known_datasets()) - {"market", "synthetic"}))
def test_a_tree_of_the_published_counts_gives_exactly_the_published_splits(tmp_path: Path, name: str) -> None:
    folder = exact_tree(tmp_path, name)
    dataset = find_dataset(name, tmp_path)
    assert dataset.root == folder
    assert count_differences(dataset) == []
    train = {record.person_id for record in dataset.records if record.split == Split.TRAIN}
    test = {record.person_id for record in dataset.records if record.split != Split.TRAIN}
    assert not train & test
    assert min(train | test) == 1
    assert {record.camera_id for record in dataset.records} <= set(range(1, 16))


def test_msmt17_labels_from_zero_become_persons_from_one_and_never_meet(tmp_path: Path) -> None:
    exact_tree(tmp_path, "msmt17")
    records = find_dataset("msmt17", tmp_path).records
    first = {split: next(record for record in records if record.split == split) for split in Split}
    assert first[Split.TRAIN].path == "train/0000/0000_000_01_0303morning_0000_0.jpg"
    assert (first[Split.TRAIN].person_id, first[Split.QUERY].person_id) == (1, 1042)
    assert (first[Split.TRAIN].camera_id, first[Split.QUERY].path.split("/")[0]) == (1, "test")


def test_msmt17_names_the_line_that_breaks_its_grammar(tmp_path: Path) -> None:
    folder = exact_tree(tmp_path, "msmt17")
    (folder / "list_query.txt").write_text("0000/0000_000_01_0303morning_0008_0.jpg 0\nsomething else\n")
    with pytest.raises(UserError, match=r"list_query.txt, line 2: 'something else' is not MSMT17"):
        find_dataset("msmt17", tmp_path)


def test_cuhk01_is_halved_the_same_way_every_time_and_views_are_cameras(tmp_path: Path) -> None:
    exact_tree(tmp_path, "cuhk01")
    records = find_dataset("cuhk01", tmp_path).records
    assert records == find_dataset("cuhk01", tmp_path).records
    for record in records:
        view = int(Path(record.path).stem[4:])
        assert record.camera_id == (1 if view <= 2 else 2)
        if record.split != Split.TRAIN:
            assert record.split == (Split.QUERY if view <= 2 else Split.GALLERY)


def test_a_missing_image_and_a_missing_list_are_named(tmp_path: Path) -> None:
    folder = exact_tree(tmp_path, "cuhk03-labeled")
    next((folder / "query").iterdir()).unlink()
    differences = count_differences(find_dataset("cuhk03-labeled", tmp_path))
    assert differences == [
        "CUHK03 (new protocol, labeled) has [1400, 700] query (images, identities), this copy has [1399, 700]"
    ]
    lists = exact_tree(tmp_path, "msmt17")
    (lists / "list_gallery.txt").unlink()
    with pytest.raises(UserError, match=r"no list_gallery.txt; found .*list_query.txt"):
        find_dataset("msmt17", tmp_path)


def test_withdrawn_duke_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="withdrew the DukeMTMC data in 2019"):
        find_dataset("dukemtmc", tmp_path)


OWN_CATALOG = r"""
shop:
  title: Our shop
  folders: [shop]
  splits: {train: a, query: b, gallery: c}
  file_name: 'p(?P<person>\d+)_cam(?P<camera>\d)\.jpg'
  example: p12_cam3.jpg
  obtain: Ask us.
"""


def test_a_users_own_dataset_needs_no_code(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN_CATALOG)
    touch(tmp_path / "shop", "a/p12_cam3.jpg", "b/p7_cam1.jpg", "c/p7_cam2.jpg")
    dataset = find_dataset("shop", tmp_path, catalog=tmp_path / "own.yaml")
    assert [(record.person_id, record.camera_id) for record in dataset.records] == [(12, 3), (7, 1), (7, 2)]
    assert "market" in known_datasets(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- market", "holds no datasets"),
        ("shop: {title: x}", r"dataset shop: missing \['example', 'file_name', 'folders', 'obtain'\]"),
        (OWN_CATALOG + "  colour: red", r"unknown \['colour'\]"),
        (
            OWN_CATALOG.replace("splits: {train: a", "splits: {trian: a"),
            r"dataset shop: splits is .*; expected train, query and gallery",
        ),
        (OWN_CATALOG.replace("(?P<person>", "(?P<person"), "dataset shop: error"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_catalog_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        known_datasets(tmp_path / "own.yaml")
