"""DensePose's own ``apply_net.py dump`` against ours: the same images, the same random weights, one machine, one run.

It needs Detectron2 and DensePose; ``--apply-net`` is the path of ``projects/DensePose/apply_net.py`` in a checkout of
Detectron2's repository, which pip does not install. Without it the rows of apply_net are left out, and it says so.

Random weights find about a hundred persons in every image, so both keep one detection an image. Loading is not
counted in either, nor is the first image; writing the results is: one pickle there, a store at 256x128 here.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import click
import torch

from bench.gpu import BusyShare
from bench.report import print_markdown_table
from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import encode_image
from densereid.data_catalog.synthetic.sample import render_sample
from densereid.preprocess.densepose.checkpoints import Architecture
from densereid.preprocess.densepose.detectron2_network import build_detectron2, load_detectron2, missing
from densereid.preprocess.estimators.base import Estimator
from densereid.preprocess.estimators.detectron2 import Detectron2Estimator, open_detectron2
from densereid.preprocess.images import Crop, read_image
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig

OURS, THEIRS = 256, 800
"""Short edges: our default and Detectron2's."""


class DeviceEstimator(Estimator, Protocol):
    """An estimator that runs a network on a device."""

    @property
    def device(self) -> str: ...


@dataclass(frozen=True)
class Measured:
    """What a way of computing took for a number of images; ``busy`` is the GPU's share of time at work, or None."""

    images: int
    wall: float
    cpu: float
    busy: float | None

    @property
    def rate(self) -> float:
        return self.images / self.wall

    @property
    def cpu_an_image(self) -> float:
        return self.cpu / self.images


class Stopwatch:
    """Measures from :meth:`start` to :meth:`stop`."""

    def __init__(self, device: str) -> None:
        self._busy = BusyShare(torch.device(device).index or 0) if device.startswith("cuda") else None

    def start(self) -> None:
        if self._busy:
            self._busy.start()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, images: int) -> Measured:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Measured(images, wall, cpu, self._busy.stop() if self._busy else None)


def render_crops(folder: Path, count: int) -> None:
    """Pedestrians of Market-1501's size, 128x64, as JPEG."""
    folder.mkdir(parents=True)
    config = SyntheticConfig()
    for index in range(count):
        sample = render_sample(config, 1 + index % 1000, index // 1000, 1 + index % config.cameras, junk=False)
        (folder / f"{index:06d}.jpg").write_bytes(encode_image(sample.image, config.jpeg_quality))


def random_checkpoint(path: Path) -> None:
    """A checkpoint of the default architecture with random weights from a seed, as both sides load it."""
    torch.manual_seed(0)
    state = build_detectron2(Architecture(50), "cpu").state_dict()
    for key, value in state.items():
        if key.endswith("conv3.norm.weight"):
            value *= 0.2  # otherwise every residual block doubles what goes through it
    torch.save({"model": state}, path)


def load_script(path: Path) -> ModuleType:
    """apply_net.py as a module."""
    spec = importlib.util.spec_from_file_location("apply_net", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def apply_net(script: Path, checkpoint: Path, images: Path, *, edge: int, device: str) -> Measured:
    """``apply_net.py dump`` of a folder in this process; the clock starts when its network is loaded."""
    module, watch = load_script(script), Stopwatch(device)

    class TimedPredictor(module.DefaultPredictor):  # type: ignore[misc, name-defined]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self(module.read_image(str(next(images.iterdir())), format="BGR"))
            watch.start()

    module.DefaultPredictor = TimedPredictor
    dump = images.parent / "dump.pkl"
    config = script.parent / "configs" / "densepose_rcnn_R_50_FPN_s1x.yaml"
    changes = f"MODEL.DEVICE {device} INPUT.MIN_SIZE_TEST {edge} TEST.DETECTIONS_PER_IMAGE 1"
    arguments = ["dump", config, checkpoint, images, "--output", dump, "--opts", *changes.split()]
    parsed = module.create_argument_parser().parse_args([str(argument) for argument in arguments])
    parsed.func(parsed)
    measured = watch.stop(len(list(images.iterdir())))
    results = torch.load(dump, weights_only=False)
    found = [len(result["scores"]) for result in results]
    assert found == [1] * measured.images, f"detections an image: {found}"
    return measured


def ours(estimator: Detectron2Estimator, dataset: Dataset, folder: Path) -> Measured:
    """Our run with Detectron2's network, which keeps one detection an image."""
    network = load_detectron2(estimator.weights, estimator.architecture, estimator.device)
    network.model.roi_heads.box_predictor.test_topk_per_image = 1
    return preprocessed(estimator, dataset, folder)


def preprocessed(estimator: DeviceEstimator, dataset: Dataset, folder: Path) -> Measured:
    """A whole preprocessing run of the images into a zarr store; the clock starts after a batch that warms up."""
    config = PreprocessConfig(size=(256, 128), dsap_size=32, collision="last", device=estimator.device)
    warm_up = dataset.records[: 1 if estimator.device == "cpu" else config.batch_size]
    estimator.estimate([Crop(record, read_image(dataset.root / record.path)) for record in warm_up], config.size)
    shutil.rmtree(folder, ignore_errors=True)
    plan = Plan(dataset, folder, estimator, config)
    watch = Stopwatch(estimator.device)
    watch.start()
    write_store(plan, format="zarr")
    return watch.stop(len(dataset.records))


def measurements(
    folder: Path, script: Path | None, device: str, edges: list[int], precisions: list[str], baseline_images: int
) -> Iterator[tuple[str, int, Measured]]:
    """(what, short edge, measured) of every way."""
    checkpoint = folder / "random.pth"
    for edge in edges if script else []:
        click.echo(f"apply_net.py dump at {edge} ...", err=True)
        with first_images(folder / "crops", baseline_images) as images:
            yield "apply_net.py dump, fp32", edge, apply_net(script, checkpoint, images, edge=edge, device=device)
    dataset = find_dataset("folder", folder / "crops")
    opened = open_detectron2(
        str(checkpoint), device=device, mode="crop", short_edge=OURS, precision="fp32", fallback=True, notify=click.echo
    )
    for mode in ("detect", "crop"):
        for precision in precisions:
            for edge in edges:
                click.echo(f"ours, {mode}, {precision}, at {edge} ...", err=True)
                estimator = replace(opened, mode=mode, precision=precision, short_edge=edge)
                yield f"ours, {mode}, {precision}", edge, ours(estimator, dataset, folder / "store.zarr")


@contextmanager
def first_images(folder: Path, count: int) -> Iterator[Path]:
    """A folder of links to the first images of ``folder``."""
    with tempfile.TemporaryDirectory() as temporary:
        chosen = Path(temporary) / "images"
        chosen.mkdir()
        for path in sorted(folder.iterdir())[:count]:
            (chosen / path.name).symlink_to(path.resolve())
        yield chosen


def table_rows(found: list[tuple[str, int, Measured]]) -> list[list[str]]:
    """One row a way, with the ratio of images/s (of CPU seconds) to apply_net at the same short edge and at 800."""
    baselines = {edge: each for what, edge, each in found if what.startswith("apply_net")}

    def ratio(each: Measured, edge: int) -> str:
        if edge not in baselines:
            return ""
        wall, cpu = each.rate / baselines[edge].rate, baselines[edge].cpu_an_image / each.cpu_an_image
        return f"{wall:.1f}x ({cpu:.1f}x)"

    return [
        [
            what,
            str(edge),
            f"{each.rate:.2f}",
            f"{each.cpu_an_image:.2f}",
            "" if each.busy is None else f"{each.busy:.0%}",
            ratio(each, edge),
            ratio(each, THEIRS),
        ]
        for what, edge, each in found
    ]


@click.command(help=__doc__)
@click.option("--apply-net", "script", type=click.Path(path_type=Path, exists=True), help="apply_net.py's path.")
@click.option("--images", default=4, show_default=True, help="Crops; 4 for a CPU, 2000 for a GPU.")
@click.option("--baseline-images", type=int, help="Only the first of them for apply_net; all unless given.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--edge", "edges", type=int, multiple=True, default=(OURS, THEIRS), show_default=True)
def main(script: Path | None, images: int, baseline_images: int | None, device: str, edges: tuple[int, ...]) -> None:
    reason = missing()
    if reason is not None:
        sys.exit(f"nothing can be measured: {reason}")
    if script is None:
        click.echo("apply_net.py is not measured: --apply-net names no checkout of Detectron2's repository", err=True)
    precisions = ["fp32", "bf16"] if device.startswith("cuda") else ["fp32"]
    with tempfile.TemporaryDirectory() as temporary, quiet():
        folder = Path(temporary)
        os.environ["DENSEREID_CACHE"] = str(folder / "cache")
        render_crops(folder / "crops", images)
        random_checkpoint(folder / "random.pth")
        found = list(measurements(folder, script, device, list(edges), precisions, baseline_images or images))
    columns = (
        "way",
        "short edge",
        "images/s",
        "CPU s/image",
        "GPU busy",
        "against apply_net at the same",
        f"at {THEIRS}",
    )
    title = f"DensePose of {images} crops of 128x64, random weights, {device_name(device)}"
    print_markdown_table(title, columns, table_rows(found), ("torch", "detectron2"))


def device_name(device: str) -> str:
    """The GPU's name, or the number of threads."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} threads"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the notes that Detectron2 and torch write about themselves."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    main()
