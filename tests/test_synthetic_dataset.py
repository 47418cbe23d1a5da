"""The written synthetic dataset: Market-1501's layout, exact IUV beside it, and every mistake a user can make."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import exact_config
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import plan_images, write_dataset
from densereid.data_catalog.synthetic.sample import identity_texture, render_sample

SMALL = SyntheticConfig(
    train_identities=3,
    test_identities=2,
    images_per_identity=6,
    cameras=3,
    distractors=4,
    junk=3,
    height=64,
    width=32,
)
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
# Market-1501's own names: person (or 0000, or -1), camera, sequence, frame, detection.
MARKET_NAME = re.compile(r"(-1|\d{4})_c([1-6])s\d_\d{6}_\d{2}\.jpg")


def names(root: Path, folder: str) -> list[tuple[int, int]]:
    """Person and camera of each image, read with Market-1501's grammar."""
    found = [MARKET_NAME.fullmatch(path.name) for path in sorted((root / folder).iterdir())]
    assert all(found), [path.name for path in (root / folder).iterdir()]
    return [(int(match[1]), int(match[2])) for match in found if match]


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "dataset"
    write_dataset(path, SMALL)
    return path


def test_the_layout_is_markets(root):
    train, query, gallery = (names(root, folder) for folder in FOLDERS)
    assert Counter(person for person, _ in train) == {1: 6, 2: 6, 3: 6}
    assert Counter(person for person, _ in query + gallery) == {4: 6, 5: 6, 0: 4, -1: 3}
    assert {person for person, _ in query} == {4, 5}
    assert len(set(query)) == len(query)


@pytest.mark.parametrize("cameras", [2, 3, 6])
@pytest.mark.parametrize("images", [4, 7, 12])
def test_every_query_has_a_true_match_from_another_camera(cameras, images):
    plan = plan_images(replace(SMALL, cameras=cameras, images_per_identity=images, test_identities=20))
    gallery = {(p.person, p.camera) for p in plan if p.folder == "bounding_box_test"}
    queries = [(p.person, p.camera) for p in plan if p.folder == "query"]
    shown = {(p.person, p.camera) for p in plan if 3 < p.person <= 23}
    assert set(queries) == shown
    assert len(queries) == len(shown)
    for person, camera in queries:
        assert any(other == person and seen != camera for other, seen in gallery)
    assert {camera for _, camera in shown} == set(range(1, cameras + 1))
    assert len({(p.folder, p.stem) for p in plan}) == len(plan)


def test_iuv_lies_beside_every_image_in_densepose_channel_order(root):
    for folder in FOLDERS:
        images = {path.stem for path in (root / folder).iterdir()}
        assert images == {path.stem for path in (root / "iuv" / folder).iterdir()}
    planned = plan_images(SMALL)[0]
    sample = render_sample(SMALL, planned.person, planned.image_index, planned.camera)
    written = np.asarray(Image.open(root / "iuv" / planned.folder / f"{planned.stem}.png"))
    np.testing.assert_array_equal(written[..., [2, 1, 0]], sample.iuv)
    image = np.asarray(Image.open(root / planned.folder / f"{planned.stem}.jpg"))
    assert np.abs(image.astype(int) - sample.image).mean() < 8


def test_workers_write_the_same_bytes_and_progress_counts(root, tmp_path):
    counts = []
    write_dataset(tmp_path / "other", SMALL, workers=2, on_progress=lambda done, total: counts.append((done, total)))
    assert contents(tmp_path / "other") == contents(root)
    assert counts[-1] == (37, 37)
    assert counts == sorted(counts)


def test_the_exact_dataset_is_png_and_its_pixels_are_texels(tmp_path):
    config = exact_config(
        train_identities=1, test_identities=1, images_per_identity=4, distractors=0, junk=0, height=64, width=32
    )
    write_dataset(tmp_path, config)
    path = min((tmp_path / "bounding_box_train").iterdir())
    image = np.asarray(Image.open(path))
    v, u, part = np.moveaxis(np.asarray(Image.open(tmp_path / "iuv" / path.parent.name / path.name), int), 2, 0)
    inside = part > 0
    texel = identity_texture(config, 1)[part - 1, np.minimum(31, 32 * u // 255), np.minimum(31, 32 * v // 255)]
    assert path.suffix == ".png"
    assert inside.sum() > 100
    np.testing.assert_array_equal(image[inside], texel[inside])


def test_a_complete_dataset_is_left_alone(root, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr("densereid.data_catalog.synthetic.dataset.render_sample", None)
    write_dataset(root, SMALL)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_interrupted_dataset_is_not_complete_and_is_made_again(root, tmp_path):
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        write_dataset(tmp_path, SMALL, on_progress=stop)
    assert not (tmp_path / "synthetic.json").exists()
    with pytest.raises(UserError, match="seed is 0, wanted 1"):
        write_dataset(tmp_path, replace(SMALL, seed=1))
    torn = next((tmp_path / "bounding_box_train").iterdir())
    torn.write_bytes(torn.read_bytes()[:100])
    write_dataset(tmp_path, SMALL)
    assert contents(tmp_path) == contents(root)


def test_another_config_is_refused_with_the_difference(root):
    with pytest.raises(UserError, match="cameras is 3, wanted 4") as refused:
        write_dataset(root, replace(SMALL, cameras=4))
    assert "seed" not in refused.value.problem
    assert refused.value.remedy


def test_another_generator_version_is_refused(tmp_path):
    older = {**SMALL.to_dict(), "generator_version": 0}
    (tmp_path / "synthetic.json").write_text(json.dumps(older))
    with pytest.raises(UserError, match="generator_version is 0"):
        write_dataset(tmp_path, SMALL)


def test_other_peoples_directories_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        write_dataset(tmp_path, SMALL)
    with pytest.raises(UserError, match="is a file"):
        write_dataset(tmp_path / "thesis.txt", SMALL)
    (tmp_path / "synthetic.json").write_text("{torn")
    with pytest.raises(UserError, match="cannot be read"):
        write_dataset(tmp_path, SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_negative_workers_are_refused(tmp_path):
    with pytest.raises(UserError, match="workers is -1"):
        write_dataset(tmp_path / "new", SMALL, workers=-1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_identities", 0),
        ("test_identities", 0),
        ("test_identities", 901),
        ("images_per_identity", 3),
        ("cameras", 1),
        ("cameras", 7),
        ("distractors", -1),
        ("junk", -1),
        ("height", 16),
        ("width", 8),
        ("seed", -1),
        ("jpeg_quality", 0),
        ("jpeg_quality", 96),
        ("images_per_identity", 12.5),
        ("cameras", True),
    ],
)
def test_config_mistakes_name_the_field_and_the_range(name, value):
    with pytest.raises(UserError, match=rf"{name.upper()} is {value}; expected a whole number from \d+ to \d+"):
        SyntheticConfig(**{name: value})
