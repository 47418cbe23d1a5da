"""Every kind of image file through a whole run: converted as its owner would want, or told in failures.csv."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from image_zoo import BAD, GOOD, SIZE, huge, picture, plain
from PIL import Image

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Status
from densereid.data_catalog.store.store import Store, open_store
from densereid.pipeline.cli import cli
from densereid.pipeline.exit import EXIT_SOME_FAILED
from densereid.preprocess.images import KEPT_PIXELS, read_image, read_reduced
from densereid.preprocess.writing.plan import Plan

ROOT = Path(__file__).parents[1]
LOSSY = {"cmyk.jpg", "huge.jpg"}


def write_iuv(root: Path, name: str, size: tuple[int, int]) -> None:
    """A map of part 1 everywhere, beside the others in ``iuv``."""
    path = (root / "iuv" / name).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():  # two kinds of one stem
        return
    iuv = np.zeros((*size, 3), np.uint8)
    iuv[...] = (200, 200, 1)  # V, U, I as Pillow reads them
    Image.fromarray(iuv).save(path, compress_level=1)


def preprocess(root: Path, stores: Path, **options: str) -> tuple[int, Store]:
    """The command in this process; its exit code and the store."""
    settings = {"dataset": "folder", "data-root": str(root), "store-root": str(stores), "size": "32x16", **options}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    result = CliRunner().invoke(cli, ["preprocess", *words, "--device", "cpu"], catch_exceptions=False)
    return result.exit_code, open_store(next(stores.glob("[!.]*")))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Store, dict[str, np.ndarray]]:
    """Exit code and store of a run over all of them, and the expected pixels of the good ones."""
    root = tmp_path_factory.mktemp("zoo") / "crops"
    expected = {}
    for name, make in GOOD.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        expected[name] = make(root / name)
        write_iuv(root, name, (8000, 4000) if make is huge else expected[name].shape[:2])
    for name, (spoil, _) in BAD.items():
        spoil(root / name)
        write_iuv(root, name, SIZE)
    (root / "a folder.png").mkdir()
    (root / "link.png").symlink_to(root / "alpha.png")
    (root / "outside").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    (root / "circle").symlink_to(root)
    expected |= {"link.png": expected["alpha.png"], "outside/far.png": plain(root / "outside" / "far.png")}
    for name in ("link.png", "outside/far.png"):
        write_iuv(root, name, SIZE)
    code, store = preprocess(root, tmp_path_factory.mktemp("stores"))
    return code, store, expected


Zoo = tuple[int, Store, dict[str, np.ndarray]]


def row_of(store: Store, name: str) -> int:
    return store.read("path").tolist().index(name)


def test_every_file_has_its_row_and_some_failed(zoo: Zoo) -> None:
    code, store, expected = zoo
    assert code == EXIT_SOME_FAILED
    assert set(store.read("path").tolist()) == {*expected, *BAD}


@pytest.mark.parametrize("name", [*GOOD, "link.png", "outside/far.png"], ids=lambda name: name[-30:])
def test_the_stored_pixels_are_those_a_viewer_shows(zoo: Zoo, name: str) -> None:
    _, store, expected = zoo
    row = row_of(store, name)
    stored = store.read("image", np.array([row]))[0].astype(int)
    pixels = np.broadcast_to(expected[name], stored.shape).astype(int)  # 1x1 fills the whole
    if name == "huge.jpg":  # the borders between the colours are blended
        inner = np.ones(SIZE, bool)
        inner[14:18], inner[:, 6:10] = False, False
        stored, pixels = stored[inner], pixels[inner]
    tolerance = 3 if name in LOSSY else 1 if "alpha" in name or name == "link.png" else 0
    assert np.abs(stored - pixels).max() <= tolerance
    assert store.read("status", np.array([row]))[0] == Status.OK


def test_a_reduced_image_keeps_its_box_in_the_files_own_pixels(zoo: Zoo) -> None:
    _, store, _ = zoo
    np.testing.assert_array_equal(store.read("box", np.array([row_of(store, "huge.jpg")]))[0], [0, 0, 4000, 8000])


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_read_is_told_with_its_reason(zoo: Zoo, name: str) -> None:
    _, store, _ = zoo
    with (store.path / "failures.csv").open(newline="", encoding="utf-8") as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == set(BAD)
    assert BAD[name][1] in reasons[name]
    assert name in reasons[name]
    row = np.array([row_of(store, name)])
    assert store.read("status", row)[0] == Status.FAILED
    assert not store.read("image", row).any()


def test_a_file_deleted_between_listing_and_reading_stops_the_run_and_the_next_one_goes_on_without_it(
    crops: Path, tmp_path: Path, make_plan: Callable[..., Plan], fill: Callable[[Plan, str], None]
) -> None:
    plan = make_plan(crops, tmp_path / "store", "folder")
    (crops / "0002_c2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"0002_c2\.png"):
        fill(plan, "zarr")
    assert open_store(tmp_path / "store", incomplete=True).missing_shards() == [0]
    fill(make_plan(crops, tmp_path / "store", "folder"), "zarr")
    assert open_store(tmp_path / "store").read("status").tolist() == [Status.OK] * 4


def test_a_folder_in_place_of_a_file_is_told(
    synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan], fill: Callable[[Plan, str], None]
) -> None:
    """In a known dataset's layout, where every name is expected to be an image."""
    root = tmp_path / "data" / "synthetic"
    shutil.copytree(synthetic_root / "synthetic", root)
    image = next((root / "query").iterdir())
    image.unlink()
    image.mkdir()
    fill(make_plan(tmp_path / "data", tmp_path / "store"), "zarr")
    told = (tmp_path / "store" / "failures.csv").read_text(encoding="utf-8").splitlines()
    assert len(told) == 2
    assert f"{image.name} cannot be read: Is a directory" in told[1]


@contextmanager
def without_privileges() -> Iterator[None]:
    """As nobody, where the tests run as root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that anybody may enter and write to, as may the folders above it while the test runs."""
    closed = [parent for parent in tmp_path.parents if os.geteuid() == 0 and not parent.stat().st_mode & 0o001]
    modes = {parent: parent.stat().st_mode for parent in closed}
    for parent, mode in modes.items():
        parent.chmod(mode | 0o011)
    tmp_path.chmod(0o777)
    yield tmp_path
    for parent, mode in modes.items():
        parent.chmod(mode)


def test_a_file_without_read_permission_stops_the_run_and_is_read_once_it_may_be(
    crops: Path, open_folder: Path, make_plan: Callable[..., Plan], fill: Callable[[Plan, str], None]
) -> None:
    fill(make_plan(crops, open_folder / "readable", "folder"), "zarr")  # everything is imported before root steps down
    (crops / "inner").mkdir()
    (crops / "0004_c2.png").rename(crops / "inner" / "0004_c2.png")
    for closed in (crops / "0002_c2.png", crops / "inner"):
        plan, mode = make_plan(crops, open_folder / "store", "folder"), closed.stat().st_mode
        closed.chmod(0)
        try:
            with without_privileges(), pytest.raises(PermissionError, match=r"0002_c2\.png|0004_c2\.png"):
                fill(plan, "zarr")
            if closed.is_dir():
                with without_privileges(), pytest.raises(UserError, match=r"inner cannot be listed: Permission denied"):
                    find_dataset("folder", crops)
        finally:
            closed.chmod(mode)
    fill(make_plan(crops, open_folder / "store", "folder"), "zarr")
    assert open_store(open_folder / "store").read("status").tolist() == [Status.OK] * 5


def test_names_that_are_no_text_are_named(tmp_path: Path) -> None:
    plain(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")))
    with pytest.raises(UserError, match=r"1 image whose name is not UTF-8, e.g. 'caf\\udce9.png'"):
        find_dataset("folder", tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about tags it skips
@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_a_damaged_file_never_raises_anything_but_a_user_error(tmp_path: Path, suffix: str) -> None:
    """Random bytes changed, random ends cut off: readable or explained, and a shard goes on."""
    changes = random.Random(suffix)
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, suffix)
    explained = 0
    for _ in range(150):
        content = bytearray(buffer.getvalue())
        for _ in range(changes.randint(1, 8)):
            content[changes.randrange(min(len(content), changes.choice((60, 400, 5000))))] = changes.randrange(256)
        (tmp_path / "damaged").write_bytes(content[: changes.randint(1, len(content))])
        try:
            assert read_image(tmp_path / "damaged").shape[2] == 3
        except UserError as error:
            explained += str(tmp_path / "damaged") in error.problem
    assert explained > 20


def test_reducing_is_the_mean_of_the_pixels_that_are_replaced(tmp_path: Path) -> None:
    pixels = picture(0, (2048, 2048))
    Image.fromarray(pixels).save(tmp_path / "large.png", compress_level=1)
    reduced, size = read_reduced(tmp_path / "large.png")
    assert size == (2048, 2048)
    assert reduced.shape == (1024, 1024, 3)
    assert reduced.shape[0] * reduced.shape[1] <= KEPT_PIXELS
    mean = pixels.reshape(1024, 2, 1024, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - mean).max() <= 0.5
    np.testing.assert_array_equal(read_image(tmp_path / "large.png"), pixels)


def test_a_reduced_image_that_is_turned_has_its_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (4000, 2000), (10, 20, 30)).save(tmp_path / "lying.jpg", exif=exif)
    reduced, size = read_reduced(tmp_path / "lying.jpg")
    assert size == (4000, 2000)
    assert reduced.shape == (2000, 1000, 3)


def test_many_huge_images_at_once_do_not_fill_the_memory(tmp_path: Path) -> None:
    """24 images of 8000x4000, which are 2.3 GB as pixels, in less than a tenth of that."""
    huge(tmp_path / "huge.jpg")
    code = (
        "import resource\nfrom concurrent.futures import ThreadPoolExecutor\nfrom pathlib import Path\n"
        "from densereid.preprocess.images import read_reduced\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with ThreadPoolExecutor(4) as readers:\n"
        f"    kept = list(readers.map(read_reduced, [Path({str(tmp_path / 'huge.jpg')!r})] * 24))\n"
        "assert all(size == (8000, 4000) for _, size in kept)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(found) * 1024 < 230e6
