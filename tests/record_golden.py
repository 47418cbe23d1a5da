"""Record ``golden/densepose.npz`` from the real Detectron2 and DensePose, with random weights from a seed.

Run it where both are installed, from the repository's root: ``python -m tests.record_golden``. The file holds raw
scores of one small input, cut to a few cells, and what DensePose's own converter makes of them at a few sizes, so
that decoding is checked where Detectron2 is not installed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from preprocess.checkpoints import Architecture

PATH = Path(__file__).parent / "golden" / "densepose.npz"
SIZES = ((32, 16), (21, 34), (5, 3))
_CELLS = 12
_STEP = 112 // _CELLS


def random_state(architecture: Architecture, *, seed: int) -> dict[str, torch.Tensor]:
    """State of a network with random weights, calm enough that its outputs are neither huge nor all alike."""
    from preprocess.detectron2_densepose import build_network

    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = build_network(architecture, "cpu").state_dict()
    for key, value in state.items():
        if key.endswith("conv3.norm.weight"):
            value *= 0.2  # otherwise every residual block doubles what goes through it
        if key.endswith(("norm.running_mean", "norm.bias")):
            value += 0.1 * torch.randn_like(value)
        if key.endswith((".u_lowres.weight", ".v_lowres.weight")):
            value *= 0.05
        if key.endswith((".u_lowres.bias", ".v_lowres.bias")):
            value += 0.5  # most of U and V within 0..1, some outside
        if key.endswith("ann_index_lowres.bias"):
            value[1:] += 6.0  # about as much body as background
    return state


def smooth_noise(seed: int, size: tuple[int, int]) -> np.ndarray:
    """A crop of coloured blobs, uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 5, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


def record() -> None:
    """Run Detectron2 on two crops and write the golden file."""
    from densepose.converters import ToChartResultConverter
    from densepose.structures import DensePoseChartPredictorOutput
    from detectron2.structures import Boxes

    from preprocess.batches import network_input
    from preprocess.detectron2_densepose import Network, build_network, installed_versions
    from preprocess.estimator import Crop

    architecture = Architecture(50)
    model = build_network(architecture, "cpu")
    model.load_state_dict(random_state(architecture, seed=0))
    network = Network(model)
    crops = [Crop(None, smooth_noise(seed, (128, 64))) for seed in (0, 1)]  # type: ignore[arg-type]
    with torch.inference_mode():
        scores = network.scores(network.features(network_input(crops, (128, 64), "cpu")), [None, None])
    kept = {
        name: getattr(scores, name)[:, :, ::_STEP, ::_STEP][:, :, :_CELLS, :_CELLS].half()
        for name in ("coarse", "fine", "u", "v")
    }
    arrays = {name: value.numpy() for name, value in kept.items()}
    for index in range(len(crops)):
        raw = [value[index : index + 1].float() for value in kept.values()]
        for height, width in SIZES:
            box = Boxes(torch.tensor([[0.0, 0.0, width, height]]))
            result = ToChartResultConverter.convert(DensePoseChartPredictorOutput(*raw), box)
            arrays[f"labels_{index}_{height}x{width}"] = result.labels.numpy().astype(np.uint8)
            arrays[f"uv_{index}_{height}x{width}"] = result.uv.numpy()
    PATH.parent.mkdir(exist_ok=True)
    np.savez_compressed(PATH, versions=np.array(str(installed_versions())), **arrays)
    print(f"{PATH}: {PATH.stat().st_size} bytes, {installed_versions()}")
    for name, value in arrays.items():
        if name.startswith("labels"):
            uv = arrays[name.replace("labels", "uv")]
            print(f"{name}: {len(np.unique(value))} labels, {(value > 0).mean():.0%} body, uv {uv.min()}..{uv.max()}")


if __name__ == "__main__":
    record()
