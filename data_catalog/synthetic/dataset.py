"""Write a synthetic dataset in Market-1501's layout, with exact IUV beside the images."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.sealed_json import parsed_json
from densereid.data_catalog.files.writer_lock import only_writer
from densereid.data_catalog.synthetic.attributes import write_attributes
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.errors import disturb_iuv, draw_errors
from densereid.data_catalog.synthetic.sample import render_sample

COMPLETE_NAME = "synthetic.json"
"""Config and generator version; it is written last, so that its presence means a complete dataset."""
STARTED_NAME = "synthetic.json.partial"
"""The same content from the first moment on: it marks the directory as ours."""

_DISTRACTOR_PERSON = 10_000
_JUNK_PERSON = 200_000
_BATCH = 32


class PlannedImage(NamedTuple):
    """One image of the dataset: where it goes, and what ``render_sample`` needs to make it."""

    folder: str
    stem: str
    """``PPPP_cCsS_FFFFFF_II``, Market-1501's own grammar."""
    person: int
    """The id for train and test identities; above 9999 a distractor's or junk image's own person."""
    image_index: int
    camera: int
    junk: bool


def plan_images(config: SyntheticConfig) -> list[PlannedImage]:
    """Every image of the dataset, in writing order.

    An identity is seen by two or more cameras, at least twice by each; a test identity's first image of each
    camera is the query, so that every query has a true match from another camera in the gallery.
    """
    plan = []
    for person in range(1, config.train_identities + config.test_identities + 1):
        train, seen = person <= config.train_identities, set()
        for index, camera in enumerate(_camera_order(config, person)):
            folder = "bounding_box_train" if train else "bounding_box_test"
            if not train and camera not in seen:
                folder = "query"
            seen.add(camera)
            stem = f"{person:04d}_c{camera}s1_{index + 1:06d}_00"
            plan.append(PlannedImage(folder, stem, person, index, camera, False))
    for name, count, first in (("0000", config.distractors, _DISTRACTOR_PERSON), ("-1", config.junk, _JUNK_PERSON)):
        for number in range(count):
            camera = 1 + number % config.cameras
            stem = f"{name}_c{camera}s1_{number + 1:06d}_00"
            plan.append(PlannedImage("bounding_box_test", stem, first + number, 0, camera, name == "-1"))
    return plan


def _camera_order(config: SyntheticConfig, person: int) -> list[int]:
    """The camera (1, 2, ...) of each image of an identity: two or more cameras, each at least twice."""
    rng = np.random.default_rng((config.seed, 4, person))
    most = min(config.cameras, config.images_per_identity // 2)
    count = int(rng.integers(min(most, max(2, config.cameras - 1)), most + 1))
    cameras = 1 + rng.permutation(config.cameras)[:count]
    return [int(cameras[index % count]) for index in range(config.images_per_identity)]


def write_dataset(
    root: Path,
    config: SyntheticConfig,
    *,
    workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the dataset under ``root``, unless it is there already.

    ``bounding_box_train/``, ``query/`` and ``bounding_box_test/`` hold the images, ``iuv/<folder>/<stem>.png`` the
    exact IUV in DensePose's on-disk channel order (OpenCV's B, G, R = I, U, V, so Pillow's RGB reads V, U, I);
    ``synthetic_attribute.mat`` says what the identities wear (:mod:`densereid.data_catalog.datasets.attributes`).
    ``workers`` processes share the work; 0 uses this one; the bytes are the same. ``on_progress(done, total)`` is
    called in this process. An interrupted dataset of the same config is written again. Raises UserError where
    ``root`` holds something else, or another process writes it.
    """
    root = Path(root)
    if workers < 0:
        raise UserError(f"synthetic workers is {workers}; expected 0 or more", "0 renders in this process")
    if _is_complete(root, config):
        return
    with only_writer(root, "the dataset"):
        if _is_complete(root, config):  # by another process, just now
            return
        plan = plan_images(config)
        _start(root, config, plan)
        done = 0
        for count in _written(root, config, plan, workers):
            done += count
            if on_progress is not None:
                on_progress(done, len(plan))
        write_attributes(root, config)
        (root / STARTED_NAME).replace(root / COMPLETE_NAME)


def _start(root: Path, config: SyntheticConfig, plan: list[PlannedImage]) -> None:
    """Make the folders, and mark the directory as an unfinished dataset before anything else is in it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / STARTED_NAME).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
        for folder in sorted({image.folder for image in plan}):
            (root / folder).mkdir(exist_ok=True)
            (root / "iuv" / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write the synthetic dataset to {root}: {error}", "choose a writable directory"
        ) from None


def _written(root: Path, config: SyntheticConfig, plan: list[PlannedImage], workers: int) -> Iterator[int]:
    """Write all images; yields how many more are done."""
    write = partial(_write_images, root, config)
    batches = [plan[start : start + _BATCH] for start in range(0, len(plan), _BATCH)]
    if workers == 0:
        yield from map(write, batches)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, batches)


def _write_images(root: Path, config: SyntheticConfig, images: list[PlannedImage]) -> int:
    for planned in images:
        sample = render_sample(config, planned.person, planned.image_index, planned.camera, junk=planned.junk)
        image = encode_image(sample.image, config.jpeg_quality)
        (root / planned.folder / f"{planned.stem}{config.suffix}").write_bytes(image)
        iuv = encode_image(np.ascontiguousarray(written_iuv(config, planned, sample.iuv)[..., ::-1]), None)
        (root / "iuv" / planned.folder / f"{planned.stem}.png").write_bytes(iuv)
    return len(images)


def written_iuv(config: SyntheticConfig, planned: PlannedImage, exact: np.ndarray) -> np.ndarray:
    """The IUV map (H, W, 3) uint8 that is written for an image: the exact one, or with the config's errors."""
    if config.iuv_errors == 0:
        return exact
    rng = np.random.default_rng((config.seed, 5, planned.person, planned.image_index))
    errors = draw_errors(rng, *exact.shape[:2], severity=config.iuv_errors / 100)
    return disturb_iuv(exact, errors)


def encode_image(pixels: np.ndarray, jpeg_quality: int | None) -> bytes:
    """The file of a picture (H, W, 3) uint8 RGB: a JPEG, or without a quality a PNG."""
    buffer = io.BytesIO()
    if jpeg_quality is None:
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=jpeg_quality)
    return buffer.getvalue()


def _is_complete(root: Path, config: SyntheticConfig) -> bool:
    """Whether ``root`` holds this dataset already; UserError where it holds anything but a part of it."""
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file; expected a directory for the synthetic dataset", "choose another directory")
    for name in (COMPLETE_NAME, STARTED_NAME):
        if (root / name).is_file():
            _check_same_plan(root / name, config)
            return name == COMPLETE_NAME
    if root.is_dir() and any(root.iterdir()):
        raise UserError(
            f"{root} is not empty and has no {COMPLETE_NAME}: it is not a synthetic dataset",
            "choose an empty or new directory",
        )
    return False


def _check_same_plan(path: Path, config: SyntheticConfig) -> None:
    try:
        found = parsed_json(read_whole(path) or b"")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(
            f"{path} cannot be read as a synthetic dataset's config", f"move {path.parent} away and run again"
        )
    expected = config.to_dict()
    differences = [
        f"{name} is {found.get(name, 'missing')!r}, wanted {expected.get(name, 'unknown to this version')!r}"
        for name in sorted(expected.keys() | found.keys())
        if name not in found or name not in expected or found[name] != expected[name]
    ]
    if differences:
        raise UserError(
            f"{path.parent} holds a synthetic dataset of another config: {'; '.join(differences)}",
            "choose another directory, or move this one away to create the dataset again",
        )
