"""The embedded network in bf16, and in int8 by onnxruntime: speed, agreement with fp32, and with exact maps.

    python -m bench.dense_pose.low_precision --folder runs/embedded-weights-solids-anny --maker solids --pictures 100

Real weights, pictures of rendered people never trained on. Static int8 is calibrated on other pictures of the same
kind (QDQ, a scale for each output channel of the weights); dynamic int8 needs none. One thread, one crop at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from torch import nn

from bench.report import fastest, print_markdown_table
from densereid.preprocess.densepose.decode import ChartScores, decode_charts
from densereid.preprocess.embedded.network import EmbeddedNetwork, fused
from densereid.preprocess.embedded.weights import WEIGHTS, read_weights
from densereid.preprocess.embedded_training.making import HELD_OUT_SEED, MAKERS, SIZE, held_out
from densereid.preprocess.embedded_training.pictures.composition import compose
from densereid.preprocess.estimators.embedded import input_size
from densereid.preprocess.images import resize_image
from densereid.preprocess.semantics.agreement import agreement

Network = Callable[[torch.Tensor], ChartScores]
_NAMES = ["coarse", "fine", "u", "v"]


class _Outputs(nn.Module):
    """The network with its scores as a tuple, for the exporter."""

    def __init__(self, network: EmbeddedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.network(images).all()  # type: ignore[no-any-return]


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: list[np.ndarray]) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {"images": entered(image).numpy()}


def entered(image: np.ndarray) -> torch.Tensor:
    """An image (H, W, 3) uint8 as the network takes it, float32 (1, 3, h, w)."""
    pixels = torch.from_numpy(resize_image(image, input_size(*image.shape[:2])).copy())
    return pixels.permute(2, 0, 1)[None].float().contiguous(memory_format=torch.channels_last)


def in_bf16(network: EmbeddedNetwork) -> Network:
    half = fused(network).to(memory_format=torch.channels_last).bfloat16()

    def run(images: torch.Tensor) -> ChartScores:
        return ChartScores(*(each.float() for each in half(images.bfloat16()).all()))

    return run


def by_onnxruntime(path: Path) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> ChartScores:
        found = session.run(_NAMES, {"images": images.contiguous().numpy()})
        return ChartScores(*(torch.from_numpy(each) for each in found))

    return run


def variants(network: EmbeddedNetwork, calibration: list[np.ndarray], folder: Path) -> Iterator[tuple[str, Network]]:
    yield "fp32, torch", fused(network).to(memory_format=torch.channels_last)
    yield "bf16, torch", in_bf16(network)
    exact, static, dynamic = (folder / f"{name}.onnx" for name in ("exact", "static", "dynamic"))
    example = entered(calibration[0]).contiguous()
    torch.onnx.export(
        _Outputs(fused(network)).eval(), (example,), str(exact), input_names=["images"], output_names=_NAMES,
        dynamo=False, opset_version=17,
    )  # fmt: skip
    yield "fp32, onnxruntime", by_onnxruntime(exact)
    quantize_static(
        str(exact), str(static), _Calibration(calibration), per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "Add", "Relu", "Resize"],
    )  # fmt: skip
    yield "int8, onnxruntime, static", by_onnxruntime(static)
    quantize_dynamic(str(exact), str(dynamic), weight_type=QuantType.QUInt8)
    yield "int8, onnxruntime, dynamic", by_onnxruntime(dynamic)


@torch.inference_mode()
def found_by(network: Network, images: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([decode_charts(network(entered(image)), SIZE)[0].numpy() for image in images])


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True, help="Of make embedded-weights.")
@click.option("--maker", type=click.Choice(sorted(MAKERS)), default="solids", show_default=True)
@click.option("--pictures", default=100, show_default=True)
@click.option("--rounds", default=10, show_default=True)
@torch.inference_mode()
def main(folder: Path, maker: str, pictures: int, rounds: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    library = held_out(folder, maker)
    drawn = [compose(library, np.random.default_rng((HELD_OUT_SEED, index)), SIZE) for index in range(pictures + 32)]
    images, exact = [image for image, _ in drawn[:pictures]], np.stack([iuv for _, iuv in drawn[:pictures]])
    rows, few = [], [entered(image) for image in images[:8]]
    with tempfile.TemporaryDirectory() as temporary:
        networks = dict(variants(read_weights(WEIGHTS), [image for image, _ in drawn[pictures:]], Path(temporary)))
        times = fastest({n: lambda run=run: [run(image) for image in few] for n, run in networks.items()}, rounds)
        reference = found_by(next(iter(networks.values())), images)
        for name, network in networks.items():
            found, cpu = found_by(network, images), times[name][1] / len(few)
            ratio = next(iter(times.values()))[1] / times[name][1]
            same, score = agreement(found, reference), agreement(found, exact)
            rows.append((
                name, f"{1000 * cpu / 1:.1f}", f"{ratio:.2f}x", f"{same.mask_iou:.3f}", f"{same.part_accuracy:.3f}",
                f"{same.uv_distance:.4f}", f"{score.foreground_iou:.3f}", f"{score.mask_iou:.3f}",
                f"{score.part_accuracy:.3f}", f"{score.uv_distance:.3f}",
            ))  # fmt: skip
    columns = (
        "arithmetic", "CPU ms a crop", "speed", "mask IoU with fp32", "parts as in fp32", "U, V from fp32",
        "exact maps: foreground IoU", "mask IoU", "part accuracy", "U, V error",
    )  # fmt: skip
    title = f"`python -m bench.dense_pose.low_precision`: embedded network, {pictures} pictures of {maker}"
    print_markdown_table(title, columns, rows, ("torch", "onnxruntime"))


if __name__ == "__main__":
    main()
