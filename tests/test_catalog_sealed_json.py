"""JSON and YAML that nest without end, or whose aliases stand for more than fits anywhere: a sentence each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from densereid.data_catalog.datasets.specs import known_datasets
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.sealed_json import is_sealed, load_yaml, parsed_json, sealed
from densereid.data_catalog.store.schema import Geometry
from densereid.data_catalog.store.shard_markers import read_marker
from densereid.data_catalog.store.store import open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.preprocess.densepose.download import _record
from densereid.preprocess.densepose.weights import _pinned
from densereid.preprocess.writing.inputs import read_inputs
from densereid.preprocess.writing.provenance import recorded_runs
from densereid.train.config.experiment import read_yaml

DEEP = "[" * 10**5 + "]" * 10**5


def bomb(line: str) -> str:
    """Nine lines, each with the one before in it ten times."""
    lines = ["a0: &a0 {x: 1}"]
    for step in range(9):
        lines.append(f"a{step + 1}: &a{step + 1} " + line.format(", ".join([f"*a{step}"] * 10)))
    return "\n".join(lines)


HOSTILE = {
    "it stands for 3456790133 values": bomb("[{}]"),
    "it stands for [0-9]{10} values": bomb("{{<<: [{}]}}"),
    "it nests too deeply, or a part of it holds itself": f"a: {DEEP}",
    "it nests too deeply, or a part of it holds itself ": "a: &a [*a]",
    "Exceeds the limit": "a: " + "9" * 5000,
    "month must be in": "a: 2001-99-99",
    "could not find expected": "a: b\nc",
}


@pytest.mark.parametrize(("words", "content"), HOSTILE.items())
def test_a_hostile_yaml_file_is_named(tmp_path: Path, words: str, content: str | bytes) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"own\.yaml cannot be read as YAML: (.|\n)*{words.strip()}"):
        read_yaml(path)
    with pytest.raises(UserError, match=rf"catalog .*own\.yaml cannot be read: (.|\n)*{words.strip()}"):
        known_datasets(path)


def test_aliases_in_reason_are_read() -> None:
    assert load_yaml("a: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}\n") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": [{"x": 1}, {"x": 1}]},
    }
    assert load_yaml("") is None


def file_with(content: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return write


def test_json_that_nests_without_end_is_no_json(tmp_path: Path) -> None:
    """Where it is a record of ours, it is treated as every other damaged one."""
    with pytest.raises(ValueError, match="it nests too deeply"):
        parsed_json(DEEP)
    deep: Any = sealed({"a": 1})
    for _ in range(5000):
        deep = {"a": deep}
    assert not is_sealed(deep)
    write = file_with(DEEP)
    with pytest.raises(UserError, match=r"00000\.json: it is no JSON: it nests too deeply"):
        read_marker(write(tmp_path / "00000.json"), Geometry(1, 20, 10, dsap_size=8, shard_rows=32), 2)
    with pytest.raises(UserError, match=r"provenance\.json is not as it was written"):
        recorded_runs(write(tmp_path / "provenance.json").parent)
    with pytest.raises(UserError, match=r"pin\.json is no record of a digest"):
        _pinned(write(tmp_path / "pin.json"))
    with pytest.raises(UserError, match=r"synthetic\.json cannot be read as a synthetic dataset's config"):
        write_dataset(write(tmp_path / "made" / "synthetic.json").parent, SyntheticConfig())
    assert read_inputs(write(tmp_path / "inputs.json").parent)["stamps"] == []
    write(tmp_path / "a.json")
    assert _record(tmp_path / "a", "url") == {}


def test_a_store_whose_metadata_nest_without_end_is_named(tmp_path: Path) -> None:
    write = file_with('{"a":' * 10**5 + "1" + "}" * 10**5)
    write(tmp_path / "a.zarr" / "zarr.json")
    with pytest.raises(UserError, match=r"a\.zarr/zarr\.json is not a store of DenseReID"):
        open_store(tmp_path / "a.zarr")
