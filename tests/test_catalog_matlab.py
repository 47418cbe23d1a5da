"""MATLAB 5 files: structs as dictionaries, and clear errors for what is no such file or ends its reader."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.matlab import reading_process
from densereid.data_catalog.files.matlab.reading_process import encoded
from densereid.data_catalog.files.matlab.variables import _decoded, open_matlab, read_matlab


def test_structs_come_as_dictionaries_and_vectors_flat(tmp_path: Path) -> None:
    path = tmp_path / "attribute.mat"
    index = np.array(["0002", "0007"], dtype=object)
    scipy.io.savemat(path, {"attribute": {"train": {"hat": np.array([[1, 2]]), "image_index": index}}, "one": 3})
    found = read_matlab(path)
    assert set(found) == {"attribute", "one"}
    assert found["one"] == 3
    np.testing.assert_array_equal(found["attribute"]["train"]["hat"], [1, 2])
    assert list(found["attribute"]["train"]["image_index"]) == ["0002", "0007"]


def test_a_missing_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.mat is not there"):
        read_matlab(tmp_path / "absent.mat")
    foreign = tmp_path / "foreign.mat"
    foreign.write_bytes(b"not matlab" * 20)
    with pytest.raises(UserError, match=r"foreign\.mat cannot be read as a MATLAB 5 file"):
        read_matlab(foreign)


CELLS = np.array([np.array(["a", "früh"], object), np.ones(3), "text"], object)


def plain(value: Any) -> str:
    """What a value is, arrays with types and shapes; a list is an array of objects."""
    if isinstance(value, dict):
        return repr({name: plain(each) for name, each in value.items()})
    if isinstance(value, list | np.ndarray):
        array = np.array(value, object if isinstance(value, list) else None)
        return f"{array.dtype} {array.shape} {[plain(each) for each in array.ravel().tolist()]}"
    return repr(value)


@pytest.mark.parametrize(
    "value",
    [
        3, -2.5, np.nan, np.inf, "früh", "", np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 2)), CELLS,
        np.array([2**63], np.uint64), np.array([[True], [False]]), {"a": {"b": np.ones(2, np.float32)}, "c": CELLS},
        np.array([{"a": 1}, {"a": "b"}], object), np.array(["ab", "cd"]),
    ],
)  # fmt: skip
def test_the_process_answers_what_scipy_reads(value: Any) -> None:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"value": value})
    expected = scipy.io.loadmat(io.BytesIO(buffer.getvalue()), simplify_cells=True)["value"]
    found = _decoded(json.loads(json.dumps(encoded(expected))))
    assert plain(found) == plain(expected)


def test_what_is_no_number_and_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="it holds a value of type complex128; expected numbers, text"):
        encoded(np.array([1j]))


def test_a_file_that_ends_or_fills_the_process_that_reads_it_is_named(tmp_path: Path) -> None:
    """The dimensions of a matrix without a length: scipy reads memory that is not its own."""
    scipy.io.savemat(tmp_path / "a.mat", {"attribute": {"train": {"hat": np.ones(2)}}})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    length = content.rindex(b"\x05\0\0\0\x08\0\0\0") + 4
    for wrong in (0, 14):
        content[length] = wrong
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.mat cannot be read as a MATLAB 5 file: .*\nget the file again"):
            read_matlab(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os; os.abort()", r"it ends the process that reads it \(SIGABRT\)"),
        ("import time; time.sleep(60)", "reading it took more than 0.5 seconds"),
        ("raise ImportError('no scipy')", "the process that reads it failed: ImportError: no scipy"),
    ],
)
def test_whatever_becomes_of_the_process_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    (tmp_path / "process.py").write_text(script)
    (tmp_path / "a.mat").touch()
    monkeypatch.setattr(reading_process, "__file__", str(tmp_path / "process.py"))
    monkeypatch.setattr(reading_process, "SECONDS", 0.5 if "sleep" in script else 60)
    with pytest.raises(UserError, match=rf"a\.mat cannot be read as a MATLAB 5 file: {words}"):
        read_matlab(tmp_path / "a.mat")


def test_memory_and_answer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"a": np.zeros(1000, np.uint8)}, do_compression=True)
    monkeypatch.setattr(reading_process, "_LONGEST_ANSWER", 100)
    assert json.loads(reading_process._answer(buffer.getvalue())) == {"error": "it holds more than a dataset has"}
    monkeypatch.setattr(scipy.io, "loadmat", lambda *_, **__: np.zeros(2**50))
    assert "memory" in json.loads(reading_process._answer(b""))["error"]


@pytest.mark.parametrize(
    "dataset",
    [{"shape": (2,), "dtype": h5py.string_dtype()}, {"shape": (2**20, 2**20, 3), "dtype": "u1", "chunks": True}],
)
def test_what_is_no_picture_is_not_read(tmp_path: Path, dataset: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("labeled", **dataset)
    with (
        open_matlab(tmp_path / "a.mat") as read,
        pytest.raises(UserError, match=r"a\.mat: labeled cannot be read: it holds shape .*; expected a picture"),
    ):
        read("labeled")
