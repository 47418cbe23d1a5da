"""What the project depends on: declared, in its bounds, of licences that may be passed on, without known holes.

``make audit`` runs it. Whatever needs no network is always done. The last part asks PyPI's database of known
vulnerabilities; where that cannot be reached it says so and is no failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SECONDS = 180
"""For the database to answer for all packages; a network that drops what it is sent would keep us for ever."""

_ALLOWED = re.compile(
    r"MIT|BSD|Apache|PSF|Python Software Foundation|MPL|Mozilla|ISC|Zlib|zlib|CC0|BSL-1\.0|HPND|LLVM|Unlicense|NVIDIA"
)
"""Licences under which a program that imports the package may be passed on; CUDA's libraries come with torch."""


def main() -> int:
    """Print every problem under the name of its check; 1 where there is any."""
    known = runtime()
    checks = {
        "imports": imports(),
        "bounds": bounds(),
        "licences": (problem for package in known.values() for problem in licence_problems(package)),
        "vulnerabilities": vulnerabilities(set(known)),
    }
    failed = False
    for name, problems in checks.items():
        found = list(problems)
        failed |= bool(found)
        print(f"audit, {name}: {'; '.join(found) if found else 'no failure'}", flush=True)
    return int(failed)


def imports() -> Iterator[str]:
    """Packages that are imported and not declared, or declared and not imported, as deptry says it."""
    yield from _failure("deptry", "--no-ansi", *("pipeline", "preprocess", "train", "data_catalog"))


def bounds() -> Iterator[str]:
    """Declared packages that are not installed as declared, and what pip finds of the others."""
    for requirement in declared():
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            version = ""
        if not requirement.specifier.contains(version or "0", prereleases=True):
            yield f"{requirement} is declared, {version or 'none'} is installed"
    yield from _failure("pip", "--disable-pip-version-check", "check")


def _failure(module: str, *words: str) -> Iterator[str]:
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        yield f"{module} says:\n{done.stdout}{done.stderr}".rstrip()


def declared(*extras: str) -> list[Requirement]:
    """The requirements of pyproject.toml, with those of optional groups."""
    project = PROJECT["project"]
    groups = (project["optional-dependencies"][extra] for extra in extras)
    return [Requirement(line) for lines in (project["dependencies"], *groups) for line in lines]


def runtime() -> dict[str, Distribution]:
    """The installed packages, by name, that the declared ones need, and those that they need."""
    found: dict[str, Distribution] = {}
    wanted = declared()
    while wanted:
        name = canonicalize_name(wanted.pop().name)
        try:
            package = found.get(name) or distribution(name)
        except PackageNotFoundError:  # of another system
            continue
        if name not in found:
            found[name] = package
            wanted += requirements_of(package)
    return found


def requirements_of(package: Distribution) -> list[Requirement]:
    """What a package needs here, without its extras."""
    needed = map(Requirement, package.requires or [])
    return [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]


def licence_problems(package: Distribution) -> Iterator[str]:
    """A sentence where a package's licence is unknown, or is none of those that may be passed on."""
    name = canonicalize_name(package.metadata["Name"])
    said = "NVIDIA" if name.startswith("nvidia-") else licence_of(package.metadata)  # CUDA, in many words
    licence = PROJECT["tool"]["audit"]["licences"].get(name, said)
    ways = re.split(r"\s+OR\s+", licence)
    if not any(all(map(_ALLOWED.search, re.split(r"\s+(?:AND|WITH)\s+", way))) for way in ways):
        yield f"{name} {package.version} has the licence {licence or 'unknown'!r}"


def licence_of(metadata: Any) -> str:
    """What a package says of its licence: as an expression, in its classifiers, or in the first line of a text."""
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or [] if "License ::" in text]
    text = (metadata.get("License") or "").strip().splitlines()
    return metadata.get("License-Expression") or " AND ".join(classifiers) or (text[0] if text else "")


def vulnerabilities(runtime_names: set[str]) -> Iterator[str]:
    """Holes that a newer version closes, which every bound allows. All others are printed, and are no failure."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--timeout=15"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        answer = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"audit: the vulnerability database was not reachable: no answer within {SECONDS} seconds")
        return
    except ValueError:
        said = done.stderr.strip().splitlines() or ["no answer"]
        print(f"audit: the vulnerability database was not reachable: {said[-1][:200]}")
        return
    yield from findings(answer, runtime_names)


def findings(answer: list[Mapping[str, Any]], runtime_names: set[str]) -> Iterator[str]:
    """What pip-audit's answer means for us."""
    asked = [package for package in answer if "vulns" in package]
    if not asked:
        print("audit: the vulnerability database was not reachable: it knows none of the installed packages")
    for package in asked:
        for hole in package["vulns"]:
            fixed = [version for version in hole["fix_versions"] if is_allowed(package["name"], version)]
            words = f"{package['name']} {package['version']} has {hole['id']}"
            if {hole["id"], *hole.get("aliases", [])} & set(PROJECT["tool"]["audit"]["accepted"]):
                print(f"audit: {words}, which pyproject.toml accepts")
            elif fixed and canonicalize_name(package["name"]) in runtime_names:
                yield f"{words}; install {' or '.join(fixed)}"
            else:
                print(f"AUDIT: {words}; {'a tool, not part of the program' if fixed else 'no version to go to'}")


def is_allowed(name: str, version: str) -> bool:
    """Whether our own bounds and those of every installed package allow a version of another."""
    needed = [*declared("docs", "dev"), *(each for package in distributions() for each in requirements_of(package))]
    same = [each for each in needed if canonicalize_name(each.name) == canonicalize_name(name)]
    return all(each.specifier.contains(version) for each in same)


if __name__ == "__main__":
    sys.exit(main())
