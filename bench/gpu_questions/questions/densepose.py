"""DensePose of whole crops, random weights: the network by precision and batch, JPEGs to a store, each stage alone."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench import report
from bench.densepose import Measured, preprocessed
from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.plan import Precision
from bench.gpu_questions.questions.machine import share_of_peak
from bench.gpu_questions.questions.rendered import rendered_dataset
from bench.gpu_questions.questions.timing import forget, gigabytes, operations, seconds_each, wait
from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.datasets.specs import known_datasets
from densereid.data_catalog.store.store import open_store, write_shard
from densereid.preprocess.densepose.batching import network_input, network_size
from densereid.preprocess.densepose.checkpoints import Architecture, open_checkpoint
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.densepose.network import DenseposeNetwork, InferenceNetwork
from densereid.preprocess.densepose.weights import Weights
from densereid.preprocess.estimators.densepose import DenseposeEstimator
from densereid.preprocess.images import Crop
from densereid.preprocess.semantics.derive import derive
from densereid.preprocess.writing.batch_rows import read_record
from densereid.preprocess.writing.plan import Plan, PreprocessConfig, prepare

CROP, SIZE = (128, 64), (256, 128)
"""Height and width of Market-1501's images, and of a store's."""

NETWORK = ("way", "batch", "images/s", "ms a batch", "TFLOP/s", "of bf16's peak", "peak memory, GB")
END_TO_END = ("way", "images", "images/s", "CPU ms an image", "GPU busy (nvidia-smi)", "of the network's own rate")


def answer(context: Context, answer: Answer) -> None:
    """In the order of worth: a precision whole, from the network to the store, before the next; the stages between."""
    network = Rates(context, answer)
    end_to_end = EndToEnd(context, answer)
    first, *others = context.scale.precisions
    _whole(context, answer, network, end_to_end, first)
    answer.attempt("the stages", stages, context, answer, end_to_end)
    for batch in context.scale.graph_batches if context.is_gpu else ():
        answer.attempt(f"CUDA graph, batch {batch}", network.graph, first, batch)
    if not context.is_gpu:
        answer.note("No CUDA graph: there is none on a CPU.")
    for precision in others:
        _whole(context, answer, network, end_to_end, precision)


def _whole(context: Context, answer: Answer, network: Rates, end_to_end: EndToEnd, precision: Precision) -> None:
    for batch in context.scale.batches:
        answer.attempt(f"{precision}, batch {batch}", network.plain, precision, batch)
    best = network.best(precision)
    answer.attempt(f"{precision}, end to end", end_to_end.measure, precision, compiled=False, network=best)


class Rates:
    """Images a second of the network with the decoding of its charts, crops and IUV maps staying on the device."""

    def __init__(self, context: Context, answer: Answer) -> None:
        edge = context.scale.short_edge
        self._context, self._answer = context, answer
        self._size = network_size(*CROP, edge)
        title = f"The network and its decoding, crops at {self._size[0]}x{self._size[1]}, random weights"
        self._add = answer.table(title, NETWORK)
        self._operations = operations_of_a_crop(context, self._size)
        self._best: dict[str, float] = {}

    def best(self, precision: str) -> float | None:
        """Images/s of the best batch so far."""
        return self._best.get(precision)

    @torch.inference_mode()
    def plain(self, precision: Precision, batch: int) -> None:
        """As preprocessing runs it."""
        network, images = self._network(precision), self._images(batch)
        self._row(precision, precision, batch, lambda: decode_charts(network.scores(images), SIZE))

    @torch.inference_mode()
    def compiled(self, precision: Precision, batch: int) -> None:
        """The same through torch.compile, whose own time is a note."""
        network, images = self._network(precision, compiled=True), self._images(batch)
        began = time.perf_counter()
        network.scores(images)
        wait(self._context.device)
        self._answer.note(f"The first batch, with compiling, took {time.perf_counter() - began:.0f} s.")
        name = f"{precision}.compiled"
        self._row(f"{precision}, compiled", name, batch, lambda: decode_charts(network.scores(images), SIZE))

    @torch.inference_mode()
    def graph(self, precision: Precision, batch: int) -> None:
        """The same kernels, recorded once and launched together."""
        network, images = self._network(precision), self._images(batch)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is chosen or allocated on first use cannot be recorded
            for _ in range(3):
                decode_charts(network.scores(images), SIZE)
        torch.cuda.current_stream().wait_stream(stream)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            kept = decode_charts(network.scores(images), SIZE)
        self._row(f"{precision}, CUDA graph", f"{precision}.graph", batch, recorded.replay)
        del kept  # the graph writes into it

    def _row(self, way: str, name: str, batch: int, action: Callable[[], object]) -> None:
        device = self._context.device
        forget(device)
        seconds = seconds_each(action, device, self._context.scale.least_seconds)
        rate = batch / seconds
        self._answer.figure(f"densepose.network.{name}.batch{batch}.rate", rate, "images/s")
        self._best[name] = max(rate, self._best.get(name, 0.0))
        done = rate * self._operations
        of_peak = share_of_peak(self._context, done)
        self._add(way, batch, f"{rate:.4g}", f"{1e3 * seconds:.2f}", f"{done / 1e12:.3g}", of_peak, gigabytes(device))

    def _network(self, precision: Precision, *, compiled: bool = False) -> InferenceNetwork:
        estimator = random_estimator(self._context, precision, compiled=compiled)
        return estimator.network()

    def _images(self, batch: int) -> torch.Tensor:
        forget(self._context.device)
        generator = torch.Generator(self._context.device).manual_seed(0)
        return torch.randint(0, 256, (batch, 3, *self._size), generator=generator, device=self._context.device).float()


def operations_of_a_crop(context: Context, size: tuple[int, int]) -> float:
    """Of the network, counted without computing anything."""
    with torch.device("meta"):
        network = DenseposeNetwork(Architecture(50, width=context.scale.width))
    crop = torch.empty(1, 3, *size, device="meta")
    return operations(lambda: network.to("meta")(crop))


class EndToEnd:
    """JPEG files to a whole zarr store."""

    def __init__(self, context: Context, answer: Answer) -> None:
        self._context, self._answer = context, answer
        self._dataset: Dataset | None = None
        self._add: Callable[..., None] | None = None

    def dataset(self) -> Dataset:
        """The rendered training images under as many names as are wanted."""
        if self._dataset is None:
            self._dataset = repeated(rendered_dataset(self._context), self._context.scale.crops, self._context.work)
        return self._dataset

    def measure(self, precision: Precision, *, compiled: bool, network: float | None) -> None:
        """A row and the minutes for every dataset; ``network`` is the rate of the network alone."""
        dataset = self.dataset()
        if self._add is None:
            title = f"JPEGs of 128x64 to a zarr store at {SIZE[0]}x{SIZE[1]}, one process"
            self._add = self._answer.table(title, END_TO_END)
        estimator = random_estimator(self._context, precision, compiled=compiled)
        found = preprocessed(estimator, dataset, self._context.work / "store.zarr")
        way = f"{precision}{', compiled' if compiled else ''}"
        name = f"densepose.end_to_end.{precision}{'.compiled' if compiled else ''}"
        self._answer.figure(f"{name}.rate", found.rate, "images/s")
        if found.busy is not None:
            self._answer.figure(f"{name}.busy", found.busy)
        of_network = "" if network is None else f"{found.rate / network:.0%}"
        unknown = found.busy is None or math.isnan(found.busy)
        busy = "not sampled" if unknown else f"{found.busy:.0%}"
        self._add(way, found.images, f"{found.rate:.4g}", f"{1e3 * found.cpu_an_image:.2f}", busy, of_network)
        self._minutes(way, name, found)

    def _minutes(self, way: str, name: str, found: Measured) -> None:
        add = self._answer.table(f"Minutes for each dataset at that rate: {way}", ("dataset", "images", "minutes"))
        for dataset, images in published_images().items():
            minutes = images / found.rate / 60
            self._answer.figure(f"{name}.minutes.{dataset}", minutes, "minutes")
            add(dataset, images, f"{minutes:.2f}")


def published_images() -> dict[str, int]:
    """Images of each dataset of the catalog, all splits."""
    return {
        name: sum(count[0] for count in spec.counts.values() if isinstance(count, list))
        for name, spec in known_datasets().items()
        if spec.counts
    }


def random_estimator(context: Context, precision: Precision, *, compiled: bool) -> DenseposeEstimator:
    """DensePose with weights from a seed, which a file holds from the first time on."""
    path, architecture = context.work / "random.pth", Architecture(50, width=context.scale.width)
    if not path.is_file():
        torch.manual_seed(0)
        state = DenseposeNetwork(architecture).state_dict()
        for key, value in state.items():
            if key.endswith("conv3.norm.weight"):
                value *= 0.2  # otherwise every residual block doubles what goes through it
        torch.save({"model": state}, path)
    weights = Weights(path, open_checkpoint(path).sha256)
    edge = context.scale.short_edge
    return DenseposeEstimator(weights, architecture, context.device, edge, precision, compiled)


def repeated(dataset: Dataset, count: int, work: Path) -> Dataset:
    """``count`` records of the dataset's images, hard links under new names, so that a few of them are many."""
    folder = work / "crops"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for index in range(count):
        record = dataset.records[index % len(dataset.records)]
        path = f"{index:06d}{Path(record.path).suffix}"
        _link(dataset.root / record.path, folder / path)
    records = tuple(replace(dataset.records[0], path=path.name) for path in sorted(folder.iterdir()))
    return Dataset("repeated", folder, records, None)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def stages(context: Context, answer: Answer, end_to_end: EndToEnd) -> None:
    """Each stage of preprocessing by itself, to see which one the others wait for."""
    dataset = end_to_end.dataset()
    title = "Each stage alone (random weights give noisy IUV maps, which compress badly)"
    add = answer.table(title, ("stage", "images/s", "where"))
    for stage, (where, images, action) in _alone(context, dataset).items():
        rate = images / seconds_each(action, context.device, context.scale.least_seconds)
        answer.figure(f"densepose.stages.{stage.replace(' ', '_')}.rate", rate, "images/s")
        add(stage, f"{rate:.4g}", where)
    rate = writing_rate(context, dataset)
    answer.figure("densepose.stages.writing.rate", rate, "images/s")
    add("compressing and writing a shard", f"{rate:.4g}", "one thread")


def _alone(context: Context, dataset: Dataset) -> dict[str, tuple[str, int, Callable[[], object]]]:
    """By stage: where it runs, images of a call, and the call."""
    device = context.device
    records = dataset.records[: min(64, len(dataset.records))]
    crops = [Crop(record, np.asarray(read_record(dataset.root, record, CROP).resized)) for record in records]
    size, number = network_size(*CROP, context.scale.short_edge), len(crops)
    generator = np.random.default_rng(0)
    image = torch.from_numpy(generator.integers(0, 256, (number, *SIZE, 3), np.uint8))
    iuv = torch.from_numpy(generator.integers(0, 25, (number, *SIZE, 3), np.uint8)).to(device)

    def read() -> object:
        return [read_record(dataset.root, record, SIZE) for record in records]

    return {
        "reading JPEGs and resizing": ("one of four threads", number, read),
        "the network's input": ("the estimator's thread", number, lambda: network_input(crops, size, device)),
        "masks and DSAP images": (
            device, number, lambda: derive(image, iuv, size=32, collision="last", device=device)
        ),
    }  # fmt: skip


def writing_rate(context: Context, dataset: Dataset) -> float:
    """Images a second of writing the first shard of the store that was made last."""
    store = open_store(context.work / "store.zarr")
    covered = store.geometry.shard_slice(0)
    path = context.work / "copy.zarr"
    shutil.rmtree(path, ignore_errors=True)
    config = PreprocessConfig(SIZE, dsap_size=store.geometry.dsap_size, collision="last")
    plan = Plan(dataset, path, random_estimator(context, "fp32", compiled=False), config)
    prepare(plan, format="zarr")
    rows = {name: store.read(name, covered) for name in store.markers()[0]["crc32"]}
    seconds = report.seconds(lambda: write_shard(plan.path, shard=0, rows=rows), repeats=1)
    return (covered.stop - covered.start) / seconds
