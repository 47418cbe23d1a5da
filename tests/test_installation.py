"""The installed package: a wheel with each file once, that works beside a user's own train.py and pipeline.py."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from helpers import ROOT

import densereid
from densereid.data_catalog.store.store import open_store

FOLDERS = ("pipeline", "preprocess", "train", "data_catalog")


def why_not() -> str | None:
    """What is missing for building a wheel without a network."""
    try:
        setuptools = version("setuptools")
    except PackageNotFoundError:
        return "setuptools is not installed, so no wheel can be built offline"
    if int(setuptools.split(".")[0]) < 77:
        return f"setuptools {setuptools} is too old to build the wheel: 77 is needed"
    if importlib.util.find_spec("pip") is None:
        return "pip is not installed, so no wheel can be built"
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return "this is not a git checkout, so the project's files cannot be told from others"
    return None


REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def tracked() -> list[str]:
    """The project's files as git has them, links included."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and os.path.lexists(ROOT / name)]


def pip(*words: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves build/ and egg-info where it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "source" / name, follow_symlinks=False)
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package alone; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A working folder with a user's own files, each of which leaves a trace when it is imported, and breaks."""
    for name in (*FOLDERS, "data"):
        (tmp_path / f"{name}.py").write_text(f"open('imported-{name}', 'w').close()\nraise RuntimeError('{name}.py')\n")
    return tmp_path


def installed(site: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command of the installed package in ``folder``; the checkout is not on its path."""
    return subprocess.run(
        list(map(str, words)), cwd=folder, env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


def in_one_process(site: Path, folder: Path, *commands: tuple[object, ...]) -> str:
    """What several commands of the installed package print, the start of Python and torch paid once."""
    program = "from densereid.pipeline.cli.group import cli\n" + "".join(
        f"cli.main({list(map(str, words))}, standalone_mode=False)\n" for words in commands
    )
    result = installed(site, folder, sys.executable, "-c", program)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_has_each_file_once_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = Counter(name for name in archive.namelist() if ".dist-info/" not in name)
    expected = {f"densereid/{name}" for name in tracked() if name.split("/")[0] in FOLDERS}
    expected |= {name for name in tracked() if name.startswith("densereid/") and name.endswith((".py", "py.typed"))}
    assert {Path(name).suffix for name in expected} == {".py", ".yaml", ".safetensors", ".html", ".css", ".typed"}
    assert names == Counter(expected)


def test_the_installed_commands_say_the_version(site: Path, users_folder: Path) -> None:
    for command in ([site / "bin" / "densereid"], [sys.executable, "-m", "densereid"]):
        result = installed(site, users_folder, *command, "--version")
        assert result.stdout == f"densereid, version {densereid.__version__}\n", result.stderr
    place = installed(site, users_folder, sys.executable, "-c", "import densereid; print(densereid.__file__)")
    assert place.stdout.strip() == str(site / "densereid" / "__init__.py")
    wrong = installed(site, users_folder, site / "bin" / "densereid", "preprocess", "--dry-run")
    assert f"`{site / 'bin' / 'densereid'} synthesize` renders them" in wrong.stderr


IN_PYTHON = """
import sys
import densereid
dataset = densereid.open_dataset(sys.argv[1])
assert dataset[0]["dsap"].shape == (24, 3, 32, 32)
print(densereid.estimate_semantics(sys.argv[2:], size=(64, 32), device="cpu").has_person.all(), densereid.__file__)
"""


def test_five_lines_of_python_work_outside_the_source_tree(
    site: Path, users_folder: Path, stores: dict[str, Path], synthetic_root: Path
) -> None:
    images = sorted((synthetic_root / "synthetic" / "query").iterdir())[:2]
    (users_folder / "own.py").write_text(IN_PYTHON)
    found = installed(site, users_folder, sys.executable, "own.py", stores["zarr"], *images)
    assert found.stdout.split() == ["True", str(site / "densereid" / "__init__.py")], found.stderr
    assert list(users_folder.glob("imported-*")) == []


def test_the_installed_package_works_beside_a_users_own_files(
    site: Path, users_folder: Path, synthetic_root: Path
) -> None:
    """In its process and in a worker that it starts, which imports the main module again."""
    program = (sys.executable, "-m", "densereid")
    words = ("preprocess", "--data-root", synthetic_root, "--size", "64x32", "--shard-rows", 64, "--workers", 1)
    made = installed(site, users_folder, *program, *words)
    assert made.returncode == 0, made.stderr
    assert "2 shards, computed by 1 Dask worker" in made.stderr
    assert open_store(users_folder / made.stdout.strip()).geometry.num_samples == 77
    photographs = ("preprocess", "--dataset", "folder", "--data-root", synthetic_root / "synthetic" / "query")
    listed, described, preprocessed = ("catalog", "list"), ("describe", "magnifiernet-v1-small"), (
        *photographs, "--size", "64x32", "--store-root", "photographs",
    )  # fmt: skip
    printed = in_one_process(site, users_folder, listed, described, preprocessed)
    assert "Market-1501: not under data" in printed
    store = users_folder / printed.splitlines()[-1]
    assert open_store(store).attributes["estimator"]["name"] == "embedded"
    assert list(users_folder.glob("imported-*")) == []
