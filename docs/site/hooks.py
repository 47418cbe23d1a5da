"""What MkDocs does besides: pages that lie outside docs/, and links to files of the repository.

The site stands on its own, wherever it is served: a link to a source file leads to a copy of it inside the site.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/RESULTS.md": "measurements.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the site that lie elsewhere in the repository."""

_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """The page with links to pages of the site, and to copies of the other files of the repository."""
    uri = page.file.src_uri
    own = next((source for source, name in PAGES.items() if name == uri), f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        target = (ROOT / own).parent / match[2]
        if "://" in match[2] or not target.is_file():
            return match[0]  # MkDocs reports a link to nothing
        return f"{match[1]}{_inside(target.resolve().relative_to(ROOT), config, files)}{match[3]}"

    return _LINK.sub(link, markdown)


def _inside(path: Path, config: Any, files: Files) -> str:
    """Where a file of the repository is in the site; all pages lie in the site's root."""
    name = path.as_posix()
    if name in PAGES:
        return PAGES[name]
    if path.is_relative_to("docs"):
        return path.relative_to("docs").as_posix()
    copy = str(PurePosixPath("source") / f"{name}.txt")
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, abs_src_path=str(ROOT / path)))
    return copy
