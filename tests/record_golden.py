"""Record the golden files of DensePose from the real Detectron2 and DensePose, with random weights from a seed.

Run it where both are installed, from the repository's root: ``PYTHONPATH=.:tests python -m tests.record_golden``.
``golden/densepose.npz`` holds raw scores of one small input, cut to a few cells, and what DensePose's own converter
makes of them at a few sizes, so that decoding is checked where Detectron2 is not installed.
``golden/densepose_network.npz`` holds, by architecture, every eighth cell of the raw charts of one crop and the IUV
that DensePose's converter makes of all of them, so that the network is too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from densepose_samples import random_state, smooth_noise
from detectron2_reference import FIELDS, converted, one_at_a_time, scores_of

from densereid.preprocess.densepose.checkpoints import Architecture

PATH = Path(__file__).parent / "golden" / "densepose.npz"
SIZES = ((32, 16), (21, 34), (5, 3))
_CELLS = 12
_STEP = 112 // _CELLS

NETWORK_PATH = PATH.with_name("densepose_network.npz")
NETWORKS = (Architecture(50), Architecture(50, deeplab=True), Architecture(101, True, "indep_aniso", True, width=16))
NETWORK_CROP = (90, 41)
"""Of a size that has to be padded in both directions."""
NETWORK_SIZE = (64, 32)
NETWORK_STEP = 8
SEED = 0


def _model(architecture: Architecture) -> Any:
    from densereid.preprocess.densepose.detectron2_network import build_detectron2

    model = build_detectron2(architecture, "cpu").eval()
    model.load_state_dict(random_state(model.state_dict(), seed=SEED))
    return model


def _output(model: Any, pixels: np.ndarray) -> Any:
    from densereid.preprocess.images import Crop

    return one_at_a_time(model, Crop(None, pixels), min(pixels.shape[:2]))  # type: ignore[arg-type]


def record_decoding() -> dict[str, np.ndarray]:
    """Raw scores of two crops, cut down, and DensePose's own conversion of them."""
    from densepose.converters import ToChartResultConverter
    from densepose.structures import DensePoseChartPredictorOutput
    from detectron2.structures import Boxes

    model = _model(Architecture(50, deeplab=True, width=16))
    outputs = [scores_of(_output(model, smooth_noise(seed, (128, 64)))) for seed in (0, 1)]
    kept = {
        name: torch.cat([getattr(one, name) for one in outputs])[:, :, ::_STEP, ::_STEP][:, :, :_CELLS, :_CELLS].half()
        for name in FIELDS
    }
    arrays = {name: value.numpy() for name, value in kept.items()}
    for index in range(len(outputs)):
        raw = [value[index : index + 1].float() for value in kept.values()]
        for height, width in SIZES:
            box = Boxes(torch.tensor([[0.0, 0.0, width, height]]))
            result = ToChartResultConverter.convert(DensePoseChartPredictorOutput(*raw), box)
            arrays[f"labels_{index}_{height}x{width}"] = result.labels.numpy().astype(np.uint8)
            arrays[f"uv_{index}_{height}x{width}"] = result.uv.numpy()
    return arrays


def record_networks() -> dict[str, np.ndarray]:
    """Charts and IUV of one crop by architecture."""
    arrays = {}
    for architecture in NETWORKS:
        output = _output(_model(architecture), smooth_noise(SEED, NETWORK_CROP))
        for name in FIELDS:
            chart = getattr(scores_of(output), name)
            arrays[f"{architecture.name}/{name}"] = chart[0, :, ::NETWORK_STEP, ::NETWORK_STEP].numpy()
        arrays[f"{architecture.name}/iuv"] = converted(output, NETWORK_SIZE)
    return arrays


def record() -> None:
    """Write both files and say what is in them."""
    from densereid.preprocess.densepose.detectron2_network import installed_versions

    for path, arrays in ((PATH, record_decoding()), (NETWORK_PATH, record_networks())):
        np.savez_compressed(path, versions=np.array(str(installed_versions())), **arrays)
        print(f"{path.name}: {path.stat().st_size} bytes, {installed_versions()}")
        for name, value in arrays.items():
            print(f"  {name}: {value.shape}, {len(np.unique(value))} values, {value.min()}..{value.max()}")


if __name__ == "__main__":
    record()
