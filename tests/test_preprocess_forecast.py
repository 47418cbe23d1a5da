"""What a run will cost is told before it starts, by measuring a sample that touches no disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from forked import run_forked
from helpers import as_environment, contents, failed, files_below, run

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import UrlPath, folder_bytes
from densereid.data_catalog.store.schema import arrays_written
from densereid.data_catalog.store.store import FORMATS, open_store
from densereid.pipeline.commands.dry_run import dry_run_report
from densereid.pipeline.store_request import StoreRequest
from densereid.preprocess.writing import forecast
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.forecast import (
    NullEstimator,
    check_memory,
    check_space,
    is_disk_full,
    measure,
    raw_bytes,
)
from densereid.preprocess.writing.plan import Plan, prepare
from densereid.preprocess.writing.provenance import recorded_runs


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_sample_foretells_the_bytes_of_the_store(
    synthetic_root: Path, stores: dict[str, Path], make_plan: Callable[..., Plan], tmp_path: Path, format: str
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    sample = measure(plan)
    store = stores[format]
    shards = [store / spec.name for spec in arrays_written("shard")] if format == "zarr" else store.glob("shard-*.h5")
    actual = sum(folder_bytes(path) if path.is_dir() else path.stat().st_size for path in shards)
    assert sample.images == 32
    assert sample.num_bytes / 32 * 77 == pytest.approx(actual, rel=0.15)
    assert sample.seconds > 0
    assert list(tmp_path.iterdir()) == []
    assert fsspec.filesystem("memory").find("/densereid") == []


def test_the_sample_spreads_over_the_dataset_and_takes_what_there_is(
    crops: Path, tmp_path: Path, make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan(crops, tmp_path / "store", "folder")
    assert measure(plan).images == 5
    chosen = forecast._subset(plan, 3).dataset.records
    assert chosen == tuple(plan.dataset.records[index] for index in (0, 2, 4))


def test_raw_bytes_are_those_of_the_arrays(
    synthetic_root: Path, stores: dict[str, Path], make_plan: Callable[..., Plan]
) -> None:
    store = open_store(stores["zarr"])
    expected = sum(store.read(spec.name).nbytes for spec in arrays_written("shard"))
    assert raw_bytes(make_plan(synthetic_root, stores["zarr"]), 77) == expected


def test_a_store_that_will_not_fit_is_refused_with_the_numbers(
    synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store")
    raw = raw_bytes(plan, 77)
    sample = forecast.MeasuredSample(images=32, seconds=1.0, num_bytes=32 * 10_000, resident_bytes=0)

    def never() -> forecast.MeasuredSample:
        raise AssertionError("where uncompressed rows fit, nothing is measured")

    monkeypatch.setattr(forecast, "free_bytes", lambda place: raw + 1)
    check_space(plan, 77, never)
    monkeypatch.setattr(forecast, "free_bytes", lambda place: 850_000)  # 77 x 10 kB and a tenth more
    check_space(plan, 77, lambda: sample)
    monkeypatch.setattr(forecast, "free_bytes", lambda place: 840_000)
    with pytest.raises(
        UserError, match=r"77 images will take about 847.0 kB at .*store \(10.0 kB each, measured on 32\); 840"
    ):
        check_space(plan, 77, lambda: sample)
    with pytest.raises(UserError, match="IGNORE_SPACE=1"):
        check_space(plan, 77, lambda: sample)
    monkeypatch.setattr(forecast, "free_bytes", lambda place: None)
    check_space(replace(plan, path=UrlPath("s3://bucket/a.zarr")), 77, never)


_SMALL_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.argv = ["pipeline", "preprocess", "--shard-rows", "32"]
from densereid.pipeline.cli import main
main()
"""


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_disk_that_becomes_full_ends_in_a_message_and_the_store_goes_on(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path], make_plan: Callable[..., Plan], format: str
) -> None:
    """The end of the disk is played by the system's limit on the size of a file: the same writes fail."""
    path = tmp_path / f"synthetic-64x32{FORMATS[format].SUFFIX}"
    plan = make_plan(synthetic_root, path)
    prepare(plan, format=format)
    variables = {
        "DATASET": "synthetic", "DATA_ROOT": synthetic_root, "STORE_ROOT": tmp_path, "SIZE": "64x32", "STORE": format,
    }  # fmt: skip
    code = _SMALL_FILES.format(limit=50_000)
    result = run_forked(code, output=tmp_path / "said", environment=as_environment(variables))
    failed(result, f"the disk of {path} is full", "0 of 3 shards are written", "run the same command again")
    (entry,) = recorded_runs(path)
    assert "-m pipeline preprocess --shard-rows 32 --dataset synthetic --data-root " in entry["command"]
    assert (entry["shards"], entry["computed_by"]) == (3, "this process")
    write_store(plan, format=format)
    assert contents(path) == contents(stores[format])


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (OSError("Can't write data (errno = 28, error message = 'No space left on device')"), True),
        (OSError(13, "Permission denied"), False),
    ],
)
def test_a_full_disk_is_recognised(error: OSError, full: bool) -> None:
    assert is_disk_full(error) == full


def test_a_dry_run_tells_everything_and_writes_nothing(synthetic_root: Path, tmp_path: Path) -> None:
    variables = {"DATA_ROOT": synthetic_root, "STORE_ROOT": tmp_path / "stores", "SIZE": "64x32", "DRY_RUN": 1}
    before = files_below(synthetic_root, tmp_path)
    result = run("preprocess", "--shard-rows", 32, DATASET="synthetic", DENSEREID_CACHE=tmp_path / "cache", **variables)
    assert result.returncode == 0, result.stderr
    facts = dict(line.split(maxsplit=1) for line in result.stdout.replace("to do", "to_do").splitlines())
    assert facts.keys() >= {"images", "store", "to_do", "estimator", "memory", "time"}
    assert "77 images (48 train" in facts["images"]
    assert "synthetic-64x32.zarr: 0 of 3 shards written" in facts["store"]
    assert "3 shards, 77 images" in facts["to_do"]
    assert "measured on 32 images" in result.stdout
    assert "images/s on the sample" in facts["time"]
    assert files_below(synthetic_root, tmp_path) == before


def request(data_root: Path, store_root: Path, **changes: Any) -> StoreRequest:
    wanted = {
        "dataset": "synthetic",
        "size": (64, 32),
        "store": "zarr",
        "shard_rows": 32,
        "estimator": "auto",
        **changes,
    }
    return StoreRequest(
        data_root=data_root, store_root=store_root, dsap_size=32, collision="last", iuv_root=None, iuv_order="auto",
        pattern=None, device="cpu", workers=0, **wanted,
    )  # fmt: skip


def test_a_dry_run_counts_what_is_written_already(
    synthetic_root: Path, tmp_path: Path, stores: dict[str, Path]
) -> None:
    store = Path(shutil.copytree(stores["zarr"], tmp_path / stores["zarr"].name))
    (store / "shards" / "00001.json").unlink()
    before = files_below(tmp_path)
    facts = dry_run_report(request(synthetic_root, tmp_path))
    assert "2 of 3 shards written" in facts["store"]
    assert facts["to do"] == "1 shard, 32 images"
    with pytest.raises(UserError, match="shard_rows is 32, asked for 64"):
        dry_run_report(request(synthetic_root, tmp_path, shard_rows=64))
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("weights", ["R_50_FPN_s1x", "own.pkl"])
def test_a_dry_run_that_may_not_fetch_or_pin_weights_measures_the_images_alone(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("own.pkl").write_bytes(b"never seen before")
    shutil.rmtree(crops / "iuv")
    before = files_below(tmp_path)
    facts = dry_run_report(
        request(crops, tmp_path / "stores", dataset="folder", estimator="detectron2", weights=weights)
    )
    reason = "would be downloaded to" if weights.startswith("R") else "would be recorded, at its first use"
    assert facts["estimator"].startswith("detectron2 (cannot be measured in a dry run")
    assert reason in facts["estimator"]
    assert facts["on disk"].startswith("between ")
    assert facts["time"].startswith("unknown")
    assert files_below(tmp_path) == before


def test_a_dry_run_does_not_render(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not rendered yet(.|\n)*synthesize.*` renders them"):
        dry_run_report(request(tmp_path, tmp_path / "stores"))
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_finished_store_costs_nothing(synthetic_root: Path, stores: dict[str, Path]) -> None:
    facts = dry_run_report(request(synthetic_root, stores["zarr"].parent))
    assert facts["to do"] == "0 shards, 0 images"
    assert "on disk" not in facts


def test_the_null_estimator_finds_no_person() -> None:
    charts = NullEstimator().estimate([None] * 3, (8, 4))  # type: ignore[list-item]
    assert charts.iuv.shape == (3, 8, 4, 3)
    assert not charts.iuv.any()
    assert np.isnan(charts.box).all()


def test_shards_that_are_larger_than_the_memory_are_refused_before_anything_is_read(
    synthetic_root: Path, tmp_path: Path, make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan(synthetic_root, tmp_path / "store", size=(4096, 4096), dsap_size=512, shard_rows=65536)
    check_memory(make_plan(synthetic_root, tmp_path / "store"))
    many = replace(plan, dataset=replace(plan.dataset, records=plan.dataset.records * 10_000))
    with pytest.raises(UserError, match=r"2 shards of 65,536 images of 4096x4096 with DSAP images of 512x512") as told:
        check_memory(many)
    assert "smaller SIZE or DSAP_SIZE" in told.value.remedy
