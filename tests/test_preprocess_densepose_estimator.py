"""ESTIMATOR=densepose as a user meets it: one store whatever the threads and workers, clear words for bad files."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import TINY, Hostile, random_state, shapes_of, smooth_noise, write_zoo_file
from helpers import contents
from PIL import Image

from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import open_store
from densereid.pipeline.estimators import choose_estimator
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import make_store
from densereid.preprocess.densepose.batching import network_input
from densereid.preprocess.densepose.checkpoints import DETECTOR_KEYS
from densereid.preprocess.densepose.decode import ChartScores, decode_charts
from densereid.preprocess.densepose.network import DenseposeNetwork, load_densepose
from densereid.preprocess.densepose.zoo import ZOO, PublishedWeights
from densereid.preprocess.estimators.densepose import DenseposeEstimator, open_densepose
from densereid.preprocess.images import Crop

SIZE = (64, 32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    load_densepose.cache_clear()
    yield
    load_densepose.cache_clear()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of random weights, with a detector, as the model zoo writes them."""
    state = random_state(shapes_of(TINY), seed=0) | {key: torch.zeros(2) for key in DETECTOR_KEYS}
    return write_zoo_file(tmp_path_factory.mktemp("weights") / "tiny.pkl", state)


def opened(path: Path | str, **changes: Any) -> DenseposeEstimator:
    settings = {"mode": "crop", "short_edge": 40, "precision": "fp32", "compiled": False, "device": "cpu", **changes}
    return open_densepose(str(path), notify=lambda _: None, **settings)


def crops_of(*sizes: tuple[int, int]) -> list[Crop]:
    records = [ImageRecord(f"{index}.jpg", 1, 1, Split.TRAIN) for index in range(len(sizes))]
    return [Crop(record, smooth_noise(index, sizes[index])) for index, record in enumerate(records)]


MIXED = crops_of((128, 64), (90, 41), (128, 64), (57, 60), (128, 64), (64, 32))


def request_for(root: Path, **changes: Any) -> StoreRequest:
    settings = {"estimator": "auto", "store_root": root / "stores", "workers": 0, "shard_rows": 32, "short_edge": 32}
    return StoreRequest(
        dataset="folder", data_root=root, store="zarr", size=(64, 32), dsap_size=32, collision="last", iuv_root=None,
        iuv_order="auto", pattern=None, device="cpu", **(settings | changes),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 66 crops of three sizes, without IUV maps: three shards."""
    (tmp_path / "crops").mkdir()
    for index in range(66):
        size = ((64, 32), (50, 40), (90, 41))[index % 3]
        Image.fromarray(smooth_noise(index, size)).save(tmp_path / "crops" / f"{index:04d}.png")
    return tmp_path / "crops"


@torch.inference_mode()
def test_every_crop_gets_the_chart_of_its_own_image(checkpoint: Path) -> None:
    charts = opened(checkpoint).estimate(MIXED, SIZE)
    network = DenseposeNetwork(TINY)
    network.load_state_dict(random_state(shapes_of(TINY), seed=0))
    for index, crop in enumerate(MIXED):
        height, width = crop.pixels.shape[:2]
        inner = (round(40 * height / min(height, width)), round(40 * width / min(height, width)))
        iuv, score = decode_charts(ChartScores(*network(network_input([crop], inner, "cpu"))), SIZE)
        assert (charts.iuv[index] == iuv[0]).all(dim=-1).float().mean() > 0.995
        np.testing.assert_allclose(charts.score[index], score[0], rtol=1e-4)
        np.testing.assert_array_equal(charts.box[index], [0, 0, width, height])
    assert charts.failures == {}
    assert len(charts.iuv.unique(dim=0)) == len(MIXED)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bytes_depend_neither_on_the_threads_nor_on_the_other_crops(checkpoint: Path, precision: str) -> None:
    estimator = opened(checkpoint, precision=precision)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(estimator.estimate(MIXED, SIZE))
            parts = [estimator.estimate(MIXED[start : start + 2], SIZE) for start in (0, 2, 4)]
            results.append(estimator.estimate(MIXED[::-1], SIZE))
            for name in ("iuv", "score"):
                whole = np.asarray(getattr(results[0], name))
                np.testing.assert_array_equal(getattr(results[-2], name), whole)
                np.testing.assert_array_equal(getattr(results[-1], name), whole[::-1])
                np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), whole)
    finally:
        torch.set_num_threads(before)
    assert results[0].iuv[..., 0].any()


def test_this_process_and_a_worker_make_the_same_store(checkpoint: Path, folder: Path) -> None:
    before = torch.get_num_threads()
    stores = {}
    try:
        for workers, threads in ((0, 3), (1, 1)):
            torch.set_num_threads(threads)
            place = folder.parent / f"stores-{workers}-{threads}"
            request = request_for(
                folder, estimator="densepose", weights=str(checkpoint), workers=workers, store_root=place
            )
            store, failed = make_store(request)
            assert failed == 0
            stores[workers, threads] = contents(store.path)
    finally:
        torch.set_num_threads(before)
    assert stores[0, 3] == stores[1, 1]
    attributes = open_store(request.path()).attributes["estimator"]
    assert attributes["name"] == "densepose"
    assert attributes["config"] == "densepose_rcnn_R_50_FPN_s1x_width16"


def test_settings_are_all_that_changes_the_result(checkpoint: Path) -> None:
    estimator = opened(checkpoint)
    assert pickle.loads(pickle.dumps(estimator)) == estimator
    plain = estimator.settings()
    assert plain == {
        "config": TINY.name,
        "weights_sha256": estimator.weights.sha256,
        "mode": "crop",
        "short_edge": 40,
        "precision": "fp32",
    }
    changes: list[dict[str, Any]] = [{"short_edge": 800}, {"precision": "bf16"}, {"compiled": True}]
    for change in [*changes, {"architecture": replace(TINY, depth=101)}]:
        assert replace(estimator, **change).settings() != plain
    assert replace(estimator, device="cuda:0").settings() == plain


def test_auto_is_detectron2_then_densepose_where_something_of_it_is_asked_for_or_names_embedded(
    folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = find_dataset("folder", folder)
    request = request_for(folder, weights=str(checkpoint))
    monkeypatch.setattr("densereid.preprocess.densepose.detectron2_network.missing", lambda: "no module detectron2")
    chosen, why = choose_estimator(request, dataset, "cpu")
    assert (chosen, why) == (
        opened(checkpoint, short_edge=32),
        "there are no IUV maps, and WEIGHTS and SHORT_EDGE asked for",
    )
    assert choose_estimator(replace(request, estimator="densepose"), dataset, "cpu") == (chosen, "asked for")
    monkeypatch.setattr("densereid.preprocess.densepose.detectron2_network.missing", lambda: None)
    monkeypatch.setattr("densereid.preprocess.estimators.detectron2.open_detectron2", lambda *_, **__: "detectron2's")
    assert choose_estimator(request, dataset, "cpu")[0] == "detectron2's"
    monkeypatch.setattr("densereid.preprocess.densepose.detectron2_network.missing", lambda: "no module detectron2")
    monkeypatch.setitem(ZOO, "far", PublishedWeights("config", "http://127.0.0.1:9/model.pkl"))
    for change, problem in (
        ({"weights": "far"}, "config are not on this machine, and downloading them failed"),
        ({"mode": "detect"}, "MODE=detect was asked for"),
    ):
        with pytest.raises(UserError) as caught:
            choose_estimator(replace(request, **change), dataset, "cpu")
        assert problem in caught.value.problem
        assert "Or take ESTIMATOR=embedded" in caught.value.remedy


def test_a_hostile_pickle_is_refused_and_not_run(checkpoint: Path, tmp_path: Path) -> None:
    content = pickle.loads(checkpoint.read_bytes())
    content["model"]["backbone.extra"] = Hostile(tmp_path / "ran")
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"hostile\.pkl asks for (posix|nt)\.system"):
        opened(tmp_path / "hostile.pkl")
    assert not (tmp_path / "ran").exists()


def test_a_truncated_and_a_changed_file_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    (tmp_path / "half.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.pkl \(\d+ bytes\) cannot be read(.|\n)*get it again"):
        opened(tmp_path / "half.pkl")
    path = tmp_path / "mine.pkl"
    path.write_bytes(whole)
    first = opened(path)
    write_zoo_file(path, random_state(shapes_of(TINY), seed=1))
    with pytest.raises(UserError, match=r"mine\.pkl has changed: its SHA-256 is (.|\n)*at its first use it was"):
        opened(path)
    load_densepose.cache_clear()
    with pytest.raises(UserError, match="changed while it was in use"):
        first.estimate(MIXED[:1], SIZE)


def without_charts(keys: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in keys.items() if "densepose" not in key and "decoder" not in key}


@pytest.mark.parametrize("kind", ["a detector alone", "CSE", "HRNet", "a wider head"])
def test_a_checkpoint_of_another_architecture_is_told_so(kind: str, tmp_path: Path) -> None:
    state = random_state(shapes_of(TINY), seed=0)
    predictor = "roi_heads.densepose_predictor"
    problem = "is not a DensePose chart model of a ResNet-50 or -101"
    if kind == "a detector alone":
        state = without_charts(state) | {key: torch.zeros(2) for key in DETECTOR_KEYS}
    elif kind == "CSE":
        state = {key: value for key, value in state.items() if not key.startswith(predictor)}
        state[f"{predictor}.embed_lowres.weight"] = torch.zeros(64, 16, 4, 4)
        state["roi_heads.embedder.embedder_smpl_27554.features"] = torch.zeros(10, 256)
    elif kind == "HRNet":
        state = {key: value for key, value in state.items() if not key.startswith("backbone.bottom_up.res")}
        state["backbone.bottom_up.stage2.0.branches.0.0.conv1.weight"] = torch.zeros(8, 8, 3, 3)
    else:
        state["roi_heads.densepose_head.body_conv_fcn8.weight"] = torch.zeros(256, 128, 3, 3)
        problem = r"does not fit the network \(1 misshapen: roi_heads.densepose_head.body_conv_fcn8.weight"
    with pytest.raises(UserError, match=rf"model\.pkl {problem}"):
        opened(write_zoo_file(tmp_path / "model.pkl", state))


def test_what_cannot_be_asked_for_is_told(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"uses every crop whole; MODE=detect(.|\n)*ESTIMATOR=detectron2"):
        opened(checkpoint, mode="detect")
    with pytest.raises(UserError, match=r"SHORT_EDGE is 0(.|\n)*256"):
        opened(checkpoint, short_edge=0)
    with pytest.raises(UserError, match="COMPILED=1 was asked for on a CPU"):
        opened(checkpoint, compiled=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("compiled", "crops"), [(False, MIXED), (True, MIXED[:3])], ids=["plain", "compiled"]
)  # a network is compiled for every input size: two of them
def test_the_gpu_gives_nearly_the_cpus_charts(checkpoint: Path, compiled: bool, crops: list[Crop]) -> None:
    expected = opened(checkpoint).estimate(crops, SIZE)
    ours = opened(checkpoint, device="cuda:0", compiled=compiled).estimate(crops, SIZE)
    assert (ours.iuv.cpu()[..., 0] == expected.iuv[..., 0]).float().mean() > 0.99
    np.testing.assert_allclose(ours.score, expected.score, atol=1e-2)
