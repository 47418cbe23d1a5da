"""Training steps at the papers' sizes: images a second, waiting, arithmetic, memory, hours, the largest kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.gpu_questions.answers import Answer, read_answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.questions.embedding import embed
from bench.gpu_questions.questions.machine import share_of_peak
from bench.gpu_questions.questions.rendered import rendered_store
from bench.gpu_questions.questions.timing import forget, operations, wait
from bench.training.steps import BASELINE_HOURS, Steps, measure, measured_config
from densereid.data_catalog.store.store import Store
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.data.batch import Batch
from densereid.train.data.loading import make_feeder
from densereid.train.data.sampler import PKSampler
from densereid.train.engine.checkpoint import LAST
from densereid.train.engine.loop import train_step
from densereid.train.engine.run import Run, prepare_run, save_run

COLUMNS = (
    "model", "precision", "compiled", "feed", "images/s", "data wait", "kernels' share of the time", "TFLOP/s",
    "of bf16's peak", "peak memory, GB", "epochs", "hours for Market-1501", "against the paper's own hours",
)  # fmt: skip
WORDS = {"bf16": "bf16-mixed", "fp32": "32-true"}
"""Lightning's for a precision."""

_KERNELS = 5
_RATE = 1e-5
"""Learning rate of steps that are looked at one by one."""

_DISK_SECONDS, _DISK_WORKERS = 25.0, 4
"""Time that reading from disk takes with that many processes, which start first."""


def answer(context: Context, answer: Answer) -> None:
    """bf16 before fp32, and what the time goes to; reading from disk where time is left."""
    trainings = Training(context, answer)
    feed, *others = context.scale.feeds
    for index, precision in enumerate(WORDS[precision] for precision in context.scale.precisions):
        for family in context.scale.families:
            if not index:
                answer.attempt(f"{family}, a step dissected", trainings.dissect, family, precision)
            answer.attempt(f"{family}, {precision}", trainings.measure, family, precision, feed=feed)
    embed(context, answer)
    for other in others:
        if context.seconds_left() > _DISK_SECONDS:
            precision = WORDS[context.scale.precisions[0]]
            answer.attempt(f"dsa-reid, {other}", trainings.measure, "dsa-reid", precision, feed=other)
        else:
            answer.note(f"Not measured, for want of time: feed {other}.")


class Training:
    """Trains on the rendered pedestrians; ``family`` is magnifiernet or dsa-reid, ``precision`` Lightning's word."""

    def __init__(self, context: Context, answer: Answer) -> None:
        self._context, self._answer = context, answer
        self._add = answer.table("Training steps", COLUMNS)

    def measure(self, family: str, precision: str, *, compiled: bool = False, feed: str = "auto") -> None:
        """A row of the table, and its figures."""
        scale, device = self._context.scale, self._context.device
        config = measured_config(scale.models[family], precision, compiled=compiled, window=scale.window)
        forget(device)
        workers = _DISK_WORKERS if feed == "disk" and self._context.is_gpu else 0
        with self._context.run_folder() as folder:
            found = measure(config, self._store(config), Path(folder), device=device, feed=feed, workers=workers)
        hours = found.hours(load_config(config.name).epochs)
        kind = "training" if feed == "auto" else f"feeding.{feed}"
        name = f"{kind}.{family}.{precision}{'.compiled' if compiled else ''}"
        for key, value in (("rate", found.rate), ("wait", found.wait), ("memory", found.memory), ("hours", hours)):
            self._answer.figure(f"{name}.{key}", value)
        self._row(family, config, feed, found)

    def _row(self, family: str, config: TrainConfig, feed: str, found: Steps) -> None:
        epochs, theirs = load_config(config.name).epochs, BASELINE_HOURS.get(config.name)
        operations_an_image = self._known(f"training.{family}.operations")
        kernels_an_image = self._known(f"training.{family}.{config.precision}.kernels")
        done = None if operations_an_image is None else found.rate * operations_an_image
        eager = not config.compile
        self._add(
            config.name, config.precision, "no" if eager else "yes", feed, f"{found.rate:.4g}", f"{found.wait:.2%}",
            f"{found.rate * kernels_an_image:.0%}" if eager and kernels_an_image else "",
            "" if done is None else f"{done / 1e12:.3g}", "" if done is None else share_of_peak(self._context, done),
            f"{found.memory / 1e9:.1f}", epochs, f"{found.hours(epochs):.2f}",
            "" if theirs is None else f"{theirs / found.hours(epochs):.2f}x",
        )  # fmt: skip

    def _known(self, figure: str) -> float | None:
        """A figure of this step or of the training step before it."""
        for figures in (self._answer.content["figures"], read_answer(self._context.steps, "training")["figures"]):
            if figure in figures:
                return float(figures[figure][0])
        return None

    def dissect(self, family: str, precision: str) -> None:
        """The operations of a step, its largest kernels, and what a checkpoint after each epoch costs."""
        scale, device = self._context.scale, self._context.device
        config = measured_config(scale.models[family], precision, compiled=False, window=scale.window)
        forget(device)
        with self._context.run_folder() as folder:
            run = prepare_run(
                config, self._store(config), Path(folder), device=device, seed=0, resume=False, on_event=lambda _: None
            )
            batch = first_batch(run)
            train_step(run, batch, _RATE)  # what is chosen or allocated on first use does not count
            counted = operations(lambda: train_step(run, batch, _RATE))
            self._answer.figure(f"training.{family}.operations", counted / len(batch), "operations an image")
            self._answer.attempt(f"{family}, its kernels", self._kernels, family, run, batch)
            self._answer.attempt(f"{family}, its checkpoint", self._checkpoint, family, run)

    def _kernels(self, family: str, run: Run, batch: Batch) -> None:
        steps, model = self._context.scale.profiled_steps, run.config.name
        kernels = kernel_seconds(lambda: train_step(run, batch, _RATE), self._context, steps)
        whole = sum(kernels.values())
        name = f"training.{family}.{run.config.precision}.kernels"
        self._answer.figure(name, whole / len(batch), "seconds of kernels an image")
        kind = "kernels" if self._context.is_gpu else "operators"
        title = f"{model}, {run.config.precision}: the largest {kind} of a step, {1e3 * whole:.1f} ms in all"
        add = self._answer.table(title, (kind, "ms a step", "share"))
        for kernel in sorted(kernels, key=kernels.__getitem__, reverse=True)[:_KERNELS]:
            add(kernel[:120], f"{1e3 * kernels[kernel]:.2f}", f"{kernels[kernel] / whole:.1%}")

    def _checkpoint(self, family: str, run: Run) -> None:
        """The hours of a schedule leave it out; it is written after each epoch, to disk and not to memory here."""
        run.folder = self._context.work / f"checkpoint-{family}"
        run.folder.mkdir()
        wait(self._context.device)
        began = time.perf_counter()
        save_run(run, LAST)
        seconds, size = time.perf_counter() - began, (run.folder / LAST).stat().st_size
        rmtree(run.folder)
        epochs = load_config(run.config.name).epochs
        self._answer.figure(f"training.{family}.checkpoint", seconds, "seconds")
        self._answer.note(
            f"{run.config.name}: a checkpoint has {size / 1e9:.2f} GB and takes {seconds:.1f} s; one after each of "
            f"{epochs} epochs adds {epochs * seconds / 3600:.2f} hours to the schedule."
        )

    def _store(self, config: TrainConfig) -> Store:
        return rendered_store(self._context, config.height, config.width)


def first_batch(run: Run) -> Batch:
    """The first batch of a run's first epoch, on its device."""
    sampling = run.config.sampling
    sampler = PKSampler(run.dataset.labels, identities=sampling.identities, images=sampling.images, seed=run.seed)
    feeder = make_feeder("disk", run.dataset, sampler, device=torch.device("cpu"), workers=0, seed=run.seed)
    return next(iter(feeder)).to(run.fabric.device)


def kernel_seconds(action: Callable[[], object], context: Context, calls: int) -> dict[str, float]:
    """Seconds that a call spends in each kernel of a GPU by its name; on a CPU in each of torch's operators."""
    kind = DeviceType.CUDA if context.is_gpu else DeviceType.CPU
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if context.is_gpu else [])]
    with profile(activities=activities) as found:
        for _ in range(calls):
            action()
        wait(context.device)
    # Regions that programs name (an optimiser's step) span kernels that stand for themselves.
    events = [event for event in found.key_averages() if event.device_type == kind and not event.is_user_annotation]
    spent = {
        event.key: event.self_device_time_total if context.is_gpu else event.self_cpu_time_total for event in events
    }
    return {name: 1e-6 * microseconds / calls for name, microseconds in spent.items()}
