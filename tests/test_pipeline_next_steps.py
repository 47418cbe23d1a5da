"""What is suggested after a store was made: only what would work, with what it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import random_rows

from densereid.data_catalog.store.schema import Geometry, Split, Status
from densereid.data_catalog.store.store import Store, create_store, open_store, write_shard
from densereid.pipeline.commands import next_steps
from densereid.pipeline.commands.next_steps import contents_of, print_next


def store_of(path: Path, person_ids: list[int], status: list[Status], size: tuple[int, int] = (128, 64)) -> Store:
    geometry = Geometry(len(person_ids), *size, dsap_size=24, shard_rows=32)
    created, rows = random_rows(geometry, "create"), random_rows(geometry, "shard")
    created["person_id"] = np.array(person_ids, np.int32)
    created["split"] = np.full(len(person_ids), Split.TRAIN, np.uint8)
    rows["status"] = np.array(status, np.uint8)
    create_store(path, format="zarr", geometry=geometry, attributes={"dataset": "random"}, rows=created)
    write_shard(path, shard=0, rows=rows)
    return open_store(path)


def said(store: Store, capsys: pytest.CaptureFixture[str], **named: object) -> str:
    capsys.readouterr()
    print_next(store, dataset="folder", data_root="my data", store="hdf5", **named)
    return capsys.readouterr().err


def test_training_is_suggested_with_the_settings_that_few_persons_and_small_part_images_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "x", [1, 1, 2, 3], [Status.OK] * 4)
    text = said(store, capsys, size="128x64")
    assert "inspect --dataset folder --data-root 'my data' --store hdf5 --size 128x64\nnext: " in text
    assert (
        "train --dataset folder --data-root 'my data' --store hdf5 --size 128x64 --set sampling.identities=3 --set "
        in text
    )
    assert "--set model.dsap_size=24" in text


def test_a_size_that_no_network_takes_is_left_to_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "x", list(range(1, 31)), [Status.OK] * 30, (100, 50))
    look, train = said(store, capsys, size="100x50").split("\nnext: ")
    assert "--size 100x50" in look
    assert "--size" not in train
    assert "sampling.identities" not in train


@pytest.mark.parametrize(
    ("person_ids", "status", "words"),
    [
        ([-1, -1], [Status.OK] * 2, "no identity is known among the training images (PATTERN's group person)"),
        ([0, -1], [Status.OK] * 2, "no identity is known"),
        ([5, 5], [Status.OK] * 2, "one identity alone is known"),
        ([5, 6, 7], [Status.OK, Status.FAILED, Status.FAILED], "only 1 of 3 images show a person and could be read"),
        ([5, 6, 7], [Status.NO_PERSON] * 3, "only 0 of 3 images show a person"),
    ],
)
def test_training_that_would_fail_is_not_suggested_and_why_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], person_ids: list[int], status: list[Status], words: str
) -> None:
    text = said(store_of(tmp_path / "x", person_ids, status), capsys)
    assert words in text
    assert "inspect --dataset folder" in text
    assert " train " not in text


def test_contents_count_persons_of_usable_training_images(tmp_path: Path) -> None:
    store = store_of(
        tmp_path / "x", [1, 2, 2, 0, -1], [Status.FAILED, Status.OK, Status.NO_PERSON, Status.OK, Status.OK]
    )
    found = contents_of(store)
    assert (found.images, found.with_person, found.failed, found.identities) == (5, 3, 1, 1)


def test_what_failed_is_to_be_mended_and_read_again_however_little_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_steps, "this_command", lambda: "make preprocess DATASET=folder")
    text = said(store_of(tmp_path / "x", [1, 1, 2, 3], [Status.FAILED, *[Status.OK] * 3]), capsys)
    assert f"mend what {tmp_path / 'x' / 'failures.csv'} names, then run the same command again" in text
    assert text.endswith("next: make preprocess DATASET=folder\n")
    assert " train " in text
    assert "mend" not in said(store_of(tmp_path / "y", [1, 1, 2, 3], [Status.OK] * 4), capsys)
