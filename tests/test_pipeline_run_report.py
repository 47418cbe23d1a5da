"""`report` of runs: what is on the page, what a browser makes of it, and the mistakes that it explains."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import helpers
import numpy as np
import pytest
import torch
from browser import BROWSER, opened_browser
from PIL import Image
from reference_train import TINY

from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import create_store, open_store, write_shard
from densereid.pipeline.commands.networks import gathering
from densereid.pipeline.commands.networks.open_run import OpenRun
from densereid.pipeline.reports.pages.runs.learning_curves import learning_curves
from densereid.train.config.train_config import load_config
from densereid.train.engine.checkpoint import load_checkpoint, save_checkpoint
from densereid.train.engine.loop import fit
from densereid.train.engine.tracking import read_metrics
from densereid.train.families import build_network


@pytest.fixture(scope="module")
def trained(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, `first` and `second`, the second of other weights."""
    folder = tmp_path_factory.mktemp("runs")
    config = load_config("dsa-reid-small", {**TINY, "epochs": 1, "log_every": 1, "evaluate_every": 0})
    fit(config, open_store(stores["zarr"]), folder / "first", device="cpu", on_event=lambda event: None)
    shutil.copytree(folder / "first", folder / "second")
    checkpoint = load_checkpoint(folder / "second" / "last.pt")
    network = build_network(checkpoint.config, checkpoint.num_identities, seed=9)
    save_checkpoint(folder / "second" / "last.pt", replace(checkpoint, model=network.state_dict(), seed=9))
    return folder


@pytest.fixture(scope="module")
def pages(trained: Path) -> dict[str, Path]:
    """The report of one run, and that of two."""
    one = helpers.run("report", trained / "first", "--device", "cpu")
    two = helpers.run("report", RUN_FOLDER=f"{trained / 'first'} {trained / 'second'}", DEVICE="cpu")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    return {"one": Path(one.stdout.strip()), "two": Path(two.stdout.strip())}


def test_a_page_lies_beside_the_evaluation_and_needs_no_other_file(pages: dict[str, Path], trained: Path) -> None:
    folder = trained / "first" / "evaluations"
    names = {"one": "synthetic-64x32-last-f.html", "two": "synthetic-64x32-last-f-compared.html"}
    assert pages == {kind: folder / name for kind, name in names.items()}
    for page in pages.values():
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'(?:src|href)="(?!#|data:)', text) == []
        assert "url(http" not in text
        assert "<script" not in text


def test_the_page_of_a_run_says_what_it_is_and_what_it_scores(pages: dict[str, Path], trained: Path) -> None:
    text = pages["one"].read_text(encoding="utf-8")
    found = open_store(Path(load_checkpoint(trained / "first" / "last.pt").store["path"]))
    for words in ("dsa-reid-small, family dsa-reid", "last.pt, epoch 1 of 1", f"torch {torch.__version__}", "commit"):
        assert words in text
    assert str(found.path) in text
    for name in {row["name"] for row in read_metrics(trained / "first") if row["name"].startswith("loss/")}:
        assert f"{name.removeprefix('loss/').replace('_', ' ')} over the epochs" in text
    for anchor in ("run", "learning", "scores", "cameras", "parts", "queries", "activations", "embeddings"):
        assert f'<section id="{anchor}">' in text
    assert re.search(r"mAP \d+\.\d</b>\s+\(\d+\.\d to \d+\.\d\)", text)
    for outcome, sign in (("right", "✓"), ("wrong", "✗"), ("junk", "○")):
        assert re.search(rf'<li class="{outcome}"[^>]*>.*?<b>{sign} (?:\d+|junk)</b>', text, re.DOTALL)


def test_two_runs_stand_side_by_side_with_the_queries_on_which_they_differ(pages: dict[str, Path]) -> None:
    text = pages["two"].read_text(encoding="utf-8")
    assert "2 runs on synthetic-64x32.zarr" in text
    assert "second is better" in text
    assert "second is worse" in text
    assert re.search(r'<th scope="row">mAP</th><td>\d.*?</td><td>\d.*?</td><td>[+-]\d', text)
    assert len(re.findall(r"(first|second): AP", text)) == 2 * text.count('<article class="ranked">')


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine, so no page is opened")
def test_a_browser_shows_the_pages_on_screens_and_phones(pages: dict[str, Path], tmp_path: Path) -> None:
    with opened_browser(tmp_path / "profile") as page:
        for kind, file in pages.items():
            for width, dark in ((1280, False), (390, False), (390, True)):
                page.open(file, width=width, dark=dark)
                assert page.problems == []
                assert page.value("document.documentElement.scrollWidth") <= width
                sizes = page.value(
                    "[...document.querySelectorAll('img:not(.mask), svg.figure')].map(each => "
                    "[each.getBoundingClientRect().width, each.getBoundingClientRect().height])"
                )
                assert len(sizes) > 40
                assert all(wide >= 20 and high >= 20 for wide, high in sizes)
                assert page.value("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
                page.photograph(tmp_path / f"{kind}-{width}-{dark}.png")
        shades = {
            dark: Image.open(tmp_path / f"one-390-{dark}.png").convert("L").getpixel((2, 2)) for dark in (False, True)
        }
        assert shades[False] > 240
        assert shades[True] < 40
        masks = "getComputedStyle(document.querySelector('.ranked .mask')).display"
        assert page.value(masks) == "none"
        page.value("document.getElementById('masks').click()")
        assert page.value(masks) == "block"


def test_curves_have_the_finite_values_of_every_run() -> None:
    def run(*rows: tuple[object, str, object]) -> SimpleNamespace:
        named = [dict(zip(("epoch", "name", "value"), map(str, row), strict=True)) for row in rows]
        return SimpleNamespace(metrics=named)

    odd = [(2, "loss/b", "nan"), ("inf", "loss/b", 1), (1, "x", 1), (2, "loss", "")]
    first = run((1, "loss/b", 2), (1, "loss", 3), *odd)
    found = learning_curves([first, run((4, "loss/a_c", 1), (4, "scores/rank_1", 0.5))])  # type: ignore[list-item]
    assert [name for _, name in found] == ["loss, the sum", "a c", "b", "Rank-1"]
    assert learning_curves([run()]) == []  # type: ignore[list-item]


def test_a_run_without_curves_is_reported_and_the_page_says_so(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "first", tmp_path / "first"))
    (run / "metrics.csv").unlink()
    shutil.rmtree(run / "evaluations", ignore_errors=True)  # no embeddings either: they are extracted
    done = helpers.run("report", run / "last.pt", "--device", "cpu", "--to", tmp_path / "own.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "own.html")
    assert "There are none: no <code>metrics.csv</code>" in (tmp_path / "own.html").read_text(encoding="utf-8")
    assert (run / "evaluations" / "synthetic-64x32-last-f.zarr").is_dir()


def test_a_folder_that_is_no_run_is_refused(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    helpers.failed(
        helpers.run("report", tmp_path), f"{tmp_path} is not the folder of a trained run: it has no last.pt",
        "give the folder that",
    )  # fmt: skip
    helpers.failed(helpers.run("report", tmp_path / "no"), f"{tmp_path / 'no'} is not", "it does not exist")
    first = trained / "first"
    helpers.failed(helpers.run("report", first, stores["zarr"]), f"{stores['zarr']} is a store, not", "--store-path")
    helpers.failed(helpers.run("report", first, first), f"RUN_FOLDER names {first} twice")


def test_what_a_report_does_not_use_is_said(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    done = helpers.run("report", trained / "first", "--device", "cpu", "--images", 3, DATASET="market")
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if line.startswith("note:")]
    assert notes == [f"note: the report of a run does not use {name}" for name in ("DATASET", "IMAGES")]
    done = helpers.run("report", stores["zarr"], "--feature", "z", "--to", tmp_path / "store.html")
    assert "note: the report of a store does not use FEATURE" in done.stderr


def other_store(path: Path, source: Path, **changes: np.ndarray) -> Path:
    """A copy of a store with other labels."""
    store = open_store(source)
    names = {name: store.read(name) for name in ("path", "person_id", "camera_id", "split")}
    create_store(
        path, format="zarr", geometry=store.geometry, attributes=dict(store.attributes), rows={**names, **changes}
    )
    for shard in range(store.geometry.num_shards):
        rows = store.geometry.shard_slice(shard)
        written = [name for name in store.markers()[shard]["crc32"] if name not in names]
        write_shard(path, shard=shard, rows={name: store.read(name, rows) for name in written})
    return path


def test_a_store_that_is_another_one_today_is_refused_unless_it_is_named(
    trained: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    cameras = open_store(stores["zarr"]).read("camera_id")
    other = other_store(tmp_path / "other.zarr", stores["zarr"], camera_id=cameras + 1)
    run = Path(shutil.copytree(trained / "first", tmp_path / "run"))
    checkpoint = load_checkpoint(run / "last.pt")
    save_checkpoint(run / "last.pt", replace(checkpoint, store={**checkpoint.store, "path": str(other)}))
    done = helpers.run("report", run, "--device", "cpu")
    helpers.failed(done, f"{other} is not what {run} was trained on", f"on purpose: --store-path {other}")
    done = helpers.run("evaluate", run, "--device", "cpu")
    helpers.failed(done, f"{other} is not what {run} was trained on")
    elsewhere = {**checkpoint.store, "path": str(other), "digest": "0" * 64}
    save_checkpoint(run / "last.pt", replace(checkpoint, store=elsewhere))
    done = helpers.run("report", trained / "first", run, "--device", "cpu")
    helpers.failed(done, "the runs are of different stores", str(other), "--store-path")
    assert helpers.run("report", trained / "first", run, "--device", "cpu", STORE_PATH=stores["zarr"]).returncode == 0


def test_a_store_without_queries_and_embeddings_that_are_no_numbers_are_refused(
    trained: Path, stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = open_store(stores["zarr"]).read("split")
    split[split == Split.QUERY] = Split.TRAIN
    none = other_store(tmp_path / "none.zarr", stores["zarr"], split=split)
    done = helpers.run("report", trained / "first", "--device", "cpu", STORE_PATH=none)
    helpers.failed(done, f"{none} has no query images, so nothing can be ranked")
    embedded = OpenRun.embedded

    def spoilt(opened: OpenRun) -> object:
        found = embedded(opened)
        found[Split.QUERY][0][1] = torch.nan
        return found

    monkeypatch.setattr(gathering.OpenRun, "embedded", spoilt)
    done = helpers.run("report", trained / "first", "--device", "cpu")
    helpers.failed(done, "query embeddings are not finite numbers (NaN or infinity), the first is number 2")
