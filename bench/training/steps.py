"""How many images a second a network trains, what it waits for, and how long the paper's whole schedule would take.

python -m bench.training.steps --device cuda --precision bf16-mixed            # the papers' own sizes, batches of 64
python -m bench.training.steps --model dsa-reid-small --model magnifiernet-small
python -m bench.training.steps --identities 32 --window 4                      # four after four, where they take long
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from rich import filesize

from bench.gpu import forget_peak_memory
from bench.report import print_markdown_table
from bench.training.feeding import make_stores
from densereid.data_catalog.store.store import Store
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.engine.events import Event, StepsDone
from densereid.train.engine.loop import fit
from densereid.train.engine.memory import peak_memory

MARKET_IMAGES = 12_936
"""Training images of Market-1501: what an epoch of the projected schedule holds."""

BASELINE_HOURS = {"magnifiernet": 4.0}
"""Hours that a paper itself names for its schedule on Market-1501: MagnifierNet's, 500 epochs on one V100."""


@dataclass(frozen=True)
class Steps:
    """Images a second, the share of the time spent waiting for data, and the peak memory in bytes.

    The memory is the GPU's in this measurement, or the process's since it began.
    """

    rate: float
    wait: float
    memory: int

    def hours(self, epochs: int) -> float:
        """Of ``epochs`` over Market-1501's training images, at this rate."""
        return epochs * MARKET_IMAGES / self.rate / 3600


def measure(
    config: TrainConfig, store: Store, run: Path, *, device: str, feed: str = "auto", workers: int = 0
) -> Steps:
    """Train ``config.epochs`` on the store, without the checkpoint and the evaluation at the end.

    The first window of ``config.log_every`` steps, which warms up, does not count: an epoch must have more steps.
    """
    counted: list[StepsDone] = []
    forget_peak_memory(device)

    def on_event(event: Event) -> None:
        assert isinstance(event, StepsDone), "config.evaluate_every is 0"
        if event.epoch > 1 or event.step > config.log_every:
            counted.append(event)
        if event.epoch == config.epochs and event.step == event.steps:
            raise _AllMeasured

    with suppress(_AllMeasured):
        fit(config, store, run, device=device, feed=feed, workers=workers, on_event=on_event)
    rate = float(np.mean([event.images_per_second for event in counted]))
    wait = float(np.mean([event.data_wait for event in counted]))
    return Steps(rate, wait, peak_memory(torch.device(device)))


def measured_config(model: str, precision: str, *, compiled: bool, window: int) -> TrainConfig:
    """The experiment of that name for one epoch of random weights, told every ``window`` steps."""
    changes = {"epochs": 1, "evaluate_every": 0, "log_every": window, "model.pretrained": "never"}
    return load_config(model, {**changes, "precision": precision, "compile": compiled})


class _AllMeasured(Exception):  # noqa: N818 (no error)
    """Ends a training that has told all that is wanted of it."""


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, default=("dsa-reid", "magnifiernet"), show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", default="32-true", show_default=True, help="32-true, bf16-mixed or 16-mixed.")
@click.option("--compiled", is_flag=True, help="With torch.compile.")
@click.option("--feed", default="auto", show_default=True, help="auto, disk, memory or device.")
@click.option("--identities", default=192, show_default=True, help="Training identities, 12 images each.")
@click.option("--window", default=6, show_default=True, help="Steps that are averaged; the first so many do not count.")
def main(
    models: tuple[str, ...], device: str, precision: str, compiled: bool, feed: str, identities: int, window: int
) -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    rows = []
    for model in models:
        whole, config = load_config(model), measured_config(model, precision, compiled=compiled, window=window)
        with tempfile.TemporaryDirectory() as temporary:
            store = make_stores(Path(temporary), config.height, config.width, identities)["zarr"]
            found = measure(config, store, Path(temporary) / "run", device=device, feed=feed)
        theirs = BASELINE_HOURS.get(model)
        rows.append(
            (
                model,
                f"{config.height}x{config.width}",
                config.sampling.identities * config.sampling.images,
                f"{found.rate:.1f}",
                f"{found.wait:.2%}",
                filesize.decimal(found.memory),
                whole.epochs,
                f"{found.hours(whole.epochs):.1f}",
                "" if theirs is None else f"{theirs / found.hours(whole.epochs):.2f}x",
            )
        )
        click.echo(f"{rows[-1]}", err=True)
    where = torch.cuda.get_device_name() if device == "cuda" else device
    columns = ("model", "size", "batch", "images/s", "data wait", "peak memory", "epochs", "hours for Market-1501")
    title = f"Training steps on {where}, {precision}, feed {feed}, compiled {'on' if compiled else 'off'}"
    print_markdown_table(title, (*columns, "against the paper's own hours"), rows, ("torch",))


if __name__ == "__main__":
    main()
