"""Files that people have instead of a checkpoint, or that say it otherwise: read where nothing runs, else named."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import weights_at

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.checkpoints import read_checkpoint


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(weights_at(path))


def pickled(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_with_numpy_in_it_is_read(tmp_path: Path, zipped: bool) -> None:
    content = {"model": {"a": np.arange(6.0).reshape(2, 3), "b": torch.ones(2)}, "best": np.float64(0.5)}
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    state = read(tmp_path / "model.pth")
    assert state["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert state["b"].tolist() == [1, 1]


def test_a_plain_pickle_is_read_whatever_it_is_called_and_its_tensors_too(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict() | {"turned": torch.arange(6).reshape(2, 3).t()[1:]}
    assert read(pickled(tmp_path / "model.pth", {"model": {"a": np.zeros(2)}}))["a"].shape == (2,)
    found = read(pickled(tmp_path / "model.pkl", {"model": state, "scheduler": {"lr": np.float64(1)}}))
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", r"it is a web page \(HTML\), as a login or an error page is"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "it is a pointer of Git LFS"),
        (b"\x10" + bytes(7) + b'{"a": {}}', "it is a safetensors file"),
        (b"\x1f\x8b\x08\x00", "it is compressed"),
        (b"PK\x03\x04" + bytes(100), "its end is missing"),
        (b"hello", r"it is no pickle, or a damaged one \("),
    ],
)
def test_what_a_file_is_instead_is_said(tmp_path: Path, content: bytes, reason: str) -> None:
    for name in ("model.pkl", "model.pth"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            UserError, match=rf"{name} \({len(content)} bytes\) cannot be read as a checkpoint: {reason}"
        ):
            read(tmp_path / name)


class _Runs:
    def __reduce__(self) -> Any:
        return subprocess.run, ("true",)


def test_torchs_advice_to_switch_safety_off_is_not_passed_on(tmp_path: Path) -> None:
    """Nor its terminal escapes, nor half a sentence of it."""
    torch.save({"model": {"a": _Runs()}}, tmp_path / "hostile.pth")
    torch.save({"model": {}}, tmp_path / "half.pth", _use_new_zipfile_serialization=False)
    half = (tmp_path / "half.pth").read_bytes()
    for length in range(1, len(half) - 1, 5):
        (tmp_path / "half.pth").write_bytes(half[:length])
        for name in ("hostile.pth", "half.pth"):
            with pytest.raises(UserError) as caught:
                read(tmp_path / name)
            words = str(caught.value)
            assert not [word for word in ("weights_only", "safe_globals", "trusted", "\x1b") if word in words]
