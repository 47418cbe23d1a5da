"""The frame of reports: one file that opens from disk, its figures and pictures inside, its text escaped."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from densereid.pipeline.reports.contact_sheet import LABEL_COLOURS
from densereid.pipeline.reports.pages.drawing import INK, SERIES, add_legend, inline_svg, new_figure, styled_axes
from densereid.pipeline.reports.pages.pictures import image_url, mask_url
from densereid.pipeline.reports.pages.shell import page_text, write_page


def opened(url: str, kind: str) -> Image.Image:
    start = f"data:image/{kind};base64,"
    assert url.startswith(start)
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix(start))))


def test_a_page_is_one_file_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    sections = [("first", "<First>")]
    path = write_page(tmp_path / "new" / "page.html", "page.html", title="a <b> & c", sections=sections)
    text = path.read_text(encoding="utf-8")
    assert "<title>a &lt;b&gt; &amp; c</title>" in text
    assert '<a href="#first">&lt;First&gt;</a>' in text
    assert "prefers-color-scheme: dark" in text  # the style is inside
    assert re.findall(r'(?:src|href)="(?!#|data:)', text) == []
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_a_value_that_a_template_lacks_is_no_empty_place() -> None:
    with pytest.raises(UndefinedError, match="sections"):
        page_text("page.html", title="a page")


def test_figures_take_the_colours_of_the_page_and_are_the_same_each_time() -> None:
    def drawn() -> str:
        figure = new_figure()
        axes = styled_axes(figure, xlabel="rank", title="a < b")
        axes.plot([1, 2, 3], [0.1, 0.5, 0.4], color=SERIES[1], marker="o")
        axes.plot([1, 3], [0.2, 0.2], color=INK, label="a$b$c")
        add_legend(figure)
        return inline_svg(figure, "a line")

    svg = drawn()
    assert svg == drawn()
    assert svg.startswith("<svg ")
    assert 'aria-label="a line"' in svg
    assert "var(--series-2)" in svg
    assert "var(--ink)" in svg
    assert "#010" not in svg
    assert "a &lt; b" in svg
    assert ">a$b$c<" in svg  # a name, no formula
    assert "xlink:href" in svg
    assert "metadata" not in svg
    assert "ns0" not in svg


def test_pictures_are_data_urls_of_at_most_the_height() -> None:
    generator = np.random.default_rng(0)
    image = np.broadcast_to(generator.integers(0, 256, (1, 1, 3), np.uint8), (256, 128, 3))
    shown = opened(image_url(image), "jpeg")
    assert shown.size == (64, 128)
    assert np.abs(np.asarray(shown).astype(int) - image[0, 0]).max() <= 4
    assert opened(image_url(image[:100, :40]), "jpeg").size == (40, 100)


def test_a_mask_is_its_colours_over_clear_background() -> None:
    mask = np.arange(8, dtype=np.uint8).repeat(4).reshape(8, 4)
    shown = np.asarray(opened(mask_url(mask), "png").convert("RGBA"))
    assert shown.shape == (8, 4, 4)
    assert (shown[1:, :, :3] == LABEL_COLOURS[1:, None]).all()
    assert (shown[0, :, 3] == 0).all()
    assert (shown[1:, :, 3] > 100).all()
    assert opened(mask_url(np.zeros((300, 100), np.uint8)), "png").size == (34, 100)
