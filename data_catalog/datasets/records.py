"""One image of a dataset: its path, identity, camera and split."""

from __future__ import annotations

from dataclasses import dataclass

from densereid.data_catalog.store.schema import Split

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
UNKNOWN = -1
"""Identity or camera that the dataset does not give; as an identity it is junk, which is never ranked."""


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset; ``path`` is relative to the dataset's folder, with '/'."""

    path: str
    person_id: int
    camera_id: int
    split: Split

    def sort_key(self) -> tuple[int, int, int, str]:
        """Store order: one identity's images lie together, whatever the order of the file system."""
        return (self.split, self.person_id, self.camera_id, self.path)
