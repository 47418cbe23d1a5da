"""One split of an open store as a dataset that reads a whole batch at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from data_catalog.errors import UserError
from data_catalog.schema import Geometry, Split, Status, unpack_validity
from train.batch import Batch

log = logging.getLogger(__name__)


class StoreReader(Protocol):
    """What training needs of a store; ``data_catalog.store.open_store`` returns one."""

    @property
    def path(self) -> Path:
        """Where the store lies."""

    @property
    def attributes(self) -> dict[str, Any]:
        """The store's own description; ``dataset`` names the data."""

    @property
    def geometry(self) -> Geometry:
        """Number of samples, image size, DSAP size."""

    def read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of one array, in the given order."""


class StoreDataset(Dataset[Batch]):
    """The samples of one split that can be used, in the store's order.

    For training these are the identified persons (``person_id`` > 0; distractors and junk teach
    nothing) whose image could be read. Raises UserError where nothing is left.
    """

    def __init__(self, store: StoreReader, split: Split, *, needs: Sequence[str], height: int, width: int) -> None:
        self.store, self.needs, self.height, self.width = store, tuple(needs), height, width
        everything = slice(0, store.geometry.num_samples)
        person_id, camera, role, status = (
            np.asarray(store.read(name, everything)) for name in ("person_id", "camera_id", "split", "status")
        )
        chosen = role == split
        self._tell_left_out(chosen, person_id, status, split)
        chosen = chosen & (person_id > 0) & (status != Status.FAILED)
        self.rows = np.flatnonzero(chosen)
        if not len(self.rows):
            raise UserError(
                f"{store.path} has no usable image in its {split.name.lower()} split",
                "Look at the store with `make inspect`, or preprocess a dataset that has this split.",
            )
        self.person_ids, self.labels = np.unique(person_id[self.rows], return_inverse=True)
        self.cameras = camera[self.rows]
        if (height, width) != (store.geometry.height, store.geometry.width):
            log.info(
                "Images of %s are %dx%d; resized to %dx%d as the config asks.",
                store.path, store.geometry.height, store.geometry.width, height, width,
            )  # fmt: skip

    @property
    def num_identities(self) -> int:
        """Number of persons; identity labels are their ranks in the sorted person ids."""
        return len(self.person_ids)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one sample."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples at ``indices`` (0..len-1) as one Batch; each array is read in one call."""
        index = np.asarray(indices, np.int64)
        rows = self.rows[index]
        return Batch(
            image=read_images(self.store, rows, height=self.height, width=self.width),
            identity=torch.from_numpy(self.labels[index].astype(np.int64)),
            camera=torch.from_numpy(self.cameras[index].astype(np.int64)),
            row=torch.from_numpy(rows.astype(np.int64)),
            dsap=self._read_dsap(rows) if "dsap" in self.needs else None,
            valid=self._read_valid(rows) if "dsap_valid" in self.needs else None,
            mask=self._read_mask(rows) if "mask" in self.needs else None,
        )

    def _read_dsap(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.store.read("dsap", rows)).permute(0, 1, 4, 2, 3)

    def _read_valid(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(unpack_validity(self.store.read("dsap_valid", rows)))

    def _read_mask(self, rows: np.ndarray) -> Tensor:
        mask = torch.from_numpy(self.store.read("mask", rows))
        if mask.shape[1:] == (self.height, self.width):
            return mask
        # Nearest: a mean of two labels would be a third part (decisions: resizing masks).
        return F.interpolate(mask[:, None], (self.height, self.width), mode="nearest-exact")[:, 0]

    @staticmethod
    def _tell_left_out(chosen: np.ndarray, person_id: np.ndarray, status: np.ndarray, split: Split) -> None:
        failed = int((chosen & (status == Status.FAILED)).sum())
        unidentified = int((chosen & (status != Status.FAILED) & (person_id <= 0)).sum())
        if failed or unidentified:
            log.info(
                "Left out of the %s split: %d images that preprocessing could not read, %d distractors or junk.",
                split.name.lower(), failed, unidentified,
            )  # fmt: skip


def read_images(store: StoreReader, rows: slice | np.ndarray, *, height: int, width: int) -> Tensor:
    """uint8 (B, 3, height, width) in channels-last memory; another stored size is resized (bilinear, antialiased)."""
    image = torch.from_numpy(store.read("image", rows)).permute(0, 3, 1, 2)
    if image.shape[2:] == (height, width):
        return image
    resized = F.interpolate(image.float(), (height, width), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
