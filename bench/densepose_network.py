"""DensePose of whole crops: ours against Detectron2's given-box path, from pixels to IUV, by turns. Needs Detectron2.

The weights are random: they change no time. Both estimators run as in preprocessing, with the same crops, input size,
precision and batches; the best of several turns stands, since other processes only ever add to a time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.report import print_markdown_table
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.store.schema import Split
from densereid.preprocess.densepose.batching import network_input, network_size
from densereid.preprocess.densepose.checkpoints import Architecture, open_checkpoint
from densereid.preprocess.densepose.detectron2_network import build_detectron2, load_detectron2
from densereid.preprocess.densepose.network import load_densepose
from densereid.preprocess.densepose.weights import Weights
from densereid.preprocess.estimators.densepose import DenseposeEstimator
from densereid.preprocess.estimators.detectron2 import Detectron2Estimator
from densereid.preprocess.images import Crop

CROP, SIZE = (128, 64), (256, 128)


def weights_of(architecture: Architecture, folder: Path) -> Weights:
    torch.manual_seed(0)
    path = folder / f"{architecture.name}.pth"
    torch.save(build_detectron2(architecture, "cpu").state_dict(), path)
    return Weights(path, open_checkpoint(path).sha256)


def best_of(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Least seconds and least CPU seconds of each action, which take turns, after one round that does not count."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for _ in range(1 + repeats):
        for name, action in actions.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            action()
            measured[name].append((time.perf_counter() - start, time.process_time() - start_cpu))
    return {name: tuple(map(min, zip(*times[1:], strict=True))) for name, times in measured.items()}


@torch.inference_mode()
def gflop(run: Callable[[torch.Tensor], object], image: torch.Tensor) -> float:
    """Arithmetic of one crop in the network, two operations a multiplication and addition."""
    with FlopCounterMode(display=False) as counter:
        run(image)
    return counter.get_total_flops() / 1e9


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16", "fp16"]))
@click.option("--short-edges", default="128,256", show_default=True)
@click.option("--crops", default=4, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--compiled", is_flag=True)
def main(device: str, precision: str, short_edges: str, crops: int, repeats: int, compiled: bool) -> None:
    generator = np.random.default_rng(0)
    batch = [
        Crop(ImageRecord(f"{index}.jpg", 1, 1, Split.TRAIN), generator.integers(0, 256, (*CROP, 3), np.uint8))
        for index in range(crops)
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for architecture in (Architecture(50), Architecture(50, deeplab=True)):
            weights = weights_of(architecture, Path(folder))
            for edge in map(int, short_edges.split(",")):
                common = {"device": device, "short_edge": edge, "precision": precision}
                theirs = Detectron2Estimator(weights, architecture, mode="crop", **common)
                ours = DenseposeEstimator(weights, architecture, compiled=compiled, **common)
                rows += compared(theirs, ours, batch, repeats)
    title = f"`detectron2` whole crops against `densepose`: {device}, {precision}, {torch.get_num_threads()} threads"
    columns = ("config", "short edge", "estimator", "images/s", "ratio", "CPU s an image", "ratio", "GFLOP a crop")
    print_markdown_table(title, columns, rows, ("torch", "torchvision", "detectron2"))


def compared(theirs: Detectron2Estimator, ours: DenseposeEstimator, batch: list[Crop], repeats: int) -> list[tuple]:
    size = network_size(*CROP, ours.short_edge)
    image = network_input(batch[:1], size, ours.device)
    network = load_detectron2(theirs.weights, theirs.architecture, theirs.device)
    plain = load_densepose(ours.weights, ours.architecture, ours.device, "fp32", False)
    counts = {
        "detectron2": gflop(lambda image: network.scores(network.features(image), [None]), image),
        "densepose": gflop(plain.scores, image),
    }
    times = best_of(
        {
            "detectron2": lambda: theirs.estimate(batch, SIZE).iuv.cpu(),
            "densepose": lambda: ours.estimate(batch, SIZE).iuv.cpu(),
        },
        repeats,
    )
    base, base_cpu = times["detectron2"]
    return [
        (
            ours.architecture.name, ours.short_edge, name, f"{len(batch) / wall:.2f}", f"{base / wall:.2f}x",
            f"{cpu / len(batch):.3f}", f"{base_cpu / cpu:.2f}x", f"{counts[name]:.1f}",
        )
        for name, (wall, cpu) in times.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
