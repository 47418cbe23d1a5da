"""Training, read top to bottom: fit, one epoch, one step, what is logged and saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter

import torch
from rich import filesize
from torch import Tensor

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.config.train_config import TrainConfig
from densereid.train.data.augmentation import augment, draw_augmentation
from densereid.train.data.batch import Batch
from densereid.train.data.dataset import StoreReader, log_repeated_identities
from densereid.train.data.loading import Feeder, choose_feed, decoded_bytes, make_feeder
from densereid.train.data.randomness import Purpose, generator
from densereid.train.data.sampler import PKSampler
from densereid.train.data.workers import choose_workers, hear_no_more_of_workers, lost_worker
from densereid.train.engine.checkpoint import BEST, LAST
from densereid.train.engine.events import Evaluated, Event, OnEvent, StepsDone, console_progress
from densereid.train.engine.memory import give_back_freed_memory, is_out_of_memory, keep_freed_memory, peak_memory
from densereid.train.engine.processes import by_the_first, only_training
from densereid.train.engine.run import Run, out_of_memory, prepare_run, save_run, stop_not_finite
from densereid.train.engine.schedule import log_stages, rate_at
from densereid.train.engine.tracking import SCORES, Tracker
from densereid.train.evaluation.evaluate import evaluate
from densereid.train.evaluation.metrics import Scores, ScoringError
from densereid.train.families import draw_regions_of_batch, loss_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """A finished run: its folder and checkpoints, and its scores where it could be evaluated."""

    run_folder: Path
    epochs: int
    steps: int
    scores: Scores | None
    last_path: Path
    best_path: Path | None
    seconds: float
    """Of this call."""
    is_first: bool = True
    """Whether this is the process that writes and reports: one of those that torchrun starts."""
    problem: str = ""
    """Why the evaluation at the end failed; empty where there was none to make, or it gave scores."""


def fit(
    config: TrainConfig,
    store: StoreReader,
    run_folder: Path,
    *,
    device: torch.device | str = "auto",
    workers: int = 0,
    feed: str = "auto",
    seed: int = 0,
    resume: bool = True,
    lengthen: bool = True,
    on_event: OnEvent | None = None,
) -> FitResult:
    """Train ``config`` on the store's training split, in ``run_folder``.

    Continues from the folder's ``last.pt`` when it is the same run, unless ``resume`` is False, which starts again and
    discards the folder's checkpoints. More epochs than a finished run has ``lengthen`` it, where its learning rates
    would have been the same. ``feed`` is how batches come (:mod:`densereid.train.data.loading`); ``workers`` processes
    read ahead, 0 reads in this one. Under torchrun each process trains on its share of every batch, and the first one
    evaluates and writes. Events go to ``on_event``, or to the console. Ctrl-C loses at most the epoch in progress.
    Where nothing can be scored or an evaluation fails, the log says so and training goes on. Raises UserError for wrong
    config or store, a folder of another run or in use, a lost store, too little memory or disk, a loss that is NaN.
    """
    started = perf_counter()
    keep_freed_memory()
    with only_training(run_folder):
        run = prepare_run(
            config, store, run_folder, device=device, seed=seed, resume=resume, lengthen=lengthen, on_event=_nothing
        )
        give_back_freed_memory()
        _train_and_report(run, feed, workers, on_event)
    log.info("Peak memory: %s on %s.", filesize.decimal(peak_memory(run.fabric.device)), run.fabric.device)
    return _result(run, perf_counter() - started)


def _train_and_report(run: Run, feed: str, workers: int, on_event: OnEvent | None) -> None:
    speaks = on_event is None and run.fabric.is_global_zero
    with _in_words(run), console_progress() if speaks else nullcontext(_nothing) as report:
        run.on_event = on_event or report
        _train(run, feed, workers)


@contextmanager
def _in_words(run: Run) -> Iterator[None]:
    """Say what became of memory or workers where torch's error says little.

    Around all that a training leaves: of a worker that was killed torch tells by a signal, in whatever is under way.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        hear_again = hear_no_more_of_workers()  # before anything else: the signal may come while the sentence is made
        if explained := out_of_memory(run, error) if is_out_of_memory(error) else lost_worker(error):
            raise explained from error
        hear_again()
        raise


def _nothing(_event: Event) -> None:
    """The first process of a training reports, the others nothing."""


def _result(run: Run, seconds: float) -> FitResult:
    best = run.folder / BEST
    scores = Scores(**run.scores) if run.scores_epoch == run.epoch else None  # type: ignore[arg-type]
    return FitResult(
        run.folder, run.epoch, run.step, scores, run.folder / LAST, best if best.is_file() else None, seconds,
        run.fabric.is_global_zero, run.problem,
    )  # fmt: skip


def _train(run: Run, feed: str, workers: int) -> None:
    """Evaluate and train in turn until every epoch is done; each finished epoch is saved."""
    config = run.config
    sampler = PKSampler(
        run.dataset.labels,
        identities=config.sampling.identities,
        images=config.sampling.images,
        seed=run.seed,
        rank=run.fabric.global_rank,
        world_size=run.fabric.world_size,
    )
    log_repeated_identities(run.dataset, config.sampling.images)
    log_stages(config)
    tracker = (
        Tracker(run.folder, step=run.step, scored=run.scores_epoch == run.epoch) if run.fabric.is_global_zero else None
    )
    feeder: Feeder | None = None
    try:
        while True:
            if run.can_evaluate and _evaluation_is_due(run):
                _evaluate(run, tracker)
            if run.epoch >= config.epochs:
                return
            feeder = feeder or _feeder(run, sampler, feed, workers)
            sampler.set_epoch(run.epoch)
            _train_epoch(run, feeder, tracker)
            save_run(run, LAST)
    finally:
        if tracker is not None:
            tracker.close()


def _feeder(run: Run, sampler: PKSampler, feed: str, workers: int) -> Feeder:
    device, processes = run.fabric.device, run.fabric.world_size
    chosen = choose_feed(feed, run.dataset, device, processes=processes)
    log.info("Feeding: %s (%s).", chosen.mode, chosen.reason)
    split, sampling = decoded_bytes(run.dataset), run.config.sampling
    batch = split // len(run.dataset) * sampling.identities * sampling.images // processes
    ahead = choose_workers(chosen.mode, workers, batch_bytes=batch, split_bytes=split, processes=processes)
    if ahead.reason:
        log.warning("Reading ahead with %s.", ahead.reason)
    return make_feeder(chosen.mode, run.dataset, sampler, device=device, workers=ahead.workers, seed=run.seed)


def _train_epoch(run: Run, feeder: Feeder, tracker: Tracker | None) -> None:
    run.network.train()
    steps = len(feeder)
    window: list[dict[str, Tensor]] = []
    images, waited, began = 0, 0.0, perf_counter()
    for index, (batch, wait) in enumerate(_timed(feeder)):
        rate = rate_at(run.config, run.epoch + index / steps)
        window.append(train_step(run, batch, rate))
        images, waited = images + len(batch), waited + wait
        if (index + 1) % run.config.log_every == 0 or index + 1 == steps:
            means = _means(run, window)
            seconds = perf_counter() - began
            run.step_seconds.append(seconds / len(window))
            left = steps * (run.config.epochs - run.epoch) - index - 1
            event = StepsDone(
                run.epoch + 1, run.config.epochs, index + 1, steps, means.pop("loss"), means, rate,
                images / seconds, waited / seconds, left * sum(run.step_seconds[-10:]) / len(run.step_seconds[-10:]),
            )  # fmt: skip
            _report(run, event, tracker)
            window, images, waited, began = [], 0, 0.0, perf_counter()
    run.epoch += 1


def _timed(feeder: Feeder) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds spent waiting for it."""
    batches = iter(feeder)
    while True:
        began = perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        if isinstance(batch, UserError):  # from a worker
            raise batch
        yield batch, perf_counter() - began


def train_step(run: Run, batch: Batch, rate: float) -> dict[str, Tensor]:
    """One optimiser step; the loss and its terms stay on the device, so nothing waits for it."""
    config = run.config
    drawn = draw_augmentation(
        len(batch),
        config.augmentation,
        height=config.height,
        width=config.width,
        # Seeded by the step, so that a resumed run draws what the uninterrupted one would have drawn.
        generator=generator(run.seed, Purpose.AUGMENTATION, run.step, run.fabric.global_rank),
    )
    inputs = augment(
        batch.to(run.fabric.device),
        drawn,
        config.augmentation,
        dsap_size=config.model.dsap_size,
        part_images=config.model.part_images,
    )
    # Of the whole batch, so that every process draws the same.
    regions = draw_regions_of_batch(config, generator(run.seed, Purpose.REGIONS, run.step))
    inputs.regions = None if regions is None else regions.to(run.fabric.device, non_blocking=True)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    run.optimiser.zero_grad(set_to_none=True)  # before the forward pass, or the last step's gradients lie beside it
    loss = loss_of(config, run.network(inputs), inputs, epoch=run.epoch)
    run.fabric.backward(loss.total)
    run.optimiser.step()
    run.step += 1
    return {"loss": loss.total.detach(), **loss.terms}


def _means(run: Run, window: list[dict[str, Tensor]]) -> dict[str, float]:
    """Mean of each value over the window; raises UserError where one is not a number."""
    stacked = torch.stack([torch.stack(tuple(values.values())) for values in window]).mean(0).tolist()
    means = dict(zip(window[0], stacked, strict=True))
    if not all(isfinite(value) for value in stacked):
        stop_not_finite(run, f"the loss is {means['loss']}")
    return means


def _report(run: Run, event: StepsDone, tracker: Tracker | None) -> None:
    values = {"loss": event.loss, **{f"loss/{name}": value for name, value in event.terms.items()}}
    values |= {
        "learning_rate": event.learning_rate,
        "images_per_second": event.images_per_second,
        "data_wait": event.data_wait,
    }
    if tracker is not None:
        tracker.write(values, step=run.step, epoch=run.epoch + event.step / event.steps)
        run.on_event(event)


def _evaluation_is_due(run: Run) -> bool:
    every, epoch = run.config.evaluate_every, run.epoch
    wanted = epoch == run.config.epochs or (every > 0 and epoch > 0 and epoch % every == 0)
    return wanted and run.scores_epoch < epoch


def _evaluate(run: Run, tracker: Tracker | None) -> None:
    """Score the run in its first process, and keep it; where that fails, say so."""
    scores, run.problem = by_the_first(run.fabric, lambda: _scores_or_problem(run))
    if scores is None:
        log.warning(
            "No scores after epoch %d: %s. The run goes on without them; evaluate %s again when that is mended.",
            run.epoch, run.problem, run.folder,
        )  # fmt: skip
        return
    run.scores, run.scores_epoch = asdict(scores), run.epoch
    if tracker is not None:
        named = {f"{SCORES}{name}": value for name, value in run.scores.items()}
        tracker.write(named, step=run.step, epoch=run.epoch)
    if scores.mean_average_precision > run.best:
        run.best = scores.mean_average_precision
        save_run(run, BEST)
    save_run(run, LAST)
    if tracker is not None:
        run.on_event(Evaluated(run.epoch, scores))


def _scores_or_problem(run: Run) -> tuple[Scores | None, str]:
    """The scores, or why there are none. Raises UserError where the store is lost and nothing but scores is left to do:
    once it is back, the same command makes them."""
    try:
        return evaluate(run.module, run.store, config=run.config, device=run.fabric.device), ""
    except UserError as error:
        if run.epoch == run.config.epochs and not isinstance(error, ScoringError):
            raise
        return None, error.problem
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None, f"out of memory on {run.fabric.device}: {first_line(error)}"
