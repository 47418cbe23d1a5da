"""What a file or an option says is bounded before anything is allocated or matched for it."""

from __future__ import annotations

import json
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
from helpers import GEOMETRY, failed, run, write_random_store

from densereid.data_catalog.datasets import folders, layouts
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.time_limit import time_limit
from densereid.data_catalog.store.manifest import write_manifest
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.store import open_store

EVIL = r"(?P<person>(a+)+)$"


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_samples", 10**15), ("height", 10**9), ("width", 10**6), ("dsap_size", 8 * 10**9), ("shard_rows", 32 * 10**9),
     ("num_samples", 1e3), ("num_samples", "7"), ("height", True), ("width", None), ("num_samples", [1])],
)  # fmt: skip
def test_a_store_of_impossible_sizes_is_refused_before_anything_is_allocated(
    tmp_path: Path, key: str, value: object
) -> None:
    with pytest.raises(UserError, match=rf"{key} is .*a whole number of at most"):
        Geometry(**{**GEOMETRY.to_dict(), key: value})  # type: ignore[arg-type]
    write_random_store(tmp_path / "s.zarr", "zarr")
    file = tmp_path / "s.zarr" / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["geometry"][key] = value
    file.write_text(json.dumps(content))
    write_manifest(tmp_path / "s.zarr")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=rf"s\.zarr: {key} is"):
        open_store(tmp_path / "s.zarr", incomplete=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_pattern_that_would_match_for_ever_ends_in_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MATCHING_SECONDS", 0.2)
    (tmp_path / f"{'a' * 60}b.png").touch()
    with pytest.raises(UserError, match=r"was not done with 1 name after 0\.2 seconds\nit can match"):
        find_dataset("folder", tmp_path, pattern=EVIL)
    failed(run("preprocess", DATASET="folder", DATA_ROOT=tmp_path, PATTERN=EVIL), "PATTERN", "(a+)+")
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0


def test_a_catalog_whose_names_match_for_ever_ends_in_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "MATCHING_SECONDS", 0.2)
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / f"{'1' * 60}b.png").touch()
    (tmp_path / "own.yaml").write_text(
        r"mine: {title: Mine, folders: [mine], example: x, obtain: y, splits: {train: train}, "
        r"file_name: '(?P<person>(\d+)+)(?P<camera>\d)x'}",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=r"Mine's images .*were not read after 0\.2 seconds.*\n.*entry mine"):
        find_dataset("mine", tmp_path, catalog=tmp_path / "own.yaml")


@pytest.mark.parametrize(
    "pattern", ["(?P<person>" + "(" * 5000 + ")" * 5000 + ")", "(?P<person>a{99999999999999999999})"]
)
def test_a_pattern_too_deep_or_too_large_is_no_expression(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="is not a regular expression"):
        find_dataset("folder", tmp_path, pattern=pattern)


def test_a_limit_counts_computing_alone_and_another_thread_has_none() -> None:
    with time_limit(0.05):
        time.sleep(0.2)
    ended: list[bool] = []

    def work() -> None:
        with time_limit(0.001):
            ended.append(sum(range(10**6)) > 0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [True]
