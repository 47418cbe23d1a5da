"""What this machine has and lacks: versions, devices, disk, datasets, estimators; each lack with its remedy."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from rich import filesize
from rich.table import Table

from densereid.data_catalog.datasets.lookup import locate
from densereid.data_catalog.datasets.specs import known_datasets
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath, UrlPath, free_bytes, nearest_folder
from densereid.pipeline.estimators import AUTO_RULE
from densereid.pipeline.settings import defaults, resolve_device
from densereid.preprocess.densepose.detectron2_network import installed_versions, missing
from densereid.preprocess.densepose.zoo import NAMES_IN_WORDS, ZOO, cache_folder
from densereid.preprocess.embedded.weights import SHA256, WEIGHTS, read_metadata, read_weights
from densereid.preprocess.estimators.detectron2 import DENSEPOSE_GUIDE, GUIDE


@dataclass(frozen=True)
class Finding:
    """One thing looked at: is it there, what was found, and what to do where it is wanted and is not."""

    name: str
    is_there: bool
    found: str
    remedy: str = ""


def findings(data_root: Path, store_root: AnyPath) -> Iterator[Finding]:
    """Everything that decides what can be run here."""
    yield Finding("Python", True, platform.python_version())
    yield from _packages()
    device, why = resolve_device("auto")
    yield Finding("GPU", device != "cpu", why, "" if device != "cpu" else "everything runs on the CPU, slower")
    yield _disk(store_root)
    yield from _estimators()
    for name, spec in known_datasets().items():
        root = locate(spec, data_root)
        found, remedy = (str(root), "") if root else (f"not under {data_root}", spec.obtain)
        yield Finding(f"dataset {name}", root is not None, found, remedy)


def _packages() -> Iterator[Finding]:
    wanted = [text for text in requires("densereid") or [] if "extra ==" not in text]
    for requirement in sorted(wanted):
        name = requirement.split(">")[0].split("[")[0].strip()
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, "not installed", "make clean-env, then make again; or pip install --editable .")


def _disk(store_root: AnyPath) -> Finding:
    free = free_bytes(store_root)
    if free is None or isinstance(store_root, UrlPath):
        return Finding("free disk", True, f"stores are kept at {store_root}, whose free space is not known")
    existing = nearest_folder(store_root)
    needed = "Market-1501 takes about 4 GB as a store at 256x128"
    return Finding("free disk", free > 4e9, f"{filesize.decimal(free)} at {existing}", "" if free > 4e9 else needed)


def _estimators() -> Iterator[Finding]:
    yield Finding("ESTIMATOR=auto", True, AUTO_RULE.removeprefix("auto = "))
    yield Finding("ESTIMATOR=densepose", True, "needs nothing but weights")
    yield _embedded()
    reason = missing()
    if reason is None:
        versions = ", ".join(f"{name} {number}" for name, number in installed_versions().items())
        yield Finding("Detectron2 and DensePose", True, versions or "importable")
    else:
        remedy = f"not needed for ESTIMATOR=densepose; guides: {GUIDE} and {DENSEPOSE_GUIDE}"
        yield Finding("Detectron2 and DensePose", False, reason, remedy)
    for name, entry in ZOO.items():
        here = entry.cached.is_file()
        if not here and name != defaults().weights:
            continue
        remedy = "" if here else f"downloaded on first use; offline: put {entry.url} at {entry.cached}"
        yield Finding(f"weights {name}", here, str(entry.cached) if here else f"not in {cache_folder()}", remedy)
    yield Finding("WEIGHTS", True, NAMES_IN_WORDS)


def _embedded() -> Finding:
    try:
        read_weights(WEIGHTS, SHA256)
    except UserError as error:
        return Finding("ESTIMATOR=embedded", False, error.problem, error.remedy)
    scores = read_metadata(WEIGHTS)["scores"]
    found = ", ".join(f"{maker} {each['mask_iou']:.2f}" for maker, each in scores.items())
    return Finding("ESTIMATOR=embedded", True, f"{WEIGHTS}; mean IoU of the seven parts on rendered people: {found}")


def findings_table(found: list[Finding]) -> Table:
    """One row a finding."""
    table = Table(title="what this machine has", title_justify="left")
    for column in ("", "", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in found:
        table.add_row("yes" if finding.is_there else "no", finding.name, finding.found, finding.remedy)
    return table
