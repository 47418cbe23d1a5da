"""The report of a store: its numbers against a slow reference, what went wrong in words, and the page in a browser."""

from __future__ import annotations

from pathlib import Path

import browser
import numpy as np
import pytest
from helpers import failed, random_rows, run

from densereid.data_catalog.store.schema import Geometry, Split, Status
from densereid.data_catalog.store.store import create_store, open_store, write_shard
from densereid.pipeline.reports.pages.stores.findings import read_store
from densereid.pipeline.reports.pages.stores.page import write_store_page

GEOMETRY = Geometry(40, 20, 10, dsap_size=8, shard_rows=32)


@pytest.fixture
def troubled(tmp_path: Path) -> Path:
    """A store in which two images failed and one has no person; its estimator gives no score, its names are odd."""
    path = tmp_path / "troubled.zarr"
    created, sharded = random_rows(GEOMETRY, "create"), random_rows(GEOMETRY, "shard")
    created["split"] = np.arange(40, dtype=np.uint8) % 3
    created["camera_id"] = np.where(np.arange(40) % 4, np.arange(40) % 4, -1).astype(np.int32)
    created["path"] = np.array([f"<b>{index}</b>.jpg" for index in range(40)], object)
    sharded["status"][:] = Status.OK
    sharded["status"][[3, 35]], sharded["status"][7] = Status.FAILED, Status.NO_PERSON
    sharded["mask"] %= 8
    sharded["mask"][7] = 0
    sharded["score"][:] = np.nan
    attributes = {"dataset": "odd", "estimator": {"name": "iuv", "iuv_order": "vui"}}
    create_store(path, format="zarr", geometry=GEOMETRY, attributes=attributes, rows=created)
    for shard, row in enumerate((3, 35)):
        rows = {name: values[GEOMETRY.shard_slice(shard)] for name, values in sharded.items()}
        notes = {"failures": [{"path": f"<b>{row}</b>.jpg", "reason": "its end <is> missing"}], "taken_whole": shard}
        write_shard(path, shard=shard, rows=rows, notes=notes)
    return path


def test_what_is_found_is_what_a_loop_finds(troubled: Path) -> None:
    store = open_store(troubled)
    found = read_store(store)
    masks, bits = store.read("mask"), np.unpackbits(store.read("dsap_valid"), axis=-1)
    for row in range(40):
        for part in range(7):
            assert found.seen[row, part] == any(value == part + 1 for value in masks[row].ravel())
        for part in range(24):
            assert found.texels[row, part] == pytest.approx(bits[row, part].sum() / 64)
    assert (found.taken_whole, len(found.failures), found.runs) == (1, 2, [])
    assert np.flatnonzero(~found.readable).tolist() == [3, 35]


def test_the_page_says_what_went_wrong_and_escapes_names(troubled: Path, tmp_path: Path) -> None:
    text = write_store_page(tmp_path / "page.html", read_store(open_store(troubled)), images=4, seed=0).read_text()
    for words in (
        "a person in 37,", "nobody in 1, 2 could not be read", "<b>iuv</b>", "<dt>its iuv order</dt><dd>vui</dd>",
        "2 images could not be read", "its end &lt;is&gt; missing", "&lt;b&gt;35&lt;/b&gt;.jpg",
        "The estimator gives none", "In 1 images its detector found no person", "unknown (",
        "camera 3 (", "Nothing is recorded",
    ):  # fmt: skip
        assert words in " ".join(text.split()), words
    assert "<b>35" not in text
    again = write_store_page(tmp_path / "again.html", read_store(open_store(troubled)), images=4, seed=0)
    assert again.read_text() == text


def test_the_command_writes_the_page_of_the_store_that_its_options_name(
    stores: dict[str, Path], synthetic_root: Path, tmp_path: Path
) -> None:
    named = {"DATA_ROOT": synthetic_root, "STORE_ROOT": stores["zarr"].parent, "SIZE": "64x32", "RUN_ROOT": tmp_path}
    result = run("report", **named)
    page = tmp_path / "reports" / "synthetic-64x32.zarr.html"
    assert result.stdout.strip() == str(page), result.stderr
    assert "opens in any browser" in result.stderr
    split = (open_store(stores["zarr"]).read("split") == Split.TRAIN).sum()
    assert f'<th scope="row">train</th><td>{split}</td><td>8</td>' in page.read_text()
    for words in ([stores["hdf5"]], ["--store-path", stores["hdf5"]]):
        given = run("report", *words, "--to", tmp_path / "own.html", "--images", 3)
        assert given.stdout.strip() == str(tmp_path / "own.html"), given.stderr
    assert "synthetic-64x32.hdf5" in (tmp_path / "own.html").read_text()
    failed(run("report", **{**named, "STORE_ROOT": tmp_path}), f"no store at {tmp_path / 'synthetic-64x32.zarr'}")


@pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_on_a_screen_and_on_a_phone(stores: dict[str, Path], tmp_path: Path) -> None:
    path = write_store_page(tmp_path / "page.html", read_store(open_store(stores["zarr"])), images=6, seed=0)
    with browser.opened_browser(tmp_path / "browser") as page:
        for width in (1280, 390):
            page.open(path, width=width)
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.value("[...document.images].every(image => image.naturalWidth > 0)")
            pictures = "[...document.querySelectorAll('img:not(.mask), svg.figure')]"
            assert page.value(f"{pictures}.every(one => one.getBoundingClientRect().width > 20)")
            assert page.value(f"{pictures}.length") > 12
            assert page.value("getComputedStyle(document.querySelector('.mask')).display") == "none"
            page.value("document.querySelector('#masks').click()")
            assert page.value("getComputedStyle(document.querySelector('.mask')).display") == "block"
        assert page.problems == []
