"""Which estimator ESTIMATOR=auto takes, and what the embedded one refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.errors import UserError
from densereid.pipeline.estimators import choose_estimator, choose_precision, resolve_estimator
from densereid.pipeline.settings import defaults
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import make_store
from densereid.preprocess.densepose.zoo import ZOO


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("densereid.preprocess.densepose.detectron2_network.missing", lambda: "no module detectron2")


@pytest.fixture
def request_(tmp_path: Path) -> StoreRequest:
    """Of a folder of three crops, without IUV maps."""
    (tmp_path / "crops").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "crops" / f"{index}.png")
    return StoreRequest(
        "folder", tmp_path / "crops", tmp_path / "stores", "zarr", (64, 32), 32, "last",
        device="cpu", workers=0, shard_rows=32,
    )  # fmt: skip


@pytest.fixture
def dataset(request_: StoreRequest) -> Dataset:
    return find_dataset("folder", request_.data_root)


def _put_weights_at_hand() -> None:
    cached = ZOO[defaults().weights].cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(b"")


def test_auto_is_iuv_maps_then_densepose_at_hand_then_embedded(request_: StoreRequest, dataset: Dataset) -> None:
    name, why = resolve_estimator(request_, dataset)
    assert name == "embedded"
    for words in ("neither IUV maps nor weights", "trained on rendered people", "ESTIMATOR=densepose downloads"):
        assert words in why
    _put_weights_at_hand()
    assert resolve_estimator(request_, dataset) == (
        "densepose",
        f"there are no IUV maps, and the weights {defaults().weights} are at hand",
    )
    with_maps = replace(dataset, iuv_root=dataset.root)
    assert resolve_estimator(request_, with_maps) == ("iuv", f"IUV maps exist in {dataset.root}")


@pytest.mark.parametrize("change", [{"weights": "R_101_FPN_s1x"}, {"mode": "detect"}, {"short_edge": 99}])
def test_auto_is_densepose_where_something_of_it_is_asked_for(
    request_: StoreRequest, dataset: Dataset, change: dict[str, object]
) -> None:
    name, why = resolve_estimator(replace(request_, **change), dataset)  # type: ignore[arg-type]
    assert (name, why) == ("densepose", f"there are no IUV maps, and {next(iter(change)).upper()} asked for")


def test_a_store_keeps_the_estimator_that_made_it(request_: StoreRequest, dataset: Dataset) -> None:
    store, failures = make_store(request_)
    assert failures == 0
    assert store.attributes["estimator"]["name"] == "embedded"
    _put_weights_at_hand()
    assert resolve_estimator(request_, dataset) == ("embedded", "the store that is there was made with it")
    Image.fromarray(np.zeros((64, 32, 3), np.uint8)).save(dataset.root / "3.png")
    assert make_store(request_)[0].geometry.num_samples == 4
    maps = dataset.root.parent / "maps"
    maps.mkdir()
    for path in dataset.root.iterdir():
        Image.fromarray(np.zeros((64, 32, 3), np.uint8)).save(maps / path.name)
    with pytest.raises(UserError, match="created with different settings"):
        make_store(replace(request_, estimator="iuv", iuv_root=maps, iuv_order="vui"))


def test_an_arithmetic_is_of_any_network_and_stands_in_the_store(request_: StoreRequest, dataset: Dataset) -> None:
    faster = replace(request_, precision="bf16")
    assert resolve_estimator(faster, dataset)[0] == "embedded"
    store, _ = make_store(faster)
    assert store.attributes["estimator"]["precision"] == "bf16"
    with pytest.raises(UserError, match="created with different settings"):
        make_store(replace(request_, precision="fp32"))


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ({"name": "embedded", "precision": "fp32"}, "fp32"),
        ({"name": "densepose", "precision": "fp32"}, "bf16"),
        ({"name": "embedded", "precision": ["fp32"]}, "bf16"),
        ({"name": "embedded"}, "bf16"),
        ({}, "bf16"),
    ],
)
def test_auto_precision_is_that_of_a_store_of_the_same_network(
    request_: StoreRequest, monkeypatch: pytest.MonkeyPatch, recorded: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr("densereid.pipeline.estimators._recorded", lambda _: recorded)
    monkeypatch.setattr("densereid.preprocess.densepose.precision.processor_has_bf16", lambda: True)
    assert choose_precision(request_, "embedded", "cpu") == expected
    assert choose_precision(replace(request_, precision="fp16"), "embedded", "cpu") == "fp16"


def test_a_store_keeps_its_precision_on_another_processor(
    request_: StoreRequest, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, has_bf16 in enumerate((True, False)):
        monkeypatch.setattr("densereid.preprocess.densepose.precision.processor_has_bf16", lambda has=has_bf16: has)
        Image.fromarray(np.zeros((64, 32, 3), np.uint8)).save(dataset.root / f"another{index}.png")
        store, failures = make_store(request_)
        assert (failures, store.geometry.num_samples) == (0, 4 + index)
        assert store.attributes["estimator"]["precision"] == "bf16"
        assert "device cpu (asked for), bf16; store" in capsys.readouterr().err


def test_what_is_densepose_s_alone_is_refused(request_: StoreRequest, dataset: Dataset) -> None:
    asked = replace(request_, estimator="embedded", mode="detect", short_edge=99)
    with pytest.raises(UserError, match="ESTIMATOR=embedded has no MODE and no SHORT_EDGE: it takes every crop whole"):
        choose_estimator(asked, dataset, "cpu")
    with pytest.raises(UserError, match=r"the weights .*other.safetensors cannot be used: .*No such file"):
        choose_estimator(replace(request_, estimator="embedded", weights="other.safetensors"), dataset, "cpu")
    with pytest.raises(UserError, match="ESTIMATOR=embedded has no PRECISION=fp16"):
        choose_estimator(replace(request_, estimator="embedded", precision="fp16"), dataset, "cpu")
    with pytest.raises(UserError, match="unknown estimator 'dense'"):
        resolve_estimator(replace(request_, estimator="dense"), dataset)
