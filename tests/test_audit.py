"""make audit: what fails, what is only printed, and what is said without a network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from email.message import Message
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from helpers import ROOT


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, **headers: str) -> Any:
    metadata = Message()
    for key, value in {"Name": name, **headers}.items():
        metadata[key.replace("_", "-")] = value
    return SimpleNamespace(metadata=metadata, version="1.0")


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"License_Expression": "Apache-2.0 OR BSD-3-Clause"}, True),
        ({"License_Expression": "GPL-3.0-only OR MIT"}, True),
        ({"License_Expression": "GPL-3.0-only AND MIT"}, False),
        ({"Classifier": "License :: OSI Approved :: MIT License", "License": "Copyright"}, True),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, False),
        ({"License": "BSD\nRedistribution and use"}, True),
        ({"License": "ask us"}, False),
        ({}, False),
    ],
)
def test_only_licences_that_may_be_passed_on_pass(audit: ModuleType, headers: dict[str, str], passes: bool) -> None:
    assert (not list(audit.licence_problems(package("thing", **headers)))) == passes


def hole(name: str, *fixes: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": list(fixes), **more}]}


def test_a_hole_fails_only_where_a_version_without_it_may_be_installed(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(*answer: dict[str, Any]) -> list[str]:
        return list(audit.findings(list(answer), {"pyyaml"}))

    assert found(hole("pyyaml", "99.0")) == ["pyyaml 1.0 has PYSEC-1; install 99.0"]
    assert found(hole("pyyaml"), hole("pyyaml", "1.0")) == []  # no version at all, and one below our bound
    assert capsys.readouterr().out == "AUDIT: pyyaml 1.0 has PYSEC-1; no version to go to\n" * 2
    assert found(hole("pytest", "99.0")) == []
    assert capsys.readouterr().out == "AUDIT: pytest 1.0 has PYSEC-1; a tool, not part of the program\n"
    monkeypatch.setitem(audit.PROJECT["tool"]["audit"], "accepted", ["CVE-1"])
    assert found(hole("pyyaml", "99.0", aliases=["CVE-1"])) == []
    assert capsys.readouterr().out == "audit: pyyaml 1.0 has PYSEC-1, which pyproject.toml accepts\n"
    assert found({"name": "pyyaml", "skip_reason": "not found on PyPI"}) == []
    assert "audit: the vulnerability database was not reachable: it knows none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import time; time.sleep(60)", "no answer within 1 seconds"),
        ("raise SystemExit('no name resolution')", "no name resolution"),
        ("", "no answer"),
    ],
)
def test_without_a_network_one_line_says_so(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: str, words: str
) -> None:
    run = subprocess.run
    monkeypatch.setattr(audit, "SECONDS", 1)
    monkeypatch.setattr(audit.subprocess, "run", lambda _, **rest: run([sys.executable, "-c", code], **rest))
    assert list(audit.vulnerabilities({"numpy"})) == []
    assert capsys.readouterr().out == f"audit: the vulnerability database was not reachable: {words}\n"


def test_a_package_outside_its_bounds_is_named(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_failure", lambda *_: iter(()))
    monkeypatch.setitem(audit.PROJECT["project"], "dependencies", ["numpy>=99", "no-such-thing>=1", "click>=8"])
    old, absent = audit.bounds()
    assert old.startswith("numpy>=99 is declared, 2.")
    assert absent == "no-such-thing>=1 is declared, none is installed"
