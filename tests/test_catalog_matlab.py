"""MATLAB 5 files: structs as dictionaries, and clear errors for what is no such file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.matlab import read_matlab


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
