"""What can be got of a store, a checkpoint, an export or another file, by every way of reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import hdf5plugin  # noqa: F401  it brings Zstandard to h5py
import numpy as np
import torch
import zarr
from faults.scenarios import plain

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.schema import ARRAYS, arrays_written
from densereid.data_catalog.store.store import open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.preprocess.densepose.weights import Weights, pin
from densereid.preprocess.writing.fill import failures_table
from densereid.preprocess.writing.inputs import read_inputs
from densereid.preprocess.writing.provenance import recorded_runs
from densereid.preprocess.writing.verify import damaged_records, damaged_shards
from densereid.train.data.dataset import read_labels
from densereid.train.engine.checkpoint import load_checkpoint
from densereid.train.engine.export import load_exported

DAMAGE = (UserError, OSError, ValueError, KeyError, RuntimeError)
"""What our readers, zarr, dask and h5py raise for damage: a caller's ``except`` knows them."""

Found = dict[str, str]
"""A digest of each thing that was read, or NOTICED."""

NOTICED = "noticed"


def _digest(values: Any) -> str:
    array = np.asarray(values)
    content = "\0".join(map(str, array.tolist())).encode() if array.dtype.kind in "OSU" else array.tobytes()
    return f"{array.shape} {array.dtype.kind} {hashlib.sha256(content).hexdigest()}"


def _tried(read: Callable[[], str]) -> str:
    try:
        return read()
    except DAMAGE:
        return NOTICED


def read_store(path: Path, scratch: Path) -> Found:
    """Every array by our reader, by the plain libraries and by dask; what verify says; a converted copy."""
    found = {"opened": _tried(lambda: str(open_store(path).geometry))}
    if found["opened"] == NOTICED:
        return found
    store = open_store(path)
    for spec in ARRAYS:
        found[spec.name] = _tried(lambda name=spec.name: _digest(store.read(name)))  # type: ignore[misc]
    found["attributes"] = repr(sorted(store.attributes.items()))
    found["labels"] = _tried(lambda: repr(plain(vars(read_labels(store)))))
    found["failures"] = _tried(lambda: failures_table(store))
    found["provenance"] = _tried(lambda: repr(recorded_runs(path) or NOTICED).strip("'"))  # a store may have none
    found["inputs"] = _inputs(path)
    found["verify"] = _tried(lambda: _verified(path))
    arrays = {found[spec.name] for spec in arrays_written("shard")}
    found["converted"] = NOTICED if NOTICED in arrays else _tried(lambda: _converted(path, scratch))
    return found | _plainly(path)


def _inputs(path: Path) -> str:
    recorded = read_inputs(path)
    return repr(recorded) if recorded["stamps"] else NOTICED  # then files are compared by what they hold


def _verified(path: Path) -> str:
    store = open_store(path)
    problems = [*damaged_records(store), *(names for _, names in damaged_shards(store) if names)]
    return NOTICED if problems else "whole"


def _converted(path: Path, scratch: Path) -> str:
    source = open_store(path)
    target, format = (scratch / "copy.hdf5", "hdf5") if source.format == "zarr" else (scratch / "copy.zarr", "zarr")
    convert_store(source, target, format=format)
    copy = open_store(target)
    return " ".join(_digest(copy.read(spec.name)) for spec in ARRAYS)


def _plainly(path: Path) -> Found:
    """Arrays of shards by zarr and dask, or by h5py."""
    names = [spec.name for spec in arrays_written("shard")]
    if (path / "index.h5").exists():
        return {f"h5py {name}": _tried(lambda name=name: _by_h5py(path, name)) for name in names}  # type: ignore[misc]

    def by_zarr(name: str) -> str:
        return _digest(zarr.open_array(path / name, mode="r")[...])

    zarrs = {f"zarr {name}": _tried(lambda name=name: by_zarr(name)) for name in names}  # type: ignore[misc]
    image = _tried(lambda: _digest(da.from_zarr(path, component="image").compute(scheduler="sync")))
    return {**zarrs, "dask image": image}


def _by_h5py(path: Path, name: str) -> str:
    parts = []
    for file in sorted(path.glob("shard-*.h5")):
        with h5py.File(file, "r") as shard:
            parts.append(shard[name][...])
    return _digest(np.concatenate(parts))


def read_checkpoint(path: Path, _scratch: Path) -> Found:
    """A checkpoint's every value."""

    def read() -> str:
        checkpoint = load_checkpoint(path)
        return repr([(name, plain(value)) for name, value in sorted(vars(checkpoint).items())])

    return {"checkpoint": _tried(read)}


def read_export(path: Path, _scratch: Path) -> Found:
    """An exported network's weights, its config and an embedding."""

    def read() -> str:
        network, config = load_exported(path)
        embedding = network(torch.zeros(1, 3, config.height, config.width))
        return repr([config, plain(dict(network.state_dict())), plain(embedding.detach())])

    return {"export": _tried(read)}


def read_stamp(path: Path, _scratch: Path) -> Found:
    """Whether a rendered dataset is taken for whole, by its stamp; nothing is rendered again."""

    def read() -> str:
        before = path.read_bytes()
        write_dataset(path.parent, RENDERED_AS)
        return "whole" if path.read_bytes() == before else "rendered again"

    return {"stamp": _tried(read)}


RENDERED_AS = SyntheticConfig(train_identities=5, test_identities=3, images_per_identity=5, distractors=1, junk=1)


def read_pin(path: Path, _scratch: Path) -> Found:
    """Whether weights of the pinned digest are taken, and others refused."""
    weights = path.parent.parent / "weights.pkl"
    return {
        name: _tried(lambda digest=digest: str(pin(Weights(weights, digest))))  # type: ignore[misc]
        for name, digest in (("same", "a" * 64), ("other", "b" * 64))
    }
