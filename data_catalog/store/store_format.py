"""The seam between a store and its forms on disk: what zarr and HDF5 offer, and all that is used of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import ArraySpec, Geometry


class Reader(Protocol):
    """Reads the arrays of a store; it opens files on first use, in each process for itself, and it pickles."""

    def array(self, name: str) -> Any:
        """The array for lazy tools such as dask, as the format's own library opens it."""
        ...

    def read(self, spec: ArraySpec, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of one array, a slice or one-dimensional integers, in the order given."""
        ...


class StoreFormat(Protocol):
    """A form of a store on disk; the modules ``zarr_format`` and ``hdf5_format`` are the two that there are."""

    SUFFIX: str
    """Of a store's folder."""

    MARKER: str
    """The file whose presence makes a folder a store of this format."""

    SUPPORTS_URL: bool
    """Whether a store of this format can live at a URL; otherwise every path is a local one."""

    def create(
        self, path: Path, geometry: Geometry, attributes: Mapping[str, Any], rows: Mapping[str, np.ndarray]
    ) -> None:
        """Make a store without shards in the new folder ``path``: attributes, and ``rows``, known before any shard."""
        ...

    def read_attributes(self, path: AnyPath) -> dict[str, Any]:
        """What :func:`create` was given. Raises OSError, ValueError or KeyError where the store is damaged."""
        ...

    def write_shard_arrays(self, path: AnyPath, shard: int, rows: Mapping[str, np.ndarray]) -> None:
        """Write one shard of every array that is written with its shard; each is whole or absent."""
        ...

    def shard_files(self, path: AnyPath, shard: int) -> list[str]:
        """The files that :func:`write_shard_arrays` wrote for one shard, relative to ``path``."""
        ...

    def remove_partial_files(self, path: Path) -> None:
        """Delete what a killed :func:`write_shard_arrays` left behind."""
        ...

    def open_reader(self, path: AnyPath, geometry: Geometry) -> Reader:
        """A reader of the store's arrays."""
        ...
