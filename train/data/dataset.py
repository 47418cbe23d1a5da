"""One split of an open store as a dataset that reads a whole batch at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from densereid.data_catalog.datasets.records import UNKNOWN
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.recognition import LOST
from densereid.data_catalog.store.schema import Geometry, Split, Status, unpack_validity
from densereid.train.data.batch import Batch
from densereid.train.data.part_crops import crop_parts

log = logging.getLogger(__name__)

ARRAYS_OF_SAMPLES = ("image", "mask", "dsap")
"""What a sample of :class:`StoreDataset` may hold of a store's arrays."""


class StoreReader(Protocol):
    """What training needs of a store; ``densereid.data_catalog.store.store.open_store`` returns one."""

    @property
    def path(self) -> AnyPath:
        """Where the store lies: a folder or a URL."""

    @property
    def attributes(self) -> dict[str, Any]:
        """The store's own description; ``dataset`` names the data."""

    @property
    def geometry(self) -> Geometry:
        """Number of samples, image size, DSAP size."""

    def read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of one array, in the given order. Raises UserError where they cannot be read."""

    def missing_shards(self) -> list[int]:
        """Shards that are not there; none in a whole store."""


@dataclass(frozen=True)
class LabelColumns:
    """The arrays of a store that say what its N rows are, (N,) each, as stored: see the store's schema."""

    person_id: np.ndarray
    camera_id: np.ndarray
    split: np.ndarray
    status: np.ndarray


class StoreDataset(Dataset[dict[str, Tensor]]):
    """The samples of one split that can be used, in the store's order; as they are for torch's own ``DataLoader``.

    For training these are the identified persons (``person_id`` > 0; distractors and junk teach
    nothing) whose image could be read; with ``unidentified`` the others are there, too, as identity -1. ``needs`` names
    the arrays beside image, identity, camera and row: dsap (with its validity), mask. Raises UserError where nothing is
    left.
    """

    def __init__(
        self,
        store: StoreReader,
        split: Split,
        *,
        needs: Sequence[str],
        height: int,
        width: int,
        unidentified: bool = False,
    ) -> None:
        self.store, self.needs, self.height, self.width = store, tuple(needs), height, width
        labels = read_labels(store)
        self._log_left_out(labels, split, unidentified=unidentified)
        usable = (labels.split == split) & (labels.status != Status.FAILED)
        self.rows = np.flatnonzero(usable if unidentified else usable & (labels.person_id > 0))
        if not len(self.rows):
            raise _nothing_usable(store.path, labels, split)
        persons = labels.person_id[self.rows]
        self.person_ids = np.unique(persons[persons > 0])
        self.labels = np.where(persons > 0, np.searchsorted(self.person_ids, persons), -1)
        self.cameras = labels.camera_id[self.rows]
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

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample: the fields of a :class:`Batch <densereid.train.data.batch.Batch>` that it has, without B."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        """The samples at ``indices``, each as :meth:`__getitem__` has it; read as one batch."""
        batch = self.read_batch(indices).tensors()
        return [{name: values[index] for name, values in batch.items()} for index in range(len(indices))]

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """The samples at ``indices`` (0..len-1) as one Batch; each array is read in one call."""
        index = np.asarray(indices, np.int64)
        rows = self.rows[index]
        return Batch(
            identity=torch.from_numpy(self.labels[index].astype(np.int64)),
            camera=torch.from_numpy(self.cameras[index].astype(np.int64)),
            row=torch.from_numpy(rows.astype(np.int64)),
            **read_tensors(self.store, rows, needs=self.needs, height=self.height, width=self.width),
        )

    @staticmethod
    def _log_left_out(labels: LabelColumns, split: Split, *, unidentified: bool) -> None:
        chosen = labels.split == split
        failed = int((chosen & (labels.status == Status.FAILED)).sum())
        others = int((chosen & (labels.status != Status.FAILED) & (labels.person_id <= 0)).sum())
        others = 0 if unidentified else others
        if failed or others:
            log.info(
                "Left out of the %s split: %s that could not be read, %d distractors, junk or unknown.",
                split.name.lower(), plural(failed, "image"), others,
            )  # fmt: skip


def _nothing_usable(path: AnyPath, labels: LabelColumns, split: Split) -> UserError:
    """Why none of a split's images can be used, and what to do."""
    chosen, name = labels.split == split, split.name.lower()
    readable = chosen & (labels.status != Status.FAILED)
    total, looked = int(chosen.sum()), "`make inspect` shows the store."
    problem = f"{path} has no usable image in its {name} split"
    if not total:
        return UserError(f"{problem}: the split is empty", f"Preprocess a dataset that has this split. {looked}")
    if not readable.any():
        return UserError(
            f"{problem}: none of its {plural(total, 'image')} could be read", f"See {path}/failures.csv. {looked}"
        )
    if (labels.person_id[readable] == UNKNOWN).all():
        return UserError(
            f"{problem}: no identity is known of its {plural(total, 'image')}",
            "Preprocess them with PATTERN, whose group person finds the identity in an image's path, for example "
            r"PATTERN='(?P<person>\d+)_c(?P<camera>\d+)'.",
        )
    return UserError(f"{problem}: its {total} images are distractors or junk, who are no identity", looked)


def log_repeated_identities(dataset: StoreDataset, images: int) -> None:
    """Log how many identities have fewer than ``images`` images: the sampler repeats their images within a batch."""
    counts = np.bincount(dataset.labels)
    few = int((counts < images).sum())
    if few:
        log.info(
            "%d of %s have fewer than %s (the fewest: %d); their images repeat within a batch.",
            few, plural(len(counts), "identity"), plural(images, "image"), counts.min(),
        )  # fmt: skip


def read_tensors(
    store: StoreReader, rows: slice | np.ndarray, *, needs: Sequence[str], height: int, width: int
) -> dict[str, Tensor]:
    """The Batch fields image, dsap, valid and mask of ``rows``, as far as ``needs`` asks for them.

    ``needs`` holds names of arrays, or ``crops``: part images cropped from image and iuv instead of
    warped ones. Raises UserError where the store cannot be read any more.
    """
    tensors = {"image": read_images(store, rows, height=height, width=width)}
    if "dsap" in needs:
        tensors["dsap"] = torch.from_numpy(read_rows(store, "dsap", rows)).permute(0, 1, 4, 2, 3)
        tensors["valid"] = torch.from_numpy(unpack_validity(read_rows(store, "dsap_valid", rows)))
    if "crops" in needs:
        image, iuv = (torch.from_numpy(read_rows(store, name, rows)) for name in ("image", "iuv"))
        tensors["dsap"], tensors["valid"] = crop_parts(image, iuv[..., 0], size=store.geometry.dsap_size)
    if "mask" in needs:
        tensors["mask"] = _read_mask(store, rows, height, width)
    return tensors


def _check_present(store: StoreReader) -> None:
    """Raise UserError where shards are missing since the store was opened: zarr reads what is absent as fill values."""
    missing = store.missing_shards()
    if missing:
        raise UserError(f"{store.path} is not complete any more: {len(missing)} of its shards are missing", LOST)


def _read_mask(store: StoreReader, rows: slice | np.ndarray, height: int, width: int) -> Tensor:
    mask = torch.from_numpy(read_rows(store, "mask", rows))
    if mask.shape[1:] == (height, width):
        return mask
    # Nearest: the mean of two labels would be a third part.
    return F.interpolate(mask[:, None], (height, width), mode="nearest-exact")[:, 0]


def read_images(store: StoreReader, rows: slice | np.ndarray, *, height: int, width: int) -> Tensor:
    """uint8 (B, 3, height, width) in channels-last memory; another stored size is resized (bilinear, antialiased)."""
    image = torch.from_numpy(read_rows(store, "image", rows)).permute(0, 3, 1, 2)
    if image.shape[2:] == (height, width):
        return image
    resized = F.interpolate(image.float(), (height, width), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def read_labels(store: StoreReader) -> LabelColumns:
    """The label columns of all rows; raises UserError where the store cannot be read any more."""
    rows = slice(0, store.geometry.num_samples)
    return LabelColumns(*(read_rows(store, column.name, rows) for column in fields(LabelColumns)))


def read_rows(store: StoreReader, name: str, rows: slice | np.ndarray) -> np.ndarray:
    """``store.read``; raises UserError where the store cannot be read, or is not complete, any more."""
    values = store.read(name, rows)
    _check_present(store)
    return values
