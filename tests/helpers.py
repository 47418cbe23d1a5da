"""What several test files share and nothing outside the tests needs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from torch import Tensor

from densereid.data_catalog.files.sealed_json import SEAL, sealed
from densereid.data_catalog.store.schema import Geometry, arrays_written
from densereid.data_catalog.store.store import INPUTS, PROVENANCE, create_store, write_shard
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.pipeline.cli import main
from densereid.train.data.augmentation import normalise_dsap, normalise_image
from densereid.train.data.batch import Batch, Inputs
from densereid.train.evaluation.metrics import Labels, Scores, chunks, score_parts


def exact_config(**changes: int | bool | None) -> SyntheticConfig:
    """A config in which every pixel with I >= 1 is its texture's texel: nothing between albedo and file."""
    exact: dict[str, int | bool | None] = {"shading": False, "camera_effects": False, "jpeg_quality": None}
    return SyntheticConfig(**{**exact, **changes})  # type: ignore[arg-type]


def plain_inputs(batch: Batch, *, dsap_size: int | None = None) -> Inputs:
    """The batch normalised and otherwise unchanged."""
    dsap = None
    if batch.dsap is not None and batch.valid is not None:
        dsap = normalise_dsap(batch.dsap, batch.valid, size=dsap_size)
    return Inputs(normalise_image(batch.image), batch.identity, batch.camera, dsap, batch.mask)


def score_distances(distances: Tensor, query_labels: Labels, gallery_labels: Labels, *, chunk: int = 256) -> Scores:
    """Scores of given distances (num_query, num_gallery), which come part by part."""
    parts = ((distances[rows], rows) for rows in chunks(len(distances), chunk))
    return score_parts(parts, query_labels, gallery_labels)


def contents(path: Path) -> dict[str, str]:
    """Digest of every file of a store, but for those that tell when, how and where it was made."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in (PROVENANCE, INPUTS)
    }


def files_below(*roots: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below the roots with its size and time of change."""
    found = [path for root in roots for path in [root, *root.rglob("*")]]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


GEOMETRY = Geometry(75, 20, 10, dsap_size=8, shard_rows=32)


def random_rows(geometry: Geometry, written: str, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    rows = {}
    for spec in arrays_written(written):
        shape = spec.shape(geometry)
        if spec.dtype == "str":
            rows[spec.name] = np.array([f"früh/{index}.jpg" for index in range(shape[0])], object)
        else:
            rows[spec.name] = generator.integers(0, 25, shape).astype(spec.dtype)
    return rows


def write_random_store(path: Path, format: str, geometry: Geometry = GEOMETRY) -> dict[str, np.ndarray]:
    created, sharded = random_rows(geometry, "create"), random_rows(geometry, "shard")
    create_store(path, format=format, geometry=geometry, attributes={"dataset": "random"}, rows=created)
    for shard in range(geometry.num_shards):
        covered = geometry.shard_slice(shard)
        write_shard(path, shard=shard, rows={name: values[covered] for name, values in sharded.items()})
    return {**created, **sharded}


ROOT = Path(__file__).parents[1]


def run(*arguments: object, **given: object) -> subprocess.CompletedProcess[str]:
    """One command in this process, where torch is loaded once; its variables go as in :func:`run_process`."""
    words, out, err = list(map(str, arguments)), io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        as_started(["pipeline", *words], {**os.environ, **as_environment(given)}, ROOT),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return subprocess.CompletedProcess(words, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def run_process(*arguments: object, **given: object) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own; its variables go through the environment, as make passes them."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **as_environment(given)}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@contextlib.contextmanager
def as_started(words: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Words, variables and folder as a new process has them; what it changes of itself is undone afterwards."""
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    level, interrupt = logging.getLogger("densereid").level, signal.getsignal(signal.SIGINT)
    root.handlers = []  # or the command would close those of pytest
    try:
        with (
            contextlib.chdir(folder),
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(sys, "argv", words),
            warnings.catch_warnings(),
        ):
            yield
    finally:
        root.handlers = handlers
        logging.getLogger("densereid").setLevel(level)
        signal.signal(signal.SIGINT, interrupt)


def as_environment(given: Mapping[str, object]) -> dict[str, str]:
    """Variables of options as the environment has them, DENSEREID_SIZE for SIZE; others (lower case) as they are."""
    own = {name: name.startswith("DENSEREID_") or name.islower() for name in given}
    return {name if own[name] else f"DENSEREID_{name}": str(value) for name, value in given.items()}


def failed(result: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def given_by_make(patch: pytest.MonkeyPatch, goals: str, **variables: str) -> None:
    patch.setenv("DENSEREID_MAKE_GOALS", goals)
    patch.setenv("DENSEREID_MAKE_VARIABLES", " ".join(variables))
    for name, value in variables.items():
        patch.setenv(f"DENSEREID_{name}", value)


def edit_marker(store: Path, shard: int, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a shard's marker as a writer that knew no better would have written it: with its own checksum."""
    marker = store / "shards" / f"{shard:05d}.json"
    content = json.loads(marker.read_text())
    edit(content)
    content.pop(SEAL, None)
    marker.write_text(json.dumps(sealed(content)))


def forget_checksum(store: Path, shard: int, array: str) -> None:
    """Put another CRC-32 of an array into a shard's marker: the same as a changed byte of the array."""
    edit_marker(store, shard, lambda marker: marker["crc32"].update({array: marker["crc32"][array] ^ 1}))
