"""DensePose of whole crops in fp32 and bf16 on this machine's CPU, by turns: CPU seconds, and how far they agree.

The weights are random and the same for both, which changes no time; the charts of random weights lie closer together
than those of trained ones, so the agreement is rather too low. The best of several turns stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import click
import numpy as np
import torch
from PIL import Image

from bench.dense_pose.network import best_of
from bench.report import print_markdown_table
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.store.schema import Split
from densereid.preprocess.densepose.batching import network_input, network_size
from densereid.preprocess.densepose.checkpoints import Architecture
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.densepose.network import DenseposeNetwork, InferenceNetwork
from densereid.preprocess.densepose.precision import Precision, processor_has_bf16
from densereid.preprocess.images import Crop
from densereid.preprocess.semantics.agreement import agreement

CROP, SIZE = (128, 64), (256, 128)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def random_crop(seed: int) -> Crop:
    """Coloured blobs: smooth, as photographs are."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 5, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize(CROP[::-1], Image.Resampling.BICUBIC))
    return Crop(ImageRecord(f"{seed}.jpg", 1, 1, Split.TRAIN), pixels)


def random_network(architecture: Architecture, precision: Precision) -> InferenceNetwork:
    """The same weights whenever it is called, calm enough to give parts of some size."""
    torch.manual_seed(0)
    network = DenseposeNetwork(architecture)
    for key, value in network.state_dict().items():
        if key.endswith("conv3.norm.weight"):
            value *= 0.2  # otherwise every residual block doubles what goes through it
        if key.endswith("stem.conv1.norm.weight"):
            value *= 0.01  # brings 0..255 to the size of a feature
        *_, layer, kind = key.split(".")
        if layer in ("ann_index_lowres", "index_uv_lowres"):
            value *= 30 if kind == "weight" else 0  # or one part would be everywhere
        if layer in ("u_lowres", "v_lowres"):
            value *= 10 if kind == "weight" else 0
            value += 0.5 if kind == "bias" else 0  # U and V within 0..1, or all of them would be clamped
    return InferenceNetwork(network.prepare("cpu", precision))


@torch.inference_mode()
def estimate(network: InferenceNetwork, crops: list[Crop], short_edge: int) -> np.ndarray:
    size = network_size(*CROP, short_edge)
    return np.concatenate([decode_charts(network.scores(network_input([c], size, "cpu")), SIZE)[0] for c in crops])


def compared(architecture: Architecture, short_edge: int, crops: list[Crop], repeats: int) -> Iterator[tuple]:
    networks = {precision: random_network(architecture, precision) for precision in PRECISIONS}
    actions = {name: partial(estimate, network, crops, short_edge) for name, network in networks.items()}
    times = best_of(actions, repeats)
    exact, half = (action() for action in actions.values())
    same = agreement(half, exact)
    found = (f"{same.part_accuracy:.2%}", f"{(half == exact).all(axis=-1).mean():.1%}", f"{same.uv_distance:.4f}")
    for precision, (_, cpu) in times.items():
        ratio = f"{times['fp32'][1] / cpu:.2f}x"
        yield (
            architecture.name, short_edge, precision, f"{cpu / len(crops):.3f}", ratio,
            *(found if precision == "bf16" else ("", "", "")),
        )  # fmt: skip


@click.command(help=__doc__)
@click.option("--short-edge", default=256, show_default=True)
@click.option("--crops", default=4, show_default=True)
@click.option("--repeats", default=3, show_default=True)
def main(short_edge: int, crops: int, repeats: int) -> None:
    torch.set_num_threads(1)  # as preprocessing runs each crop
    batch = [random_crop(seed) for seed in range(crops)]
    architectures = (Architecture(50), Architecture(50, deeplab=True))
    rows = [row for architecture in architectures for row in compared(architecture, short_edge, batch, repeats)]
    has = "has" if processor_has_bf16() else "has no"
    title = f"`densepose` in two precisions, one thread; this processor {has} instructions for bf16"
    columns = (
        "config", "short edge", "precision", "CPU s an image", "ratio", "same part on the body", "same I, U and V",
        "median distance in U, V",
    )  # fmt: skip
    print_markdown_table(title, columns, rows, ("torch",))


if __name__ == "__main__":
    main()
