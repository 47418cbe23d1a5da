"""How many images a second a network trains, what it waits for, and how long the paper's whole schedule would take.

python -m bench.steps --device cuda --precision bf16-mixed            # the papers' own sizes, batches of 64
python -m bench.steps --model dsa-reid-small --model magnifiernet-small
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from rich import filesize

from bench.feeding import make_stores
from bench.report import print_markdown_table
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


def measure(config: TrainConfig, store: Store, run: Path, *, device: str, feed: str = "auto") -> Steps:
    """Train for ``config.epochs`` (2 or more) on the store; the first epoch, which warms up, does not count."""
    counted: list[StepsDone] = []
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def on_event(event: Event) -> None:
        if isinstance(event, StepsDone) and event.epoch > 1:
            counted.append(event)

    fit(config, store, run, device=device, feed=feed, on_event=on_event)
    rate = float(np.mean([event.images_per_second for event in counted]))
    wait = float(np.mean([event.data_wait for event in counted]))
    return Steps(rate, wait, peak_memory(torch.device(device)))


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, default=("dsa-reid", "magnifiernet"), show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", default="32-true", show_default=True, help="32-true, bf16-mixed or 16-mixed.")
@click.option("--compiled", is_flag=True, help="With torch.compile.")
@click.option("--feed", default="auto", show_default=True, help="auto, disk, memory or device.")
@click.option("--identities", default=128, show_default=True, help="Training identities, 12 images each.")
@click.option("--epochs", default=3, show_default=True, help="The first does not count.")
def main(
    models: tuple[str, ...], device: str, precision: str, compiled: bool, feed: str, identities: int, epochs: int
) -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    changes = {"epochs": epochs, "evaluate_every": 0, "log_every": 1000, "model.pretrained": "never"}
    changes |= {"precision": precision, "compile": compiled}
    rows = []
    for model in models:
        whole, config = load_config(model), load_config(model, changes)
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
