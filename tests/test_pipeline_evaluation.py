"""`evaluate`: what it says, and the files that it writes beside the run."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import helpers
import numpy as np
import pytest
from reference_train import TINY

from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.commands.networks import evaluation
from densereid.train.config.train_config import load_config
from densereid.train.engine.checkpoint import load_checkpoint, save_checkpoint
from densereid.train.engine.loop import fit
from densereid.train.evaluation import kept_embeddings
from densereid.train.evaluation.reranking import Reranking
from densereid.train.families import build_network


@pytest.fixture(scope="module")
def trained(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    config = load_config("dsa-reid-small", {**TINY, "epochs": 1, "evaluate_every": 0})
    fit(config, open_store(stores["zarr"]), folder, device="cpu", on_event=lambda event: None)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "first"))


def test_scores_are_written_in_parts_beside_the_run(
    run: Path, stores: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scores = evaluation.evaluate_run(run, store_path=None, device="cpu")
    path = run / "evaluations" / "synthetic-64x32-last-f.json"
    said = capsys.readouterr().err
    assert f"written: {path}\nwritten: {path.with_suffix('.csv')}" in said
    content = json.loads(path.read_text())
    assert {name: content[name] for name in ("run", "checkpoint", "epoch", "feature", "trained_on", "network")} == {
        "run": "first", "checkpoint": "last.pt", "epoch": 1, "feature": "f", "trained_on": "synthetic",
        "network": "dsa-reid-small",
    }  # fmt: skip
    assert content["store"]["dataset"] == "synthetic"
    rows = content["scores"]
    assert rows[0]["mean_average_precision"] == pytest.approx(scores.mean_average_precision, abs=1e-9)
    assert (rows[0]["queries"], rows[0]["rank_1"]) == (scores.num_valid_queries, pytest.approx(scores.rank_1))
    low, high = (rows[0][f"mean_average_precision_{end}"] for end in ("low", "high"))
    assert 0 <= low < scores.mean_average_precision < high <= 1
    assert re.search(
        rf"95% over {scores.num_valid_queries} queries: Rank-1 .*, mAP {100 * low:.1f} to {100 * high:.1f},", said
    )
    store = open_store(stores["zarr"])
    split, camera = store.read("split"), store.read("camera_id")
    pairs = [(row["query_camera"], row["gallery_camera"]) for row in rows if "query_camera" in row]
    assert pairs == sorted(set(pairs))
    assert pairs
    assert {own for own, _ in pairs} <= set(camera[split == Split.QUERY].tolist())
    by_parts = [row for row in rows if "visible_parts" in row]
    masks = store.read("mask", np.flatnonzero(split == Split.QUERY))
    visible = [len(np.unique(mask[mask > 0])) for mask in masks]
    counted = {row["visible_parts"]: row["queries"] + row["queries_without_match"] for row in by_parts}
    assert counted == {number: visible.count(number) for number in sorted(set(visible))}


def test_the_table_is_the_same_in_csv_and_names_what_was_evaluated(run: Path, stores: dict[str, Path]) -> None:
    reranking = Reranking(k1=4, k2=2)
    better = evaluation.evaluate_run(run, store_path=stores["hdf5"], device="cpu", feature="z", reranking=reranking)
    files = sorted(path.name for path in (run / "evaluations").iterdir() if path.is_file())
    assert files == ["synthetic-64x32-last-z.csv", "synthetic-64x32-last-z.json"]
    with (run / "evaluations" / files[0]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ranking"] for row in rows[:2]] == ["plain", "re-ranked"]
    assert float(rows[1]["mean_average_precision"]) == better.mean_average_precision
    assert rows[1]["rank_20"] == ""
    assert len(rows) == len(json.loads((run / "evaluations" / files[1]).read_text())["scores"])


def test_queries_without_a_match_are_counted_and_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = evaluation.evaluate_run(run, store_path=None, device="cpu")
    few = replace(scores, num_valid_queries=scores.num_queries - 2)
    monkeypatch.setattr(evaluation, "score_embeddings", lambda *_: few)
    done = helpers.run("evaluate", run, "--device", "cpu")
    words = f"2 queries of {scores.num_queries} without a match in the gallery: counted, not scored"
    assert words in done.stderr


def test_embeddings_are_extracted_once_and_never_used_for_anything_else(
    run: Path,
    stores: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    extracted = []
    extract = kept_embeddings.protocol_embeddings
    monkeypatch.setattr(
        kept_embeddings, "protocol_embeddings", lambda *given, **named: extracted.append(1) or extract(*given, **named)
    )
    store = Path(shutil.copytree(stores["zarr"], tmp_path / "other.zarr"))

    def evaluated(**changes: object) -> tuple[object, int]:
        """The scores, and how often embeddings have been extracted by then."""
        scores = evaluation.evaluate_run(run, **{"store_path": store, "device": "cpu", **changes})  # type: ignore[arg-type]
        return scores, len(extracted)

    caplog.set_level("INFO", "densereid")
    first, _ = evaluated()
    assert evaluated() == (first, 1)
    kept = run / "evaluations" / "other-last-f.zarr"
    assert f"Embeddings are read from {kept}: the same checkpoint, store and feature." in caplog.text
    assert evaluated(reranking=Reranking(k1=4, k2=2))[1] == 1
    assert evaluated(feature="z")[1] == 2
    for chunk in (kept / "query" / "c").rglob("*"):
        if chunk.is_file():
            content = bytearray(chunk.read_bytes())
            content[len(content) // 2] ^= 1
            chunk.write_bytes(content)
    assert evaluated() == (first, 3)  # what is damaged is made again
    helpers.edit_marker(store, 0, lambda marker: marker["crc32"].update(image=marker["crc32"]["image"] ^ 1))
    assert evaluated() == (first, 4)  # other pixels under the same labels
    checkpoint = load_checkpoint(run / "last.pt")
    save_checkpoint(run / "last.pt", replace(checkpoint, epoch=2))
    assert evaluated() == (first, 5)
    assert evaluated() == (first, 5)


def test_another_run_is_compared_on_the_same_queries(run: Path, tmp_path: Path, stores: dict[str, Path]) -> None:
    other = Path(shutil.copytree(run, tmp_path / "second"))
    checkpoint = load_checkpoint(other / "last.pt")
    network = build_network(checkpoint.config, checkpoint.num_identities, seed=9)
    save_checkpoint(other / "last.pt", replace(checkpoint, model=network.state_dict()))
    done = helpers.run("evaluate", run, "--against", other, "--device", "cpu", STORE_PATH=stores["zarr"])
    assert done.returncode == 0, done.stderr
    assert f"more than {run} (95% over queries)" in done.stdout
    assert re.search(r"second\s.*[+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\)", done.stdout)
    assert (other / "evaluations" / "synthetic-64x32-last-f.json").is_file()


def test_scores_that_cannot_be_written_are_printed(run: Path) -> None:
    (run / "evaluations").write_text("in the way")
    done = helpers.run("evaluate", run, "--device", "cpu")
    assert done.returncode == 0
    assert "dsa-reid-small" in done.stdout
    assert "the scores were printed and not written: " in done.stderr
