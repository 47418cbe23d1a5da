"""README and docs: every block of code runs or says why not, and what the pages name exists."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import docs_pages
import pytest
import torch
from docs_pages import PAGES, Block, Reader, blocks, check_command, commands_in, inline_code, read_page
from helpers import ROOT, as_environment

from densereid.data_catalog.plural import plural
from densereid.train.config.train_config import known_configs

LANGUAGES = {"sh", "python", "yaml", "text"}
FOLDERS = ("data_catalog/", "preprocess/", "train/", "pipeline/", "densereid/", "tests/", "bench/", "docs/")
EVERY_BLOCK = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def reader_of(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Reader]]:
    """The reader of each page. The README is read first, whole; the other pages find what it left behind."""
    base = tmp_path_factory.mktemp("docs")
    (base / "maps").mkdir()
    for path in (synthetic_root / "synthetic" / "iuv").rglob("*.png"):
        (base / "maps" / path.name).symlink_to(path)
    first = _working_folder(base / "README.md", synthetic_root)
    readers = {"README.md": Reader("README.md", first, _environment(base))}

    def reader(page: str) -> Reader:
        if page not in readers:
            readers["README.md"].read_to()
            folder = shutil.copytree(first, base / page.replace("/", "-"), symlinks=True)
            readers[page] = Reader(page, folder, _environment(base))
        return readers[page]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on two shared cores, more of them wait for each other
    yield reader
    torch.set_num_threads(threads)


def _working_folder(folder: Path, synthetic_root: Path) -> Path:
    """What a reader has: Market-1501, crops and a shop's images, here a few rendered pedestrians under their names."""
    rendered = synthetic_root / "synthetic"
    shutil.copytree(rendered, folder / "data" / "synthetic")
    shutil.copytree(rendered, folder / "runs" / "demo" / "data" / "synthetic")
    for name in ("data/Market-1501-v15.09.15", "data/shop"):
        for split in ("bounding_box_train", "query", "bounding_box_test"):
            shutil.copytree(rendered / split, folder / name / split)
    shutil.copytree(rendered / "bounding_box_train", folder / "crops")
    (folder / "maps").symlink_to(folder.parent / "maps")
    return folder


def _environment(base: Path) -> dict[str, str]:
    """The variables that make every command small: one epoch, the CPU, IUV maps instead of DensePose."""
    small = as_environment({"EPOCHS": 1, "DEVICE": "cpu", "IUV_ROOT": base / "maps"})
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    return {**outer, **small, "DENSEREID_CACHE": str(base / "cache")}


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_belongs_to_a_block_that_is_run_or_says_why_not(page: str) -> None:
    found = blocks(page)
    assert len(re.findall(r"^ *(```|~~~)", read_page(page), re.M)) == 2 * len(found)
    for block in found:
        assert block.language in LANGUAGES, block
        assert block.language != "yaml" or block.mark == "file", f"{block}: say which file it is"
        assert block.mark != "not run" or block.note, f"{block}: say why"


@pytest.mark.parametrize("block", [block for block in EVERY_BLOCK if block.language != "text"], ids=str)
def test_block(block: Block, reader_of: Callable[[str], Reader]) -> None:
    if block.language == "sh":
        for words in commands_in(block):
            check_command(words)
    if block.mark == "not run":
        pytest.skip(f"{block.page} is not run here: {block.note}")
    reader_of(block.page).read_to(block)


@pytest.mark.parametrize("page", PAGES)
def test_what_prose_names_exists(page: str) -> None:
    for code in inline_code(page):
        if code.startswith(("make ", ".venv/bin/", "densereid ")):
            check_command(shlex.split(code))
        elif re.fullmatch(r"[A-Z][A-Z_]+=\S+", code):
            docs_pages.check_variable(code)
        elif code.startswith("--set "):
            docs_pages.check_setting(code.removeprefix("--set "))
        elif code.startswith("--"):
            assert code.split()[0] in docs_pages.options(), code
        elif re.fullmatch(rf"({'|'.join(docs_pages.sections())})\.\w+(=\S+)?", code):
            docs_pages.check_setting(code)
        elif code.startswith(FOLDERS):
            _check_file(code)


def _check_file(code: str) -> None:
    """``file``, ``folder/``, ``file::symbol`` or a pattern of files in the repository."""
    name, _, symbol = code.partition("::")
    assert any(ROOT.glob(name)), code
    if symbol:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.search(rf"^(async def|def|class) {symbol}\b|^{symbol}\b.*=", text, re.M), code


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "bench/README.md", "bench/RESULTS.md"])
def test_links_lead_to_files_of_the_repository(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", read_page(page), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s#]+)", text):
        assert "://" in target or ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_generated_parts_are_what_the_code_says(page: str) -> None:
    text = read_page(page)
    assert docs_pages.GENERATED["updated"](text) == text, "run: python docs/site/generated.py"


def test_every_command_is_described_with_an_example() -> None:
    sections = re.split(r"^## ", read_page("docs/commands.md"), flags=re.M)
    described = {section.partition("\n")[0]: section for section in sections}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name, _ in docs_pages.GENERATED["commands"]():
        section = described[name]
        assert f"<!-- generated: command {name.replace(' ', '/')} -->" in section
        example = section.partition("```sh\n")[2].partition("```")[0]
        target = re.search(rf"^([\w-]+):.*\n\t@\$\(\.run\) {name}$", makefile, re.M)
        assert f".venv/bin/densereid {name}" in example or (target and f"make {target[1]}" in example), name


def test_every_experiment_is_in_the_table_of_models() -> None:
    named = set(inline_code("docs/models.md"))
    assert {name for name in known_configs() if name.removesuffix("-small") not in named and name not in named} == set()


def _text_of(part: ast.AST) -> object:
    """A constant's value, □ for another part of an f-string, and ``□ images`` for ``plural(number, "image")``."""
    if isinstance(part, ast.Constant):
        return part.value
    filled = part.value if isinstance(part, ast.FormattedValue) else None
    if (
        isinstance(filled, ast.Call)
        and ast.unparse(filled.func) == "plural"
        and isinstance(filled.args[1], ast.Constant)
    ):
        return plural(2, str(filled.args[1].value)).replace("2", "□")
    return "□"


@cache
def _texts_of_the_source() -> str:
    """Every text in the source but docstrings, a line each, with the sign □ for what an f-string fills in."""
    found = []
    for path in (path for folder in FOLDERS[:4] for path in (ROOT / folder).rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
        for node in (node for node in nodes if node not in docstrings):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [_text_of(part) for part in parts]
            if all(isinstance(text, str) for text in texts) and texts != ["□"]:
                found.append("".join(map(str, texts)).replace("\n", " ").strip())
    return "\n".join(found)


@pytest.mark.parametrize("message", re.findall(r"^- `(.*)`$", read_page("docs/troubleshooting.md"), re.M))
def test_a_message_of_the_troubleshooting_page_is_one_of_the_code(message: str) -> None:
    """Words in capitals stand for what differs, unless they are names of variables."""
    words = re.split(r"('?(?<!\w)[A-Z]{3,}(?:x[A-Z]+)?(?![\w=])'?)", message)
    fixed = docs_pages.make_variables()
    pattern = "".join(re.escape(word) if index % 2 == 0 or word in fixed else ".+?" for index, word in enumerate(words))
    assert len(re.findall(r"[a-z]{2,}", message)) > 1 or fixed & set(words), "too little to recognise it by"
    assert re.search(f"^{pattern}", _texts_of_the_source(), re.M), message


# The site


class _Assets(HTMLParser):
    """Addresses that a browser loads by itself with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        loaded = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}.get(tag)
        self.found += [values[loaded] or ""] if loaded in values else []


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install --editable .[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    pages = sorted((tmp_path / "site").glob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        assets = _Assets()
        assets.feed(page.read_text(encoding="utf-8"))
        assert assets.found
        assert not [asset for asset in assets.found if "//" in asset], page.name
    assert (tmp_path / "site" / "source" / "data_catalog" / "datasets" / "catalog.yaml.txt").is_file()
