"""Peak memory of one training step at the papers' sizes, with activations kept and computed again; equal losses.

Random images, each measurement in a process of its own: a step of 8 images, so that Adam's moments exist, then one of
the paper's batch. Kept activations need about 20 GB.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
import torch
from rich import filesize

from bench.report import print_markdown_table
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.data.batch import Inputs
from densereid.train.engine.memory import give_back_freed_memory, keep_freed_memory, peak_memory
from densereid.train.families import build_network, draw_regions_of_batch, loss_of
from densereid.train.networks.recomputation import recompute_activations

CHOICES = ("never", "always")
IDENTITIES = 751


def random_inputs(config: TrainConfig, images: int) -> Inputs:
    """As augmentation gives them."""
    random = torch.Generator().manual_seed(images)
    height, width, size = config.height, config.width, config.model.dsap_size
    image = torch.randn(images, 3, height, width, generator=random).to(memory_format=torch.channels_last)
    identity = torch.arange(images) // config.sampling.images
    if config.model.family == "dsa-reid":
        return Inputs(image, identity, identity, dsap=torch.randn(images, 24, 3, size, size, generator=random))
    mask = torch.randint(0, 8, (images, height, width), dtype=torch.uint8, generator=random)
    return Inputs(image, identity, identity, mask=mask, regions=draw_regions_of_batch(config, random))


def measure(model: str, choice: str, images: int) -> None:
    """Print the process's memory after the imports and at most, the step's seconds and its loss."""
    keep_freed_memory()
    config = load_config(model, {"model.pretrained": "never"})
    cpu = torch.device("cpu")
    imported = peak_memory(cpu)
    network = build_network(config, IDENTITIES, seed=0).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if choice == "always":
        recompute_activations(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-5, weight_decay=5e-4, fused=True)
    give_back_freed_memory()
    for number in (8, images):
        inputs, began = random_inputs(config, number), time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(config, network(inputs), inputs)
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    print(imported, peak_memory(cpu), time.perf_counter() - began, float(loss.total.detach()))


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, default=("dsa-reid", "magnifiernet"), show_default=True)
@click.option("--recompute", "choices", multiple=True, default=CHOICES, show_default=True)
@click.option("--images", type=int, help="Of the batch; the paper's where nothing is said.")
@click.option("--bare", is_flag=True, help="Measure here, and print the bare figures of the first of each.")
def main(models: tuple[str, ...], choices: tuple[str, ...], images: int | None, bare: bool) -> None:
    sampling = load_config(models[0]).sampling
    images = images or sampling.identities * sampling.images
    if bare:
        measure(models[0], choices[0], images)
        return
    rows = []
    for model in models:
        losses = set()
        for choice in choices:
            command = [sys.executable, "-m", "bench.training.memory", "--bare", f"--images={images}"]
            command += [f"--model={model}", f"--recompute={choice}"]
            root = Path(__file__).parents[2]
            result = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
            imported, peak, seconds, loss = result.stdout.split()
            losses.add(loss)
            sizes = (filesize.decimal(int(value)) for value in (imported, peak))
            rows.append((model, images, choice, *sizes, f"{float(seconds):.1f}"))
            click.echo(f"{rows[-1]}", err=True)
        assert len(losses) == 1, "both must have the same loss, to the last bit"
    columns = ("model", "batch", "recompute", "after the imports", "peak memory", "seconds of the step")
    print_markdown_table("`python -m bench.training.memory`", columns, rows, ("torch",))


if __name__ == "__main__":
    main()
