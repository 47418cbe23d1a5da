"""The whole chain on a GPU: photographs in, masks, training, scores and exported networks out, as on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run

import densereid
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import open_store
from densereid.preprocess.embedded.weights import SHA256, WEIGHTS
from densereid.preprocess.estimators.embedded import open_embedded
from densereid.preprocess.images import Crop, read_image

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def _places(folder: Path, synthetic_root: Path) -> dict[str, object]:
    return {"DATA_ROOT": synthetic_root, "STORE_ROOT": folder / "stores", "RUN_ROOT": folder / "runs"}


@pytest.fixture(scope="module")
def stores(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stores of the embedded network's maps, by the device that made them."""
    found = {}
    for device in ("cpu", "cuda"):
        places = _places(tmp_path_factory.mktemp(device), synthetic_root)
        made = run("preprocess", ESTIMATOR="embedded", SIZE="128x64", DEVICE=device, **places)
        assert made.returncode == 0, made.stderr
        found[device] = Path(made.stdout.strip())
    return found


def test_a_gpu_writes_nearly_the_store_of_the_cpu(stores: dict[str, Path]) -> None:
    ours, expected = (open_store(stores[device]) for device in ("cuda", "cpu"))
    np.testing.assert_array_equal(ours.read("path"), expected.read("path"))
    np.testing.assert_array_equal(ours.read("image"), expected.read("image"))
    assert (ours.read("mask") == expected.read("mask")).mean() > 0.99
    assert (np.abs(ours.read("dsap").astype(int) - expected.read("dsap")) <= 8).mean() > 0.97
    np.testing.assert_allclose(ours.read("score"), expected.read("score"), atol=1e-2)


def test_the_embedded_networks_charts_do_not_depend_on_the_batch(stores: dict[str, Path], synthetic_root: Path) -> None:
    store = open_store(stores["cuda"])
    records = densereid.open_dataset(stores["cuda"], "query", arrays=["image"])
    paths = [synthetic_root / "synthetic" / path for path in store.read("path", records.rows[:9])]
    crops = [Crop(None, read_image(path)) for path in paths]  # type: ignore[arg-type]
    estimator = open_embedded("cuda:0")
    assert estimator.weights.sha256 == SHA256, WEIGHTS
    together = estimator.estimate(crops, (128, 64)).iuv
    alone = torch.cat([estimator.estimate([crop], (128, 64)).iuv for crop in crops])
    assert (together[..., 0] == alone[..., 0]).float().mean() > 0.99


@pytest.mark.parametrize("model", ["dsa-reid-small", "magnifiernet-small"])
def test_training_scores_and_exports_on_a_gpu(
    model: str, stores: dict[str, Path], synthetic_root: Path, tmp_path: Path
) -> None:
    """A run in bf16 is evaluated and re-ranked; its folder and exports give the CPU's embeddings."""
    words = {"STORE_PATH": stores["cuda"], "DEVICE": "cuda"}
    trained = run("train", "--set", "precision=bf16-mixed", MODEL=model, EPOCHS=1, RUN_ROOT=tmp_path, **words)
    assert trained.returncode == 0, trained.stderr
    folder = next(path for path in tmp_path.iterdir() if (path / "last.pt").is_file())
    for more in ({}, {"RERANK": "1"}):
        scored = run("evaluate", RUN_FOLDER=folder, DEVICE="cuda", **more)
        assert scored.returncode == 0, scored.stderr
    (kept,) = (folder / "evaluations").glob("*.json")
    assert json.loads(kept.read_text(encoding="utf-8"))
    exported = run("export", RUN_FOLDER=folder, FORMAT="safetensors,torch-export", TO=folder / "network")
    assert exported.returncode == 0, exported.stderr
    store = open_store(stores["cuda"])
    rows = np.flatnonzero(store.read("split") == Split.QUERY)[:5]
    files = [synthetic_root / "synthetic" / path for path in store.read("path", rows)]
    expected = densereid.load_model(folder, device="cpu").embed(files)
    for name in ("", "network.safetensors"):
        found = densereid.load_model(folder / name, device="cuda").embed(files)
        assert (found * expected).sum(1).min() > 0.999, name
    assert (_embedded_elsewhere(folder / "network.pt2", files) * expected).sum(1).min() > 0.999


def _embedded_elsewhere(model: Path, files: list[Path]) -> np.ndarray:
    """In a process of its own: where pytest collects log records, torch makes one of all that it does to a program."""
    code = "import sys, densereid; print(densereid.load_model(sys.argv[1], device='cuda').embed(sys.argv[2:]).tolist())"
    words = [sys.executable, "-c", code, str(model), *map(str, files)]
    return np.array(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))


def test_semantics_of_a_photograph_on_a_gpu(stores: dict[str, Path], synthetic_root: Path) -> None:
    store = open_store(stores["cuda"])
    files = [synthetic_root / "synthetic" / path for path in store.read("path", np.arange(3))]
    found, expected = (densereid.estimate_semantics(files, device=device) for device in ("cuda", "cpu"))
    assert (found.mask == expected.mask).mean() > 0.99
