"""Who made a store, with what and when: ``provenance.json`` in the store's folder, one entry for each run that wrote.

It stands beside the arrays and their attributes, which are equal for two runs that give equal stores; this file is not.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import write_json
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.files.refusals import read_whole
from densereid.data_catalog.files.sealed_json import is_sealed, parsed_json, sealed
from densereid.data_catalog.store.store import PROVENANCE
from densereid.preprocess.writing.plan import StorePlan

_PACKAGES = ("densereid", "numpy", "numba", "pillow", "torch", "zarr", "tensorstore", "h5py", "hdf5plugin")
_PROJECT = Path(__file__).parents[3]


def record_run(plan: StorePlan, *, command: str, workers: str, shards: int) -> None:
    """Add an entry for a run that is about to write ``shards`` shards of the plan's store."""
    entry = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": commit(),
        "versions": versions(),
        "device": device_name(plan.config.device),
        "computed_by": workers,
        "shards": shards,
        "config": {**asdict(plan.config), **plan.attributes()},
    }
    write_json(plan.path / PROVENANCE, sealed({"runs": [*recorded_runs(plan.path), entry]}))


def recorded_runs(store: AnyPath) -> list[dict[str, Any]]:
    """The entries of a store, oldest first; none where nothing was recorded. That of a store of version 1 is a list.

    Raises UserError where the file is damaged or cannot be read: it is kept as long as its user wants it.
    """
    file = store / PROVENANCE
    stored = read_whole(file)
    if stored is None:
        return []
    try:
        content = parsed_json(stored)
    except ValueError:  # no JSON, or no UTF-8
        content = None
    if isinstance(content, list):
        return content
    if not is_sealed(content) or not isinstance(content.get("runs"), list):
        raise UserError(f"{file} is not as it was written", "move it away; the arrays do not need it")
    return list(content["runs"])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a store's bytes, as far as they are installed."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:  # DenseReID itself, where it is run from a folder
            continue
    return installed


def commit(project: Path = _PROJECT) -> dict[str, Any] | None:
    """The project's git commit and whether files differ from it; None where there is no git checkout, or no git."""
    if not (project / ".git").exists():  # git would describe a repository further up
        return None
    try:
        digest = _git(project, "rev-parse", "HEAD")
        return {"commit": digest.strip(), "dirty": bool(_git(project, "status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def commit_in_words(found: Mapping[str, Any] | None) -> str:
    """What :func:`commit` found, for people."""
    if not found:
        return "no commit is known"
    return f"{str(found['commit'])[:10]}{', with changes' if found.get('dirty') else ''}"


def _git(project: Path, *arguments: str) -> str:
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def device_name(device: str) -> str:
    """What the device calls itself: the GPU's name, or the processor's."""
    if device != "cpu":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"cpu: {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
