"""One image of a dataset: its path, identity, camera and split."""

from __future__ import annotations

from dataclasses import dataclass

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
UNKNOWN = -1
"""Identity or camera that the dataset does not give; as an identity it is junk, which is never ranked."""

LARGEST_ID = 2**31 - 1
"""Of a person or a camera: stores keep them as int32."""


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset; ``path`` is relative to the dataset's folder, with '/'.

    Raises UserError for an identity or a camera that a store cannot keep.
    """

    path: str
    person_id: int
    camera_id: int
    split: Split

    def __post_init__(self) -> None:
        for kind, number in (("person", self.person_id), ("camera", self.camera_id)):
            if not UNKNOWN <= number <= LARGEST_ID:
                raise UserError(
                    f"{self.path} is of {kind} {number}; a store has numbers from {UNKNOWN} (unknown) to {LARGEST_ID}",
                    "number persons and cameras anew in the files' names or lists; with DATASET=folder, let PATTERN "
                    "match fewer digits, or a letter with them: names are numbered from 1",
                )

    def sort_key(self) -> tuple[int, int, int, str]:
        """Store order: one identity's images lie together, whatever the order of the file system."""
        return (self.split, self.person_id, self.camera_id, self.path)
