"""The commands as a user types them: what they print, their exit codes, and a message instead of a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT, as_environment, failed, run, run_process
from PIL import Image

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import ensure_store, make_store

COMMANDS = (
    "catalog",
    "synthesize",
    "preprocess",
    "derive",
    "train",
    "evaluate",
    "inspect",
    "convert",
    "schema",
    "demo",
    "status",
    "verify",
    "densepose-sizes",
)


def test_every_command_explains_itself() -> None:
    listed = run_process("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", listed, re.MULTILINE), command


def test_help_names_the_make_variables() -> None:
    text = run("preprocess", "--help").stdout
    for option in ("--dataset", "--data-root", "--store", "--size", "--estimator", "--device", "--workers"):
        assert option in text


def test_schema_is_printed_as_the_documentation_shows_it() -> None:
    table = run("schema").stdout.strip()
    assert table.startswith("| array | dimensions |")
    assert table in (ROOT / "docs" / "store.md").read_text(encoding="utf-8")


def test_absent_market_ends_in_a_message(tmp_path: Path) -> None:
    result = run_process("preprocess", DATASET="market", DATA_ROOT=tmp_path)
    failed(result, "Market-1501 is not there", "bounding_box_train", "150 MB", "granted for academic research")


def test_unknown_dataset_ends_in_a_message(tmp_path: Path) -> None:
    failed(run("preprocess", DATASET="markett", DATA_ROOT=tmp_path), "unknown dataset 'markett'", "DATASET=market")


def test_densepose_asked_for_without_its_weights_names_the_network_that_needs_none(tmp_path: Path) -> None:
    Image.new("RGB", (64, 128)).save(tmp_path / "0022_c6s1_002976_01.jpg")
    nowhere = {"https_proxy": "http://127.0.0.1:9", "DENSEREID_CACHE": tmp_path / "cache"}
    result = run(
        "preprocess", DATASET="folder", DATA_ROOT=tmp_path, STORE_ROOT=tmp_path / "stores", SHORT_EDGE=128, **nowhere
    )
    failed(result, "downloading them failed", "Or take --estimator embedded")
    assert not (tmp_path / "stores").exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SIZE": "256"}, "expected HEIGHTxWIDTH"),
        ({"DEVICE": "cuda:9"}, "DEVICE=cuda:9 was asked for"),
        ({"DEVICE": "gpu"}, "expected auto, cpu, cuda or cuda:N"),
        ({"DSAP_SIZE": "20"}, "multiple of 8"),
        ({"DATA_ROOT": "/nowhere"}, "is not a folder"),
    ],
)
def test_wrong_variables_end_in_a_message(crops: Path, tmp_path: Path, variables: dict[str, str], words: str) -> None:
    given = {"DATASET": "folder", "DATA_ROOT": str(crops), "STORE_ROOT": str(tmp_path / "stores"), **variables}
    failed(run("preprocess", **given), words)


def test_doctor_says_what_is_missing_and_what_to_do(synthetic_root: Path, tmp_path: Path) -> None:
    result = run("doctor", DATA_ROOT=synthetic_root, STORE_ROOT=tmp_path / "stores", DENSEREID_CACHE=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("torch", "zarr", "free disk", "Detectron2 and DensePose", "weights R_50_FPN_s1x", "dataset market"):
        assert name in result.stdout
    assert "zheng-lab" in result.stdout
    assert "dl.fbaipublicfiles.com" in result.stdout
    assert str(synthetic_root / "synthetic") in result.stdout.replace("\n", "")


def test_catalog_lists_and_checks(synthetic_root: Path, tmp_path: Path) -> None:
    listed = run("catalog", "list", DATA_ROOT=synthetic_root)
    assert f"DenseReID synthetic pedestrians: {synthetic_root / 'synthetic'}" in listed.stdout
    assert "Market-1501: not under" in listed.stdout
    checked = run("catalog", "check", "synthetic", DATA_ROOT=synthetic_root)
    assert checked.returncode == 0
    assert "77 images, no published counts" in checked.stdout
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / "market" / folder).mkdir(parents=True)
        (tmp_path / "market" / folder / "0002_c1s1_000451_03.jpg").touch()
    different = run("catalog", "check", DATASET="market", DATA_ROOT=tmp_path)
    assert different.returncode == 1
    assert "[3368, 750] query (images, identities), this copy has [1, 1]" in different.stdout


def test_a_users_own_catalog_reaches_preprocessing(crops: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "shop:\n  title: Our shop\n  folders: [crops]\n  splits: {train: .}\n  iuv: iuv\n"
        "  file_name: '(?P<person>\\d+)_c(?P<camera>\\d)\\.png'\n  example: 0001_c1.png\n  obtain: Ask us.\n"
    )
    variables = {"DATASET": "shop", "CATALOG": tmp_path / "own.yaml", "DATA_ROOT": tmp_path, "SIZE": "64x32"}
    result = run("preprocess", **variables, STORE_ROOT=tmp_path / "stores")
    assert result.returncode == 0, result.stderr
    assert "shop: 5 images (5 train)" in result.stderr


def test_wrong_usage_exits_with_2() -> None:
    failed(run_process("preprocess", STORE="parquet"), "'parquet' is not one of 'zarr', 'hdf5'", code=2)
    failed(run("preprocess", "--nonsense"), "No such option", code=2)


def test_failed_images_exit_with_3_and_stay_in_the_store(crops: Path, tmp_path: Path) -> None:
    (crops / "0002_c2.png").write_bytes(b"not an image")
    Image.new("RGB", (5, 5)).save(crops / "iuv" / "0003_c1_IUV.png")
    result = run("preprocess", DATASET="folder", DATA_ROOT=crops, STORE_ROOT=tmp_path / "stores", SIZE="64x32")
    failed(result, "2 images failed", "failures.csv", code=3)
    path = Path(result.stdout.strip())
    assert open_store(path).geometry.num_samples == 5
    reasons = (path / "failures.csv").read_text()
    assert "0002_c2.png" in reasons
    assert "is 5x5, its image" in reasons


def test_preprocess_inspect_and_convert(crops: Path, tmp_path: Path) -> None:
    variables = {"DATASET": "folder", "DATA_ROOT": crops, "STORE_ROOT": tmp_path / "stores", "SIZE": "64x32"}
    made = run("preprocess", **variables, PATTERN=r"(?P<person>\d+)_c(?P<camera>\d)")
    assert made.returncode == 0, made.stderr
    assert "5 images (5 train)" in made.stderr
    assert f"-m pipeline inspect --dataset folder --data-root {crops} --store-root " in made.stderr
    quoted = r"--pattern '(?P<person>\d+)_c(?P<camera>\d)'"
    assert re.search(rf"-m pipeline train .* --size 64x32 .*{re.escape(quoted)}", made.stderr)
    again = run("preprocess", **variables, PATTERN=r"(?P<person>\d+)_c(?P<camera>\d)")
    assert again.returncode == 0
    assert "is complete; nothing to do" in again.stderr
    looked = run("inspect", **variables, RUN_ROOT=tmp_path / "runs")
    assert looked.returncode == 0, looked.stderr
    assert "100.0%" in looked.stdout
    with Image.open(tmp_path / "runs" / "inspect" / "folder-crops-64x32.zarr.png") as sheet:
        assert sheet.width > 500
        assert len(sheet.getcolors(10**6) or []) > 1000
    converted = run("convert", made.stdout.strip(), tmp_path / "copy.hdf5")
    assert converted.returncode == 0, converted.stderr
    assert open_store(tmp_path / "copy.hdf5").format == "hdf5"
    failed(run("convert", made.stdout.strip(), tmp_path / "copy.h5"), "expected one of .zarr, .hdf5")
    assert "is whole: 1 shard by checksum, 5 rows computed again" in run("verify", tmp_path / "copy.hdf5").stderr
    assert "folder-crops" in run("status", STORE_ROOT=tmp_path / "stores").stdout


def test_derive_makes_a_store_that_inspect_finds(crops: Path, tmp_path: Path) -> None:
    variables = {"DATASET": "folder", "DATA_ROOT": crops, "STORE_ROOT": tmp_path, "SIZE": "64x32", "RUN_ROOT": tmp_path}
    assert run("preprocess", **variables).returncode == 0
    shutil.rmtree(crops)  # images and IUV maps are not needed any more
    crops.mkdir()
    derived = run("derive", **variables, DSAP_SIZE=64, COLLISION="mean")
    assert derived.returncode == 0, derived.stderr
    path = tmp_path / "folder-crops-64x32-dsap64-mean.zarr"
    assert derived.stdout.strip() == str(path)
    assert f"inspect --store-path {path}" in derived.stderr
    assert open_store(path).read("dsap").shape == (5, 24, 64, 64, 3)
    looked = run("inspect", **variables, DSAP_SIZE=64, COLLISION="mean")
    assert looked.returncode == 0, looked.stderr
    assert f"{path.name}.png" in looked.stdout


def test_training_derives_its_store_where_one_with_the_usual_part_images_exists(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = StoreRequest("folder", crops, tmp_path, "zarr", (64, 32), 32, "last")
    wanted = replace(usual, dsap_size=16)
    make_store(usual)
    for photo in crops.rglob("*.png"):
        photo.write_bytes(b"")  # what it would have to read, were it not derived
    assert ensure_store(wanted).attributes["derived_from"]["store"] == "folder-crops-64x32.zarr"
    assert "deriving" in capsys.readouterr().err
    marker = wanted.path() / "shards" / "00000.json"
    content = marker.read_bytes()
    marker.unlink()
    ensure_store(wanted)  # goes on as it began
    assert marker.read_bytes() == content
    other = replace(wanted, collision="mean", estimator="densepose", weights=str(tmp_path / "none.pkl"))
    with pytest.raises(UserError, match=r"none\.pkl"):  # the usual store is not by this estimator
        ensure_store(other)


def test_a_half_written_and_a_newer_store_end_in_a_message(crops: Path, tmp_path: Path) -> None:
    variables = {"DATASET": "folder", "DATA_ROOT": crops, "STORE_ROOT": tmp_path, "RUN_ROOT": tmp_path, "SIZE": "64x32"}
    path = Path(run("preprocess", **variables).stdout.strip())
    marker = (path / "shards" / "00000.json").rename(tmp_path / "marker.json")
    failed(run("inspect", **variables), "is half-written: 1 of 1 shards are missing")
    marker.rename(path / "shards" / "00000.json")
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["format_version"] = 99
    (path / "zarr.json").write_text(json.dumps(metadata))
    failed(run("inspect", **variables), "store format 99", "update DenseReID")
    failed(run("preprocess", **variables), "store format 99")


def test_nothing_to_inspect_ends_in_a_message(tmp_path: Path) -> None:
    failed(run("inspect", DATASET="market", STORE_ROOT=tmp_path), "no store at", "-m pipeline preprocess")


def test_an_unwritable_place_ends_in_a_message(crops: Path) -> None:
    result = run("preprocess", DATASET="folder", DATA_ROOT=crops, STORE_ROOT="/proc/stores", SIZE="64x32")
    failed(result, "/proc/stores", "run the same command again")


def start(code: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
    """A command in a terminal of its own, as it were: a process group that Ctrl-C reaches whole."""
    return subprocess.Popen(
        [sys.executable, *code],
        cwd=ROOT,
        env={**os.environ, **as_environment(variables)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A job in the background inherits an ignored SIGINT; a person at a terminal has it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_interruption_says_how_to_go_on(tmp_path: Path, synthetic_root: Path, workers: str) -> None:
    variables = {
        "DATASET": "synthetic",
        "DATA_ROOT": str(synthetic_root),
        "STORE_ROOT": str(tmp_path),
        "SIZE": "768x384",
        "WORKERS": workers,
    }
    process = start(["-m", "pipeline", "preprocess", "--shard-rows", "32"], variables)
    begun = tmp_path / "synthetic-768x384.zarr" / "provenance.json"  # written when workers are there
    deadline = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 130, message
    assert "Ctrl-C again stops at once" in message
    continued = (
        r"interrupted; what is finished is kept. To continue: \S+ -m pipeline preprocess --shard-rows 32 --dataset"
    )
    assert re.search(continued, message)
    assert "Traceback" not in message


_HANGS_WHEN_STOPPED = """
import sys, time
from densereid.pipeline import cli
from densereid.pipeline import console as progress
from densereid.pipeline.cli import store_commands
def hanging(**request):
    try:
        progress.print_status("begun")
        time.sleep(60)
    finally:
        progress.print_status("the end hangs")
        time.sleep(60)
store_commands.preprocess_command.callback = hanging
sys.argv = ["pipeline", "preprocess"]
cli.main()
"""


def test_a_second_interruption_does_not_wait() -> None:
    process = start(["-c", _HANGS_WHEN_STOPPED], {})
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    os.killpg(process.pid, signal.SIGINT)
    assert "Ctrl-C again stops at once" in process.stderr.readline() + process.stderr.readline()
    assert process.stderr.readline() == "the end hangs\n"
    before = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=50)
    assert process.returncode == 130
    assert time.monotonic() - before < 30
    assert re.search(r"To continue: \S+ -m pipeline preprocess", message)


@pytest.mark.parametrize(("model", "words"), [("dsa-ried", "dsa-reid"), ("nowhere.yaml", "pipeline describe` lists")])
def test_an_unknown_model_ends_in_a_message(tmp_path: Path, model: str, words: str) -> None:
    failed(run("train", MODEL=model, STORE_ROOT=tmp_path, DATA_ROOT=tmp_path), words)


def test_train_makes_its_store_first_and_evaluate_reads_the_run(synthetic_root: Path, tmp_path: Path) -> None:
    variables = {"DATA_ROOT": synthetic_root, "STORE_ROOT": tmp_path / "stores", "RUN_ROOT": tmp_path / "runs"}
    small = ("--set", "sampling.identities=4", "--set", "sampling.images=2", "--epochs", 1)
    result = run("train", *small, **variables)
    assert result.returncode == 0, result.stderr
    for words in ("model dsa-reid-small (on a CPU", "is not there or not finished; making it first", "77 images"):
        assert words in result.stderr or words in result.stdout
    assert "Peak memory: " in result.stderr  # what the packages log
    folder = Path(result.stdout.strip().splitlines()[-1])
    assert {file.name for file in folder.iterdir()} >= {"config.yaml", "metrics.csv", "last.pt", "best.pt"}
    evaluated = run("evaluate", RUN_FOLDER=folder)
    assert evaluated.returncode == 0, evaluated.stderr
    first, second = (re.search(r"│ dsa-reid-small[^\n]*", text) for text in (result.stdout, evaluated.stdout))
    assert first is not None
    assert second is not None
    assert first[0].split() == second[0].split()
    failed(run("evaluate", tmp_path / "runs" / "nothing"), "does not exist")
    resumed = run("train", *small, "--set", "loss.margin=0.5", **variables)
    failed(resumed, "loss.margin")
