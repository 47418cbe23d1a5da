"""Which store a command is about and how it is made, as one value that every stage takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from densereid.data_catalog.datasets.lookup import FOLDER, folder_name
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.names import EXPECTED, is_name
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.store import FORMATS
from densereid.pipeline.settings import defaults, size_text

if TYPE_CHECKING:  # torch takes seconds, and a path is asked for without it
    from densereid.preprocess.densepose.precision import AskedPrecision
    from densereid.preprocess.estimators.detectron2 import Mode
    from densereid.preprocess.estimators.iuv import ChannelOrder
    from densereid.preprocess.semantics.derive import Collision

NAMING = ("dataset", "data_root", "store_root", "store", "size", "dsap_size", "collision")
"""The options that name a store."""


@dataclass(frozen=True)
class StoreRequest:
    """A dataset as a store: the field names are those of the commands' options, which say what each means.

    ``size`` is (height, width) in pixels. ``workers`` is a number of processes, 0 for this one.
    """

    dataset: str
    data_root: Path
    store_root: AnyPath
    store: str
    size: tuple[int, int]
    dsap_size: int
    collision: Collision
    estimator: str = field(default_factory=lambda: defaults().estimator)
    iuv_root: Path | None = None
    iuv_order: Literal["auto"] | ChannelOrder = "auto"
    pattern: str | None = None
    shard_rows: int = Geometry.shard_rows
    device: str = field(default_factory=lambda: defaults().device)
    workers: int = field(default_factory=lambda: defaults().workers)
    catalog: Path | None = None
    scheduler: str | None = None
    weights: str = field(default_factory=lambda: defaults().weights)
    mode: Mode = field(default_factory=lambda: defaults().mode)
    short_edge: int = field(default_factory=lambda: defaults().short_edge)
    precision: AskedPrecision = field(default_factory=lambda: defaults().precision)
    no_fallback: bool = False
    compiled: bool = False
    ignore_space: bool = False

    @property
    def dataset_name(self) -> str:
        """What the dataset is called in the store: its own name, or of a folder of crops ``folder-`` and its name."""
        return folder_name(self.data_root) if self.dataset == FOLDER else self.dataset

    def path(self, dataset: str | None = None) -> AnyPath:
        """Where the store lives, or will: its name says dataset, size and, where it is not the usual, the DSAP images.

        For example ``market-256x128.zarr``, ``market-256x128-dsap64-mean.zarr``. ``dataset`` is what a store calls its
        dataset, the request's own unless given. Raises UserError where that makes no name: it may be a file's word.
        """
        unusual = f"-dsap{self.dsap_size}" if self.dsap_size != defaults().dsap_size else ""
        unusual += f"-{self.collision}" if self.collision != defaults().collision else ""
        name = f"{dataset or self.dataset_name}-{size_text(self.size)}{unusual}"
        if not is_name(name):
            raise UserError(f"{name!r} cannot name a store", f"expected {EXPECTED}")
        return self.store_root / f"{name}{FORMATS[self.store].SUFFIX}"

    def usual(self) -> StoreRequest:
        """The same store with the usual DSAP images."""
        return replace(self, dsap_size=defaults().dsap_size, collision=defaults().collision)

    def naming_options(self) -> dict[str, str]:
        """The options that name this store: the dataset, and those whose value is not the default."""
        usual = defaults()
        values = {name: size_text(self.size) if name == "size" else str(getattr(self, name)) for name in NAMING}
        unusual = {name: text for name, text in values.items() if text != str(getattr(usual, name))}
        return {**unusual, "dataset": self.dataset}
