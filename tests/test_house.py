"""The house rules that a machine can check: sizes, names, imports, and nothing read before it is asked for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from helpers import ROOT

PACKAGES = ("pipeline", "preprocess", "train", "data_catalog")
FILES_IN_A_FOLDER = 12
LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 34
"""With its docstring. The aim is 25; no function may be longer than the longest that there was."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> list[Path]:
    folders = [sorted((ROOT / package).rglob("*.py")) for package in PACKAGES]
    return [*sorted((ROOT / "densereid").glob("*.py")), *(path for paths in folders for path in paths)]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def test_there_is_something_to_check() -> None:
    assert len(modules()) > 120
    assert sum(1 for path in modules() for _ in functions(tree_of(path))) > 900


def test_a_folder_has_few_files() -> None:
    folders = [folder for package in (*PACKAGES, "bench") for folder in [ROOT / package, *(ROOT / package).rglob("*")]]
    counts = {
        name_of(folder): sum(
            file.suffix in (".py", ".yaml") and file.name != "__init__.py" for file in folder.iterdir()
        )
        for folder in folders
        if folder.is_dir()
    }
    assert {name: count for name, count in counts.items() if count > FILES_IN_A_FOLDER} == {}


def test_a_file_is_short() -> None:
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_FILE} == {}


def test_a_function_is_short() -> None:
    lines = {
        f"{name_of(path)}::{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in modules()
        for function in functions(tree_of(path))
    }
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_FUNCTION} == {}


def protocol_members() -> set[str]:
    classes = (node for path in modules() for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef))
    protocols = (node for node in classes if any(ast.unparse(base).startswith("Protocol") for base in node.bases))
    return {function.name for node in protocols for function in functions(node)}


def test_a_public_name_is_defined_once() -> None:
    """Functions and classes of all modules; two modules that implement one protocol share its members' names."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in tree_of(path).body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name_of(path))
    assert len(places) > 400
    doubled = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in doubled.items() if name not in protocol_members()} == {}


def test_a_function_says_which_arguments_it_takes() -> None:
    """``**request: Any`` hides them from mypy. Commands may, whose options click collects, and methods that extend a
    library's class, whose arguments are the library's."""
    methods = {
        id(function) for path in modules() for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)
        for function in node.body
    }  # fmt: skip
    untyped = [
        f"{name_of(path)}::{function.name}"
        for path in modules()
        for function in functions(tree_of(path))
        if function.args.kwarg is not None
        and function.args.kwarg.annotation is not None
        and ast.unparse(function.args.kwarg.annotation) == "Any"
        and id(function) not in methods
    ]
    assert [name for name in untyped if not name.startswith("pipeline/cli/")] == []


def test_no_test_file_imports_another() -> None:
    files = sorted((ROOT / "tests").glob("*.py"))
    assert len(files) > 60
    imported = {
        path.name: [
            name
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
            if name.split(".")[-1].startswith("test_")
        ]
        for path in files
    }
    assert {file: names for file, names in imported.items() if names} == {}


_IMPORT_EVERYTHING = """
import importlib, os, pkgutil, sys
folders = [os.path.realpath(folder) + os.sep for folder in sys.argv[1:]]
module, opened, imported = None, [], 0

def record(event, arguments):
    if event != "open" or not isinstance(arguments[0], (str, bytes)):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    code = path.endswith((".py", ".pyc", ".so")) or "__pycache__" in path  # numba keeps compiled code there
    if path.startswith(tuple(folders)) and not code:
        opened.append(f"{module} reads {path}")

sys.addaudithook(record)
import densereid
for entry in pkgutil.walk_packages(densereid.__path__, "densereid."):
    module = entry.name
    if not module.endswith("__main__"):
        importlib.import_module(module)
        imported += 1
print(imported, *opened, sep="\\n")
"""


def test_nothing_is_read_at_import() -> None:
    """No YAML of datasets, defaults, tables or experiments: what is never used costs nothing."""
    command = [sys.executable, "-c", _IMPORT_EVERYTHING, *(str(ROOT / package) for package in PACKAGES)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported, *opened = result.stdout.splitlines()
    assert int(imported) > 120
    assert opened == []


def test_no_message_advises_to_delete_a_store() -> None:
    """What looks damaged or foreign may be all that somebody has: it is moved away."""
    advice = re.compile(r"(?:delete|remove) (?:the|that|this|a)(?: \w+)? store|delete it\b(?! to start)", re.IGNORECASE)
    texts = [
        (f"{name_of(path)}:{node.lineno}", node.value)
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [(place, text) for place, text in texts if advice.search(text)] == []
