"""The packages that the questions need beyond torch, torchvision and timm, and how a machine without network gets them.

pyproject.toml's dependencies are the list; what these need in turn is read from what is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from bench.gpu_questions.context import ROOT

GIVEN = ("torch", "torchvision", "timm", "safetensors")
"""What the machine has by itself, with all that these need."""

TESTS = ("pytest", "pytest-timeout", "hypothesis")
"""Of the optional dependencies, what the tests marked gpu need."""

TARGET_PYTHON = "3.12"

_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")

Find = Callable[[str], Distribution | None]


def project_requirements(project: Path = ROOT / "pyproject.toml") -> list[str]:
    """The project's dependencies and those of its tests, as pyproject.toml states them."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    from packaging.requirements import Requirement

    tests = [text for text in table["optional-dependencies"]["dev"] if Requirement(text).name in TESTS]
    return [*table["dependencies"], *tests]


def installed(name: str) -> Distribution | None:
    """The distribution of that name, if this Python has it."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def needed(requirements: Iterable[str], find: Find = installed, python: str | None = None) -> dict[str, str]:
    """By package name what ``requirements`` lead to, all bounds together (``click>=8.1,>=8.2``), without :data:`GIVEN`.

    What an absent package needs is not known, so only a machine that has them all gives the whole list. ``python`` is
    the version that markers are read for, this one's unless it is given.
    """
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    environment = {} if python is None else {"python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, SpecifierSet] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop(0)
        name, marker = canonicalize_name(requirement.name), requirement.marker
        if name in GIVEN or not (marker is None or marker.evaluate({**environment, "extra": extra})):
            continue
        found[name] = found.get(name, SpecifierSet()) & requirement.specifier
        if (name, *requirement.extras) not in seen:
            seen.add((name, *requirement.extras))
            needs = getattr(find(name), "requires", None) or []
            waiting += [(Requirement(text), wanted) for text in needs for wanted in ("", *requirement.extras)]
    return {name: f"{name}{bounds}" for name, bounds in found.items()}


def absent(requirements: Mapping[str, str], find: Find = installed) -> list[str]:
    """Those of :func:`needed` that are not installed, or in another version than is asked for."""
    from packaging.requirements import Requirement

    missing = []
    for name, text in requirements.items():
        package = find(name)
        if package is None or not Requirement(text).specifier.contains(package.version, prereleases=True):
            missing.append(text)
    return sorted(missing)


def download_line(requirements: Iterable[str], python: str = TARGET_PYTHON) -> str:
    """The command that fetches these, and nothing that they need, as wheels for x86-64 Linux."""
    platforms = " ".join(f"--platform {name}_x86_64" for name in _PLATFORMS)
    names = " ".join(f"'{text}'" for text in requirements)
    return (
        f"python3 -m pip download --no-deps --only-binary=:all: --python-version {python} --implementation cp "
        f"{platforms} --dest wheels {names}"
    )


def install(wheels: Path, target: Path) -> str:
    """Put the wheels of a folder into ``target``, without network; a sentence about it."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        return f"No package was installed: there is no .whl file in {wheels}."
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--upgrade", "--target", str(target)]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"The wheels of {wheels} were not installed: {done.stderr.strip()[-500:]}"
    return f"{len(files)} wheels of {wheels} were installed."


def missing_sentence() -> str:
    """Which packages this Python lacks and how to get them, or that it lacks none."""
    try:
        missing = absent(needed(project_requirements()))
    except ImportError:
        return "Which packages are missing cannot be said: the package 'packaging' is missing."
    if not missing:
        return "No package is missing."
    names = ", ".join(missing)
    return (
        f"Missing packages: {names}. Fetch them where there is a network and name the folder with --wheels: "
        f"{download_line(missing)} (and what these need: --packages prints all, on a machine that has them)"
    )


def whole_line(present: Iterable[str]) -> str:
    """The download command for a machine that has, beside :data:`GIVEN`, what the lines of ``present`` name.

    NAME==VERSION counts where the version will do, NAME alone always. What is fetched has the versions of this machine:
    a newer one may need what this one does not.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    words = [word.partition("==") for line in present for word in line.replace(",", " ").split()]
    there = {str(canonicalize_name(name)): version for name, _, version in words}
    fetched = []
    for name, text in sorted(needed(project_requirements(), python=TARGET_PYTHON).items()):
        here, version = installed(name), there.get(name)
        if version is None or (version and not Requirement(text).specifier.contains(version, prereleases=True)):
            fetched.append(f"{name}=={here.version}" if here else text)
            if here is None:
                print(f"Not whole: what {name} needs is not known, since it is not installed here.", file=sys.stderr)
    return download_line(fetched)


def search_path(target: Path) -> str:
    """PYTHONPATH for steps: the checkout, the installed wheels, and what was there."""
    paths = [str(ROOT), str(target), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(path for path in paths if path)
