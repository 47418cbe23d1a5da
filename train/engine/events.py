"""What a running training reports: events, and the console lines made of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from densereid.train.evaluation.metrics import Scores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepsDone:
    """Means over the steps since the previous event."""

    epoch: int
    """The epoch in progress, from 1."""
    epochs: int
    step: int
    """Steps done in this epoch, 1..steps."""
    steps: int
    loss: float
    terms: dict[str, float]
    """Named, weighted terms of the loss."""
    learning_rate: float
    images_per_second: float
    data_wait: float
    """Share of the time spent waiting for data, 0..1."""
    remaining_seconds: float
    """For the rest of the run, without evaluations."""


@dataclass(frozen=True)
class Evaluated:
    """The scores after ``epoch`` finished epochs."""

    epoch: int
    scores: Scores


Event = StepsDone | Evaluated
OnEvent = Callable[[Event], None]


def describe_event(event: Event) -> str:
    """One line of text."""
    if isinstance(event, Evaluated):
        scores = event.scores
        return (
            f"after epoch {event.epoch}: Rank-1 {scores.rank_1:.1%}  Rank-5 {scores.rank_5:.1%}  "
            f"Rank-10 {scores.rank_10:.1%}  mAP {scores.mean_average_precision:.1%}  "
            f"({scores.num_valid_queries} queries, {scores.num_gallery} gallery images)"
        )
    return (
        f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.3f}  {event.images_per_second:.0f} images/s  "
        f"data wait {event.data_wait:.0%}  remaining {timedelta(seconds=round(event.remaining_seconds))}"
    )


@contextmanager
def console_progress() -> Iterator[OnEvent]:
    """A callback that shows events: a bar on a terminal, one logged line an epoch elsewhere."""
    if not sys.stderr.isatty():
        yield _log_event
        return
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("waiting for the first steps", total=None)

        def show(event: Event) -> None:
            if isinstance(event, Evaluated):
                console.print(describe_event(event), highlight=False)
                return
            done = (event.epoch - 1) * event.steps + event.step
            bar.update(task, total=event.epochs * event.steps, completed=done, description=describe_event(event))

        yield show


def _log_event(event: Event) -> None:
    if isinstance(event, Evaluated) or event.step == event.steps:
        log.info("%s", describe_event(event))
