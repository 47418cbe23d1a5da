"""Copies of stores: finished ones, and such as their source has left behind; progress that has nothing to show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import contents, failed, forget_checksum, run, write_random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Geometry
from densereid.pipeline.progress import ProgressReport


def test_a_finished_copy_is_said_to_be_complete(tmp_path: Path) -> None:
    source, target = tmp_path / "a.zarr", tmp_path / "b.hdf5"
    write_random_store(source, "zarr")
    first = run("convert", source, target)
    assert "converting: 75/75 images" in first.stderr
    assert re.search(rf"next: .* verify {target}\n", first.stderr)
    before = contents(target)
    again = run("convert", source, target)
    assert (again.returncode, again.stdout) == (0, f"{target}\n")
    assert f"{target} is complete; nothing to do" in again.stderr
    assert "images" not in again.stderr
    assert contents(target) == before


def test_a_copy_of_what_a_store_held_before_is_no_copy_of_it(tmp_path: Path) -> None:
    source, target = tmp_path / "a.zarr", tmp_path / "b.hdf5"
    write_random_store(source, "zarr")
    assert run("convert", source, target).returncode == 0
    before = contents(target)
    forget_checksum(source, 1, "image")  # as if that shard had been written again
    failed(
        run("convert", source, target), f"{target} is a copy of what {source} held before it changed\nmove it away, or"
    )
    assert contents(target) == before


def test_progress_without_anything_done_has_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport("verifying", 60):
        pass
    with ProgressReport("converting", 0):
        pass
    assert capsys.readouterr().err == "verifying: 0/60 images, 0 failed\n"


def test_an_odd_number_of_rows_is_refused_with_those_around_it() -> None:
    with pytest.raises(UserError, match="SHARD_ROWS is 200; expected a multiple of 32\nuse SHARD_ROWS=192, or 224"):
        Geometry(1, 4, 4, dsap_size=8, shard_rows=200)
    assert "a multiple of 32" in " ".join(run("preprocess", "--help").stdout.split())


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "shard", "1 shard"),
        (0, "shard", "0 shards"),
        (2000, "image", "2,000 images"),
        (3, "identity", "3 identities"),
        (2, "process", "2 processes"),
    ],
)
def test_numbers_have_their_nouns(number: int, noun: str, words: str) -> None:
    assert plural(number, noun) == words
