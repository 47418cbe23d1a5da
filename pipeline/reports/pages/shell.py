"""Pages of one file: a template filled and written, with its style and pictures inside. Only this imports jinja2."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import densereid
from densereid.data_catalog.files.atomic import write_bytes

_TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **values: object) -> Path:
    """Fill ``template``, a name in ``templates/``, and write it to ``path``, whole or not at all; the path.

    A template extends ``page.html``, which says what it has to set. Text is escaped; only what a template marks as
    ``safe`` is not, which are the figures of :func:`densereid.pipeline.reports.pages.drawing.inline_svg`. Raises
    OSError where the file cannot be written.
    """
    write_bytes(path, page_text(template, **values).encode())
    return path


def page_text(template: str, **values: object) -> str:
    """The HTML of a page. Raises jinja2.UndefinedError where the template names a value that it was not given."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent}
    return environment.get_template(template).render(version=densereid.__version__, **values)


def _percent(value: float) -> str:
    """0.7143 as 71.4."""
    return f"{100 * value:.1f}"
