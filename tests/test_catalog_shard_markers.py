"""A damaged marker of a shard is named, whatever is wrong with it and whoever reads the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import GEOMETRY, write_random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.conversion import convert_store
from densereid.data_catalog.store.manifest import MANIFEST
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.commands.status import store_facts
from densereid.preprocess.writing.provenance import recorded_runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "random.zarr"
    write_random_store(path, "zarr")
    return path


def _changed(marker: dict[str, Any], **changes: object) -> str:
    return json.dumps({key: value for key, value in {**marker, **changes}.items() if value is not ...})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("", "it is no JSON"),
        ('{"shard": 1, "ro', "it is no JSON"),
        ("\udcff", "it is no JSON"),
        ("[1, 2]", "it holds list; expected keys with values"),
        ("null", "it holds NoneType"),
        ({"shard": ...}, "it is of shard None"),
        ({"shard": 0}, r"it is of shard 0, rows \[32, 64\]; expected 32 to 64"),
        ({"rows": ...}, "rows None; expected 32 to 64"),
        ({"rows": "32-64"}, "rows 32-64"),
        ({"crc32": ...}, "it lacks the checksums of box, dsap, dsap_valid, image, iuv, mask, score, status"),
        ({"crc32": [1]}, "it lacks the checksums"),
        ({"crc32": {"image": "x"}}, "it lacks the checksums"),
        ({"failures": 3}, "its failures and counts"),
        ({"failures": [{"path": "a.png"}]}, "its failures and counts"),
        ({"no_person": "many"}, "its failures and counts"),
    ],
)
def test_a_damaged_marker_is_named_with_what_is_wrong(whole: Path, changes: Any, words: str) -> None:
    file = whole / "shards" / "00001.json"
    content = file.read_bytes()
    text = changes if isinstance(changes, str) else _changed(json.loads(content), **changes)
    try:
        file.write_bytes(text.encode(errors="surrogateescape"))
        for incomplete in (False, True):
            with pytest.raises(UserError, match=rf"the marker of a shard is damaged: {file}: .*{words}") as told:
                open_store(whole, incomplete=incomplete)
            assert "delete that file and run the same `make preprocess` again" in told.value.remedy
        facts = store_facts(whole)
        assert "problem" in facts
        assert str(file) in facts["problem"]
    finally:
        file.write_bytes(content)


def test_a_marker_of_a_shard_that_the_store_does_not_have_is_damaged_and_another_file_is_none(whole: Path) -> None:
    other = whole / "shards" / f"{GEOMETRY.num_shards:05d}.json"
    for name in ("0x.json", "0000\u00b2.json"):
        (whole / "shards" / name).write_text("{}")
    assert len(open_store(whole).markers()) == GEOMETRY.num_shards
    try:
        other.write_text("{}")
        with pytest.raises(UserError, match=f"the store has {GEOMETRY.num_shards} shards"):
            open_store(whole)
    finally:
        other.unlink()


def test_a_store_that_does_not_say_its_sizes_is_refused(whole: Path, tmp_path: Path) -> None:
    convert_store(open_store(whole), tmp_path / "copy.zarr", format="zarr")
    metadata = json.loads((tmp_path / "copy.zarr" / "zarr.json").read_text())
    metadata["attributes"]["format_version"] = 1  # of which nothing else is checked
    for sizes in (None, 3, {"height": 1}):
        metadata["attributes"]["geometry"] = sizes
        (tmp_path / "copy.zarr" / "zarr.json").write_text(json.dumps(metadata))
        (tmp_path / "copy.zarr" / MANIFEST).unlink(missing_ok=True)
        with pytest.raises(UserError, match="does not say its sizes"):
            open_store(tmp_path / "copy.zarr")


def test_status_lists_a_store_whose_attributes_are_not_all_there(whole: Path) -> None:
    assert store_facts(whole) == {"store": "random.zarr", "problem": "its attributes do not say 'estimator'"}


def test_a_damaged_record_of_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text('[{"started"')
    with pytest.raises(UserError, match=r"provenance.json is not as it was written"):
        recorded_runs(tmp_path)
