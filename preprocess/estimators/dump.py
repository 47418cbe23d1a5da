"""ESTIMATOR=iuv with a dump: the dense pose that DensePose's ``apply_net.py dump`` wrote into one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.detectron2_network import best_person
from densereid.preprocess.estimators.base import Charts, EstimatorInputs
from densereid.preprocess.estimators.dump_file import DumpEntry, dump_digest, iuv_of, read_dump
from densereid.preprocess.images import Crop, paste_iuv, resize_iuv

_BEYOND = 1.0
"""Pixels by which a box may reach over its image's border."""


@dataclass(frozen=True)
class DumpEstimator:
    """Takes each image's person from a dump, of several the one with the largest score x centre prior.

    ``doubles``: stems that several images of the dataset have, which a dump names by their folders or not at all.
    """

    path: Path
    sha256: str
    doubles: frozenset[str] = frozenset()
    name: str = "iuv"

    def settings(self) -> dict[str, Any]:
        """That it is a dump; which one stands with each image, so that a longer one adds images to a store."""
        return {"order": "dump"}

    def inputs(self, image: str) -> EstimatorInputs:  # noqa: ARG002 - of another dump every image is taken again
        """The digest of the dump."""
        return EstimatorInputs(note=self.sha256[:32])

    def estimate(self, crops: Sequence[Crop], size: tuple[int, int]) -> Charts:
        """Charts of the crops, resized by the nearest pixel; no person where the dump has none; else a failure."""
        iuv = np.zeros((len(crops), *size, 3), np.uint8)
        score, box = np.zeros(len(crops), np.float32), np.zeros((len(crops), 4), np.float32)
        failures: dict[int, str] = {}
        _index(self.path, self.sha256)  # a dump that cannot be read for the moment is not the fault of an image
        for index, crop in enumerate(crops):
            box[index] = (0, 0, *crop.size[::-1])
            try:
                entry = self._entry(crop.record.path)
                chosen = _person(entry, crop.size)
                if chosen is not None:
                    full, box[index] = _map_of(entry, chosen, crop.size)
                    iuv[index], score[index] = resize_iuv(full, size), float(entry.scores[chosen])
            except (UserError, ValueError) as error:
                failures[index] = getattr(error, "problem", f"{self.path}: the person in {crop.record.path}: {error}")
        return Charts(torch.from_numpy(iuv), score, box, failures)

    def _entry(self, image: str) -> DumpEntry:
        """The entry of an image: by its path, or by its bare name where that is unique."""
        parts = PurePosixPath(image).with_suffix("").parts
        named = _index(self.path, self.sha256).get(parts[-1], [])
        exact = [entry for entry in named if entry.parts[-len(parts) :] == parts]
        found = exact or named
        if not found:
            raise UserError(f"{image} is not in the dump {self.path}: run apply_net.py on it too")
        if len(found) > 1:
            raise UserError(f"{image} is {len(found)} times in the dump {self.path}: as {_names(found)}")
        if not exact and parts[-1] in self.doubles:
            raise UserError(
                f"{found[0].file_name} in the dump {self.path} may be {image} or another image of that name: dump with "
                "the dataset's own folders in the paths"
            )
        return found[0]


def _names(entries: Sequence[DumpEntry]) -> str:
    return ", ".join(entry.file_name for entry in entries[:3])


def _person(entry: DumpEntry, size: tuple[int, int]) -> int | None:
    if not entry.results:
        return None
    reach = entry.boxes.max(dim=0).values
    if reach[2] > size[1] + _BEYOND or reach[3] > size[0] + _BEYOND:
        raise UserError(
            f"boxes of {entry.file_name} in the dump reach to {float(reach[3]):.0f}x{float(reach[2]):.0f} (height x "
            f"width), the image is {size[0]}x{size[1]}: the dump is of another size of it"
        )
    return best_person(_inside(entry.boxes, size), entry.scores, size)


def _inside(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor((size[1], size[0]) * 2))


def _map_of(entry: DumpEntry, chosen: int, size: tuple[int, int]) -> tuple[np.ndarray, tuple[float, ...]]:
    """The person's map in an image of (height, width) ``size``, and its box in the image."""
    iuv, box = iuv_of(entry.results[chosen]), entry.boxes[chosen]
    x0, y0 = (int(edge) for edge in box[:2])
    width, height = (max(int(extent), 1) for extent in box[2:] - box[:2])
    if iuv.shape[:2] != (height, width):
        raise ValueError(f"its map is {iuv.shape[0]}x{iuv.shape[1]}, its box {height}x{width}")
    return paste_iuv(iuv, (x0, y0), size), tuple(box.tolist())


@lru_cache(maxsize=1)
def _index(path: Path, sha256: str) -> dict[str, list[DumpEntry]]:
    """The dump's entries by the stem of their images; the last dump is kept, one a process."""
    del sha256  # of which the cache is
    index: dict[str, list[DumpEntry]] = {}
    for entry in read_dump(path):
        index.setdefault(entry.parts[-1] if entry.parts else "", []).append(entry)
    return index


def open_dump(dataset: Dataset, path: Path) -> DumpEstimator:
    """The dump at ``path`` for the images of ``dataset``. Raises UserError where it is none, or has none of them."""
    stems = Counter(PurePosixPath(record.path).stem for record in dataset.records)
    doubles = frozenset(stem for stem, number in stems.items() if number > 1)
    estimator = DumpEstimator(path.absolute(), dump_digest(path), doubles)
    index = _index(estimator.path, estimator.sha256)
    if not stems.keys() & index.keys():
        dumped = next((entry.file_name for entries in index.values() for entry in entries), "nothing")
        raise UserError(
            f"the dump {path} has none of the {len(dataset.records)} images of {dataset.name} at {dataset.root}: it "
            f"names {dumped}, the dataset {dataset.records[0].path}",
            "a dump is matched by the names of the images, without their suffixes",
        )
    return estimator
