"""What ``import densereid`` gathers: a store as a dataset, a model from any of its files, semantics of images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run as command
from PIL import Image
from reference_train import TINY
from safetensors.torch import save_file
from torch.utils.data import DataLoader

import densereid
from densereid import UserError
from densereid.data_catalog.store.schema import Split, unpack_validity
from densereid.data_catalog.store.store import open_store
from densereid.train.config.train_config import load_config
from densereid.train.deployment.formats import write_formats
from densereid.train.engine.checkpoint import Checkpoint, library_versions, save_checkpoint, store_fingerprint
from densereid.train.evaluation.evaluate import extract_embeddings
from densereid.train.evaluation.metrics import Scores
from densereid.train.families import build_network

CONFIG = load_config("magnifiernet-small", {**TINY, "height": 64, "width": 32, "evaluate.feature": "f"})
SCORES = asdict(Scores(0.5, 0.6, 0.7, 0.4, 0.3, 0.2, 9, 9, 30))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, stores: dict[str, Path]) -> Path:
    """A run of an untrained network with a mask head, beside two of its exports."""
    network = build_network(CONFIG, 6, seed=3).eval()
    checkpoint = Checkpoint(
        model=network.state_dict(), optimiser={}, epoch=2, step=8, best=0.4, scores=SCORES, scores_epoch=2, seed=3,
        random={}, config=CONFIG, num_identities=6, store=store_fingerprint(open_store(stores["zarr"])),
        versions=library_versions(),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    save_checkpoint(folder / "last.pt", checkpoint)
    write_formats(network, checkpoint, folder / "net", ["torch", "safetensors"])
    return folder


@pytest.fixture(scope="module")
def query(stores: dict[str, Path], synthetic_root: Path) -> tuple[list[Path], np.ndarray]:
    """Files of query images, and their embeddings as ``evaluate`` computes them from the store."""
    store = open_store(stores["zarr"])
    rows = np.flatnonzero(store.read("split") == Split.QUERY)[:5]
    files = [synthetic_root / "synthetic" / path for path in store.read("path", rows)]
    return files, extract_embeddings(build_network(CONFIG, 6, seed=3), store, rows, config=CONFIG).numpy()


def test_the_public_names_are_there_and_cost_nothing_until_they_are_asked_for() -> None:
    code = (
        "import sys, densereid; "
        "heavy = {'torch', 'numpy', 'zarr', 'PIL', 'click', 'yaml'}; "
        "print(sorted(heavy & set(sys.modules)), set(densereid.__all__) <= set(dir(densereid)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[] True"
    for name in densereid.__all__:
        value = getattr(densereid, name)
        assert getattr(value, "__doc__", None) or name == "__version__", name
    with pytest.raises(AttributeError, match="module 'densereid' has no attribute 'load_modell'"):
        densereid.load_modell  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from densereid import nothing  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_a_store_is_a_dataset_of_torch(stores: dict[str, Path], format: str) -> None:
    dataset = densereid.open_dataset(str(stores[format]))
    store = densereid.open_store(stores[format])
    (batch,) = DataLoader(dataset, batch_size=len(dataset))
    rows = batch["row"].numpy()
    assert set(store.read("split", rows)) == {Split.TRAIN}
    np.testing.assert_array_equal(batch["image"].permute(0, 2, 3, 1), store.read("image", rows))
    np.testing.assert_array_equal(batch["mask"], store.read("mask", rows))
    np.testing.assert_array_equal(batch["dsap"].permute(0, 1, 3, 4, 2), store.read("dsap", rows))
    np.testing.assert_array_equal(dataset.person_ids[batch["identity"]], store.read("person_id", rows))
    np.testing.assert_array_equal(batch["camera"], store.read("camera_id", rows))
    assert batch["valid"].shape == (len(dataset), 24, 32, 32)


def test_distractors_are_in_the_gallery_and_not_among_those_who_train(stores: dict[str, Path]) -> None:
    gallery = densereid.open_dataset(stores["zarr"], "gallery", arrays=["mask"], size=(32, 16))
    store = densereid.open_store(stores["zarr"])
    people = store.read("person_id", gallery.rows)
    assert len(gallery) == (store.read("split") == Split.GALLERY).sum()
    assert (people <= 0).sum() == 5
    np.testing.assert_array_equal(gallery.labels == -1, people <= 0)
    known = people > 0
    np.testing.assert_array_equal(gallery.person_ids[gallery.labels[known]], people[known])
    assert len(densereid.open_dataset(stores["zarr"], "gallery", unidentified=False)) == known.sum()
    assert set(gallery[0]) == {"image", "mask", "identity", "camera", "row"}
    assert gallery[0]["image"].shape == (3, 32, 16)


def test_a_dataset_that_cannot_be_says_why(stores: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no split 'test'\nExpected one of train, query, gallery"):
        densereid.open_dataset(stores["zarr"], "test")
    with pytest.raises(UserError, match=r"samples have no array 'iuv'\nExpected some of image, mask, dsap"):
        densereid.open_dataset(stores["zarr"], arrays=("image", "iuv"))
    with pytest.raises(UserError, match="no store at"):
        densereid.open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["", "last.pt", "net.pt", "net.safetensors"])
def test_a_model_embeds_files_as_evaluate_embeds_the_store(
    run: Path, query: tuple[list[Path], np.ndarray], name: str
) -> None:
    files, expected = query
    model = densereid.load_model(run / name, device="cpu")
    assert (model.size, model.feature, model.device) == ((64, 32), "f", "cpu")
    embeddings = model.embed(files, batch_size=2)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_paths_pictures_arrays_and_tensors_give_the_same(run: Path, query: tuple[list[Path], np.ndarray]) -> None:
    files, expected = query
    model = densereid.load_model(str(run), device="cpu")
    pictures = [Image.open(file) for file in files]
    arrays = [np.array(picture) for picture in pictures]
    several: list[object] = [
        map(str, files), pictures, arrays, np.stack(arrays), torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2),
        [files[0], pictures[1], arrays[2], torch.from_numpy(arrays[3]).permute(2, 0, 1), str(files[4])],
        [picture.convert("RGBA") for picture in pictures],
    ]  # fmt: skip
    for images in several:
        np.testing.assert_allclose(model.embed(images), expected, atol=1e-5)  # type: ignore[arg-type]
    for one in (files[0], pictures[0], arrays[0]):
        np.testing.assert_allclose(model.embed(one), expected[:1], atol=1e-5)
    assert model.embed([]).shape == (0, expected.shape[1])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (["nowhere.jpg"], r"nowhere\.jpg is not there"),
        ([Path(__file__)], r"test_python\.py cannot be read as an image"),
        (np.zeros((4, 4, 3), np.float32), r"image 0 is an array of float32 \(4, 4, 3\); expected uint8 \(height, wi"),
        ([np.zeros((8, 4, 3), np.uint8), np.zeros((3, 8, 4), np.uint8)], r"image 1 is an array of uint8 \(3, 8, 4\)"),
        (torch.zeros(2, 8, 4, 3, dtype=torch.uint8), r"image 0 is a tensor of .* expected uint8 \(3, height, width\)"),
        (np.zeros((0, 4, 3), np.uint8), r"image 0 is an array of uint8 \(0, 4, 3\)"),
        ([None], "image 0 is of type NoneType\nExpected a path, an image of Pillow's"),
        (7, "what was given is of type int"),
        ([Image.new("F", (4, 4))], "image 0 cannot be read: its pixels are 32-bit numbers"),
    ],
)
def test_what_is_no_image_is_named(run: Path, images: object, words: str) -> None:
    model = densereid.load_model(run, device="cpu")
    with pytest.raises(UserError, match=words):
        model.embed(images)  # type: ignore[arg-type]


def _of_no_use(run: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    yield folder / "nowhere", "nowhere does not exist\nGive a run's folder, a checkpoint, or a file of"
    yield folder, r"last\.pt does not exist"
    for suffix in (".pt", ".safetensors"):
        path = folder / f"torn{suffix}"
        path.write_bytes((run / f"net{suffix}").read_bytes()[:999])
        yield path, rf"torn\{suffix} (cannot be|is damaged)"
    save_file({"x": torch.zeros(1)}, folder / "foreign.safetensors")
    yield folder / "foreign.safetensors", "has no model card: it is no network that this project exported"
    weights = dict.fromkeys(["mean"], torch.zeros(3, 1, 1))
    save_file(weights, folder / "other.safetensors", {"model_card": json.dumps({"config": {"height": "tall"}})})
    yield folder / "other.safetensors", r"other\.safetensors cannot be used"


def test_a_file_that_is_no_model_is_named(run: Path, tmp_path: Path) -> None:
    for path, words in _of_no_use(run, tmp_path):
        with pytest.raises(UserError, match=words):
            densereid.load_model(path, device="cpu")
    with pytest.raises(UserError, match="checkpoint is 'first'\nExpected last or best"):
        densereid.load_model(run, checkpoint="first")
    with pytest.raises(UserError, match="DEVICE is 'gpu'"):
        densereid.load_model(run, device="gpu")


def test_semantics_of_images_are_those_of_a_store(tmp_path: Path, query: tuple[list[Path], np.ndarray]) -> None:
    """Of the embedded network: the same bytes as ``preprocess`` writes."""
    files, _ = query
    (tmp_path / "crops").mkdir()
    for file in files:
        (tmp_path / "crops" / file.name).write_bytes(file.read_bytes())
    named = {"DATASET": "folder", "DATA_ROOT": tmp_path / "crops", "STORE_ROOT": tmp_path, "ESTIMATOR": "embedded"}
    written = command("preprocess", SIZE="64x32", DSAP_SIZE=16, DEVICE="cpu", **named)
    store = densereid.open_store(tmp_path / written.stdout.strip())
    names = [Path(path).name for path in store.read("path")]
    found = densereid.estimate_semantics(files, size=(64, 32), dsap_size=16, device="cpu")
    assert (len(found), found.mask.shape, found.dsap.shape) == (5, (5, 64, 32), (5, 24, 16, 16, 3))
    assert (found.valid.shape, found.valid.dtype, found.score.dtype) == ((5, 24, 16, 16), bool, np.float32)
    assert found.has_person.all()
    rows = np.array([names.index(file.name) for file in files])
    for name in ("image", "iuv", "mask", "dsap", "score"):
        np.testing.assert_array_equal(getattr(found, name), store.read(name, rows), name)
    np.testing.assert_array_equal(found.valid, unpack_validity(store.read("dsap_valid", rows)))
    assert (found.dsap[~found.valid] == (124, 116, 104)).all()
    np.testing.assert_array_equal(found.mask > 0, found.iuv[..., 0] > 0)
    one = densereid.estimate_semantics(Image.open(files[2]), size=(64, 32), dsap_size=16, device="cpu")
    np.testing.assert_array_equal(one.iuv[0], found.iuv[2])
    nothing = densereid.estimate_semantics([], size=(64, 32), dsap_size=16)
    assert (nothing.dsap.shape, nothing.valid.dtype) == ((0, 24, 16, 16, 3), bool)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"estimator": "openpose"}, "unknown estimator 'openpose'\nExpected embedded or densepose"),
        ({"dsap_size": 9}, "DSAP_SIZE is 9; it must be a positive multiple of 8"),
        ({"size": (0, 4)}, "at least one image of at least 1x1 pixels"),
        ({"collision": "first"}, "collision is 'first'\nExpected last or mean"),
        ({"weights": "nowhere.safetensors"}, r"the weights .*nowhere\.safetensors cannot be used"),
        ({"estimator": "densepose", "weights": "nowhere.pkl"}, r"nowhere\.pkl"),
    ],
)
def test_semantics_that_cannot_be_say_why(given: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        densereid.estimate_semantics(np.zeros((8, 4, 3), np.uint8), **{"device": "cpu", **given})  # type: ignore[arg-type]
