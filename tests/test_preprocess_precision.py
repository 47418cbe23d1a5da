"""Arithmetic that a processor should not be asked for, and numbers that it could not hold: errors, never no person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from densepose_samples import TINY, random_state, shapes_of, smooth_noise, weights_at, write_zoo_file

from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.preprocess.densepose import precision as module
from densereid.preprocess.densepose.network import load_densepose
from densereid.preprocess.densepose.precision import (
    check_finite,
    check_precision,
    processor_has_bf16,
    resolve_precision,
    tell_precision,
)  # fmt: skip
from densereid.preprocess.estimators.densepose import DenseposeEstimator, open_densepose
from densereid.preprocess.images import Crop


def crop(seed: int = 0) -> Crop:
    return Crop(ImageRecord(f"a/{seed}.jpg", 1, 1, Split.TRAIN), smooth_noise(seed, (64, 32)))


@pytest.mark.parametrize(("has_bf16", "remedy"), [(True, "use PRECISION=bf16, which"), (False, "use PRECISION=fp32; ")])
def test_fp16_on_a_cpu_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_bf16: bool, remedy: str) -> None:
    """Before anything is looked for or downloaded."""
    monkeypatch.setattr(module, "processor_has_bf16", lambda: has_bf16)
    with pytest.raises(UserError, match="PRECISION=fp16 was asked for on a CPU, where it is several times") as caught:
        open_densepose(
            str(tmp_path / "no.pkl"), device="cpu", mode="crop", short_edge=32, precision="fp16", compiled=False,
            notify=print,
        )  # fmt: skip
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("estimator", "device", "has_bf16", "expected"),
    [
        ("embedded", "cpu", True, "bf16"), ("embedded", "cpu", False, "fp32"), ("embedded", "cuda:1", True, "fp32"),
        ("densepose", "cpu", True, "fp32"), ("detectron2", "cpu", True, "fp32"),
    ],
)  # fmt: skip
def test_auto_is_bf16_for_our_own_weights_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, estimator: str, device: str, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(module, "processor_has_bf16", lambda: has_bf16)
    assert resolve_precision("auto", estimator, device) == expected
    for asked in ("fp32", "bf16", "fp16"):
        assert resolve_precision(asked, estimator, device) == asked


def test_bf16_is_offered_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    for has_bf16 in (True, False):
        monkeypatch.setattr(module, "processor_has_bf16", lambda has=has_bf16: has)
        for precision in ("fp32", "bf16"):
            tell_precision("cpu", precision, told.append)
    assert [note.partition(":")[0] for note in told] == [
        "this processor has instructions for bf16", "this processor has no instructions for bf16",
    ]  # fmt: skip
    assert "PRECISION=bf16 is up to twice as fast" in told[0]
    check_precision("cuda:0", "fp16")
    tell_precision("cuda:0", "fp16", told.append)
    assert len(told) == 2


def test_bf16_is_offered_only_once_there_is_a_network_to_use_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "processor_has_bf16", lambda: True)
    told: list[str] = []

    def opened(name: str) -> None:
        open_densepose(
            name, device="cpu", mode="crop", short_edge=32, precision="fp32", compiled=False, notify=told.append
        )

    for name in ("R_50_FPN_WC9", str(tmp_path / "none.pkl"), str(tmp_path / "damaged.pkl")):
        (tmp_path / "damaged.pkl").write_bytes(b"no pickle")
        with pytest.raises(UserError):
            opened(name)
    assert told == []
    opened(str(write_zoo_file(tmp_path / "tiny.pkl", random_state(shapes_of(TINY), seed=0))))
    assert ["instructions for bf16" in line for line in told] == [True]


def test_what_torch_says_of_the_processor_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": False, "avx2": True}, False),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert processor_has_bf16() is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert processor_has_bf16() is False  # an older torch cannot tell


@pytest.fixture
def overflowing(tmp_path: Path) -> DenseposeEstimator:
    """Weights whose charts fp32 holds and fp16 does not: they find a body in the one."""
    state = random_state(shapes_of(TINY), seed=0)
    for name in ("ann_index", "index_uv"):
        state[f"roi_heads.densepose_predictor.{name}_lowres.weight"] *= 1e6
    load_densepose.cache_clear()
    path = write_zoo_file(tmp_path / "large.pkl", state)
    return DenseposeEstimator(weights_at(path), TINY, "cpu", 32, "fp32")


def test_charts_that_overflow_are_an_error_that_names_the_precision(overflowing: DenseposeEstimator) -> None:
    for precision in ("fp32", "bf16"):
        assert replace(overflowing, precision=precision).estimate([crop()], (32, 16)).iuv[..., 0].any()
    with pytest.raises(UserError) as caught:
        replace(overflowing, precision="fp16").estimate([crop(1)], (32, 16))
    assert "DensePose with PRECISION=fp16 and" in caught.value.problem
    assert "large.pkl gives NaN or infinity in its charts for a/1.jpg" in caught.value.problem
    assert "use PRECISION=fp32, or bf16, whose range is as wide" in caught.value.remedy


def test_charts_that_not_even_fp32_holds_are_the_weights_fault(tmp_path: Path) -> None:
    state = random_state(shapes_of(TINY), seed=0)
    state["roi_heads.densepose_head.body_conv_fcn8.weight"] *= 1e10
    state["roi_heads.densepose_predictor.u_lowres.weight"] *= 1e35
    path = write_zoo_file(tmp_path / "huge.pkl", state)
    load_densepose.cache_clear()
    with pytest.raises(UserError, match=r"PRECISION=fp32 and .*huge.pkl gives NaN(.|\n)*weights are damaged or of a"):
        DenseposeEstimator(weights_at(path), TINY, "cpu", 32, "fp32").estimate([crop()], (32, 16))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_number_that_is_not_finite_is_enough(value: float) -> None:
    check_finite([torch.zeros(3), torch.empty(0)], "charts")
    with pytest.raises(FloatingPointError, match=r"^charts$"):
        check_finite([torch.zeros(3), torch.tensor([0, value, 0])], "charts")
