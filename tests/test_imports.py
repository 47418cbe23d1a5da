"""Which module may import what: ours win over strangers, heavy libraries live in one module each."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "preprocess", "train", "data_catalog")
ONE_MODULE_EACH = {
    "zarr": "data_catalog/store/zarr_format.py",
    "tensorstore": "data_catalog/store/zarr_format.py",
    "numcodecs": "data_catalog/store/zarr_shards.py",
    "google_crc32c": "data_catalog/store/zarr_shards.py",
    "fsspec": "data_catalog/files/paths.py",
    "h5py": "data_catalog/store/hdf5_format.py",
    "scipy": "data_catalog/files/matlab.py",
    "numba": "preprocess/semantics/warp_cpu.py",
    "dask": "pipeline/commands/visibility.py",
    "distributed": "pipeline/dask_cluster.py",
    "tensorboard": "train/engine/tracking.py",
    "timm": "train/networks/backbone.py",
    "matplotlib": "pipeline/commands/densepose_sizes.py",
    "detectron2": "preprocess/densepose/detectron2_network.py",
    "densepose": "preprocess/densepose/detectron2_network.py",
}


def imported_by(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    # torch.utils.tensorboard is tensorboard by another name
    return {part for name in names for part in name.split(".")[:3]}


@pytest.mark.parametrize("library", sorted(ONE_MODULE_EACH))
def test_a_heavy_library_is_imported_in_one_module(library: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if library in imported_by(path)
    }
    assert users == {ONE_MODULE_EACH[library]}


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_win_over_strangers(package: str) -> None:
    code = f"import {package}; print({package}.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == ROOT / package / "__init__.py"


def test_the_catalog_opens_a_store_without_torch(stores: dict[str, Path]) -> None:
    code = (
        "import sys; from densereid.data_catalog.store.store import open_store; "
        f"open_store({str(stores['zarr'])!r}).read('mask'); "
        "print([name for name in ('torch', 'dask', 'click') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_numba_waits_until_something_is_derived() -> None:
    code = "import sys, densereid.pipeline.cli, densereid.pipeline.stores, densereid.preprocess.writing.verify; print('numba' in sys.modules)"
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
