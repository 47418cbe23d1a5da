"""Checkpoints: read without running what is in them, told apart by their keys; clear words where something is wrong."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import TINY, random_state, shapes_of, weights_at, write_zoo_file, zoo_architectures

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.checkpoints import (
    Architecture,
    architecture_of,
    check_keys,
    open_checkpoint,
    read_checkpoint,
)
from densereid.preprocess.densepose.network import DenseposeNetwork


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(weights_at(path))


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "a.weight": generator.standard_normal((3, 4)).astype(np.float32),
        "a.by_columns": np.asfortranarray(generator.standard_normal((3, 4, 2))),
        "a.big_endian": np.arange(5, dtype=">i4"),
        "a.half": np.arange(5, dtype=np.float16),
        "a.flags": np.array([True, False]),
        "a.count": np.array(7),
        "a.scalar": np.float32(2.5),
        "a.empty": np.empty((0, 3), np.float32),
    }


def zoo_file(path: Path, content: Any = None, protocol: int = 2) -> Path:
    model = {"model": arrays(), "__author__": "nobody"} if content is None else content
    path.write_bytes(pickle.dumps(model, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_arrays_is_read_whatever_its_protocol(tmp_path: Path, protocol: int) -> None:
    state = read(zoo_file(tmp_path / "model.pkl", protocol=protocol))
    assert list(state) == list(arrays())
    for key, expected in arrays().items():
        np.testing.assert_array_equal(state[key].numpy(), expected)
        assert state[key].dtype == torch.from_numpy(np.array(expected).astype(expected.dtype.newbyteorder("="))).dtype


def test_a_pickle_written_with_numpy_1_and_python_2_is_read(tmp_path: Path) -> None:
    """Numpy 1 said numpy.core; Python 2 wrote bytes as text of 8 bits."""
    content = pickle.dumps({"model": {"a": np.arange(3.0)}}, protocol=2)
    (tmp_path / "old.pkl").write_bytes(content.replace(b"numpy._core.", b"numpy.core."))
    assert read(tmp_path / "old.pkl")["a"].tolist() == [0, 1, 2]
    raw = np.arange(200, 203, dtype=np.float64).tobytes()
    python2 = (
        b"\x80\x02}U\x05model}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbss."
    )
    (tmp_path / "python2.pkl").write_bytes(python2)
    assert read(tmp_path / "python2.pkl")["a"].tolist() == [200, 201, 202]


def test_a_state_dict_with_its_metadata_is_read(tmp_path: Path) -> None:
    state = OrderedDict(torch.nn.Linear(2, 3).state_dict())
    converted = OrderedDict((f"module.{key}", value.numpy()) for key, value in state.items())
    converted._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    found = read(zoo_file(tmp_path / "model.pkl", {"model": converted}))
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_torch_checkpoint_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    for name, content in (("a.pth", {"model": state, "iteration": 9}), ("b.pth", state), ("c.pkl", state)):
        torch.save(content, tmp_path / name)
        assert all(torch.equal(read(tmp_path / name)[key], state[key]) for key in state)


class _Runs:
    """Unpickles by a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, r"(posix|nt)\.system"),
        (eval, r"builtins\.eval"),
        (getattr, r"builtins\.getattr"),
        (subprocess.check_output, r"subprocess\.check_output"),
        (np.load, r"numpy\.load"),
        (np.frombuffer, r"numpy.*frombuffer"),
        (torch.load, r"torch.*load"),
    ],
)
def test_a_hostile_pickle_is_refused_by_name_and_not_run(
    tmp_path: Path, function: Callable[..., Any], name: str
) -> None:
    hostile = _Runs(function, f"touch {tmp_path / 'ran'}")
    for position in ({"model": {"a": hostile}}, {"model": arrays(), "__author__": hostile}, hostile):
        with pytest.raises(UserError, match=f"asks for {name}, which a checkpoint does not need; it was not run"):
            read(zoo_file(tmp_path / "hostile.pkl", position, 4))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "values", [np.array([_Runs(os.getpid)], object), np.array(["text"]), np.zeros(2, [("x", "f4")]), np.zeros(2, "M8")]
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"an array of numpy type|asks for"):
        read(zoo_file(tmp_path / "model.pkl", {"model": {"a": values}}))


def test_a_hostile_torch_file_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"a": _Runs(os.system, f"touch {tmp_path / 'ran'}")}}, tmp_path / "hostile.pth")
    with pytest.raises(UserError, match=r"hostile\.pth asks for posix\.system, which a checkpoint does not need"):
        read(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.pkl", "model.pth"])
def test_a_truncated_file_is_told_so_at_any_length(tmp_path: Path, name: str) -> None:
    whole = tmp_path / name
    if name.endswith(".pkl"):
        zoo_file(whole)
    else:
        torch.save(torch.nn.Linear(20, 30).state_dict(), whole)
    content = whole.read_bytes()
    for length in sorted({0, 1, 2, *range(3, len(content) - 1, 97), len(content) - 1}):
        whole.write_bytes(content[:length])
        with pytest.raises(UserError, match=rf"{name} \({length} bytes\) cannot be read(.|\n)*get it again"):
            read(whole)


def test_a_broken_pickle_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    """Every byte of a small file overwritten in turn: read, or refused with a UserError."""
    content = pickle.dumps({"model": {"a": np.arange(2, dtype=np.float32)}}, protocol=2)
    generator = np.random.default_rng(0)
    path = tmp_path / "broken.pkl"
    refused = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] = generator.integers(256)
        path.write_bytes(bytes(changed))
        try:
            read(path)
        except UserError:
            refused += 1
    assert refused > len(content) // 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a checkpoint"),
        ({"model": {"a": "text"}}, "'a' is a str; a checkpoint holds named arrays only"),
        ({"model": {1: np.zeros(2)}}, "1 is a Tensor"),
        ({"blobs": {"conv1_w": np.zeros(2)}}, r"model of the old Detectron \(Caffe2\)(.|\n)*use a model of Detectron2"),
    ],
)
def test_something_else_than_a_checkpoint_is_told_so(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(zoo_file(tmp_path / "model.pkl", content))


@torch.inference_mode()
@pytest.mark.parametrize(("name", "architecture"), zoo_architectures().items())
def test_every_published_architecture_is_told_from_its_keys_and_runs(name: str, architecture: Architecture) -> None:
    assert architecture.name == f"densepose_rcnn_{name}"
    small = replace(architecture, width=16)
    with torch.device("meta"):  # shapes alone: of each kind there is a recording of the real one, in another test
        network = DenseposeNetwork(small).to("meta")
        charts = network(torch.ones(1, 3, 32, 32))
    state = network.state_dict()
    assert architecture_of(state, Path("model.pkl")) == small
    assert [chart.shape[1] for chart in charts] == [architecture.coarse_channels, 25, 25, 25]
    confident = {key.split(".")[2] for key in state if key.startswith("roi_heads.densepose_predictor")} - _CHARTS
    assert len(confident) == _CONFIDENCES[architecture.uv_confidence] + 2 * architecture.segm_confidence


_CHARTS = {f"{name}_lowres" for name in ("ann_index", "index_uv", "u", "v")}
_CONFIDENCES = {"": 0, "iid_iso": 1, "indep_aniso": 3}


def test_a_checkpoint_of_something_else_is_told_so() -> None:
    with pytest.raises(UserError, match=r"x\.pkl is not a DensePose chart model of a ResNet-50 or -101: 0 blocks"):
        architecture_of({"conv1.weight": torch.zeros(1)}, Path("x.pkl"))
    for width in (0, 24):
        odd = shapes_of(Architecture(50)) | {"backbone.bottom_up.stem.conv1.weight": torch.zeros(width, 3, 7, 7)}
        with pytest.raises(UserError, match=f"6 blocks in res4, {width} channels in the stem, 8 arrays of a chart"):
            architecture_of(odd, Path("x.pkl"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_mean": torch.tensor([123.675, 116.28, 103.53])}, r"has pixel_mean \[123.675, 116.28, 103.53\], the"),
        ({"pixel_std": torch.tensor([57.375, 57.12, 58.395])}, r"has pixel_std \[57.375, 57.12, 58.395\], the"),
        ({"pixel_mean": torch.zeros(1)}, r"has pixel_mean \[0.0\], the published models have \[103.53, 116.28"),
        ({"backbone.fpn_lateral2.bias": torch.full((64,), torch.nan)}, "NaN or infinity in 1 of .*fpn_lateral2.bias"),
        ({"proposal_generator.x": torch.tensor([torch.inf])}, "NaN or infinity in 1 of .* proposal_generator.x"),
    ],
)
def test_other_pixels_and_broken_numbers_are_refused(
    tmp_path: Path, changes: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_checkpoint(write_zoo_file(tmp_path / "model.pkl", random_state(shapes_of(TINY), seed=0) | changes))


def test_a_checkpoint_is_opened_once_and_then_taken(tmp_path: Path) -> None:
    usual = {"pixel_mean": torch.tensor([[[103.53]], [[116.28]], [[123.675]]]), "pixel_std": torch.ones(3, 1, 1)}
    path = write_zoo_file(tmp_path / "model.pkl", random_state(shapes_of(TINY), seed=0) | usual)
    found = open_checkpoint(path)
    weights = weights_at(path)
    assert (found.sha256, found.architecture) == (weights.sha256, TINY)
    path.rename(tmp_path / "away.pkl")
    assert read_checkpoint(weights).keys() >= usual.keys()
    with pytest.raises(UserError, match=r"the weights .* cannot be read: No such file"):
        read_checkpoint(weights)


def test_wrong_keys_are_named() -> None:
    wanted = {"a": torch.zeros(2), "b": torch.zeros(3), "pixel_mean": torch.zeros(3)}
    check_keys({"a": torch.zeros(2), "b": torch.zeros(3)}, wanted, Path("x.pkl"))
    with pytest.raises(UserError, match=r"1 missing: b; 1 not known: c; 1 misshapen: a \(5,\) instead of \(2,\)"):
        check_keys({"a": torch.zeros(5), "c": torch.zeros(1)}, wanted, Path("x.pkl"))
    with_a_detector = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}
    check_keys(with_a_detector, wanted, Path("x.pkl"), ignored=("c", "d"))


def test_reading_weights_imports_no_more_than_torch_and_numpy(tmp_path: Path) -> None:
    path = zoo_file(tmp_path / "model.pkl")
    code = (
        "import sys; from pathlib import Path; from densereid.preprocess.densepose.checkpoints import read_checkpoint; "
        "from densereid.preprocess.densepose.weights import Weights; "
        f"read_checkpoint(Weights(Path({str(path)!r}), {weights_at(path).sha256!r})); "
        "print([name for name in ('detectron2', 'densepose', 'fvcore') if name in sys.modules])"
    )
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
