"""Which module may import what: ours win over strangers, heavy libraries live in one module each."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Set
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "preprocess", "train", "data_catalog")
ONE_PACKAGE_EACH = {
    "zarr": "data_catalog/store",
    "tensorstore": "data_catalog/store",
    "numcodecs": "data_catalog/store/shards",
    "h5py": "data_catalog",
    "fsspec": "data_catalog/files",
    "scipy": "data_catalog/files/matlab",
    "numba": "preprocess/semantics",
    "requests": "preprocess/densepose",
    "dask": "pipeline/commands",
    "distributed": "pipeline",
    "psutil": "train/data",
    "pydantic": "train/config",
    "tensorboard": "train/engine",
    "timm": "train/networks",
    "matplotlib": "pipeline/reports",
    "jinja2": "pipeline/reports/pages",
    "onnxruntime": "train/deployment",
    "detectron2": "preprocess/densepose",
    "densepose": "preprocess/densepose",
    "anny": "preprocess/embedded_training/anny",
}
"""The innermost folder that holds every import of a heavy library."""


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def imported_by(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return frozenset(names)


def parts_of(names: Set[str]) -> set[str]:
    # torch.utils.tensorboard is tensorboard by another name
    strangers = {name for name in names if not name.startswith("densereid.")}
    return {part for name in strangers for part in name.split(".")[:3]}


@pytest.mark.parametrize("library", sorted(ONE_PACKAGE_EACH))
def test_a_heavy_library_is_imported_in_one_package(library: str) -> None:
    users = [path.parent for path in sources(*PACKAGES) if library in parts_of(imported_by(path))]
    assert Path(os.path.commonpath(users)) == ROOT / ONE_PACKAGE_EACH[library]


def test_nothing_imports_a_folder_by_its_bare_name() -> None:
    """``train.x`` beside ``densereid.train.x`` would be two copies of one module."""
    everything = {path: imported_by(path) for path in sources(*PACKAGES, "densereid", "tests", "bench")}
    assert len(everything) > 200
    bare = {path: [name for name in names if name.split(".")[0] in PACKAGES] for path, names in everything.items()}
    assert {path: names for path, names in bare.items() if names} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_import_name_reaches_the_folders_at_the_root(package: str) -> None:
    code = f"import densereid.{package} as package; print(package.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).resolve() == ROOT / package / "__init__.py"


def test_the_catalog_opens_a_store_without_torch(stores: dict[str, Path]) -> None:
    code = (
        "import sys; from densereid.data_catalog.store.store import open_store; "
        f"open_store({str(stores['zarr'])!r}).read('mask'); "
        "print([name for name in ('torch', 'dask', 'click') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_numba_waits_until_something_is_derived() -> None:
    modules = "densereid.pipeline.cli, densereid.pipeline.stores, densereid.preprocess.writing.verify"
    code = f"import sys, {modules}; print('numba' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False"


def test_conda_has_the_same_pins_as_pip() -> None:
    """One requirement, one bound: environment.yml repeats pyproject.toml's, under conda's names."""
    conda_names = {"torch": "pytorch", "dask[array]": "dask-core", "matplotlib": "matplotlib-base"}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    listed = [entry for entry in environment if isinstance(entry, str)] + environment[-1]["pip"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        name, bound = requirement.split(">=")
        assert f"{conda_names.get(name, name)}>={bound}" in listed
