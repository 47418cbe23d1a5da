"""What a training step waits for: feeding modes and store formats against files per image and a raw memmap.

Every source is read by the same dataset, sampler and loop; a peer's files stand behind the same
``read`` as a store.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from rich import filesize

from bench.report import print_markdown_table
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import FORMATS, Store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.data.dataset import StoreDataset
from densereid.train.data.loading import decoded_bytes, make_feeder
from densereid.train.data.sampler import PKSampler
from densereid.train.engine.events import Event, StepsDone
from densereid.train.engine.loop import fit
from densereid.train.families import training_arrays

PER_SAMPLE = ("image", "dsap", "dsap_valid")


class Peer:
    """A store whose large arrays lie elsewhere: ``fetch(name, rows)`` gives those of some samples."""

    def __init__(self, store: Store, fetch: Callable[[str, Sequence[int]], np.ndarray]) -> None:
        self.path, self.attributes, self.geometry = store.path, store.attributes, store.geometry
        self._store, self._fetch = store, fetch

    def read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        if name not in PER_SAMPLE:
            return self._store.read(name, rows)
        return self._fetch(name, np.arange(self.geometry.num_samples)[rows].tolist())

    def missing_shards(self) -> list[int]:
        return []


def make_stores(folder: Path, height: int, width: int, identities: int) -> dict[str, Store]:
    """One store of rendered pedestrians in each format."""
    rendered = SyntheticConfig(train_identities=identities, test_identities=2, distractors=0, junk=0)
    write_dataset(folder / "synthetic", rendered, workers=2)
    dataset = find_dataset("synthetic", folder)
    stores = {}
    for name, module in FORMATS.items():
        path = folder / f"store{module.SUFFIX}"
        config = PreprocessConfig(size=(height, width), dsap_size=32, collision="last")
        plan = Plan(dataset, path, open_iuv(dataset), config)
        stores[name] = write_store(plan, format=name)
    return stores


def make_peers(store: Store, folder: Path) -> dict[str, Peer]:
    """The same samples as .npy files, .npz files (plain and compressed) and raw memory-mapped arrays."""
    arrays = {name: store.read(name) for name in PER_SAMPLE}
    for row in range(store.geometry.num_samples):
        sample = {name: values[row] for name, values in arrays.items()}
        for name, values in sample.items():
            np.save(folder / f"{row}-{name}.npy", values)
        np.savez(folder / f"{row}.npz", **sample)
        np.savez_compressed(folder / f"{row}-compressed.npz", **sample)
    for name, values in arrays.items():
        np.save(folder / f"all-{name}.npy", values)
    mapped = {name: np.load(folder / f"all-{name}.npy", mmap_mode="r") for name in PER_SAMPLE}

    def each(read: Callable[[str, int], np.ndarray]) -> Callable[[str, Sequence[int]], np.ndarray]:
        return lambda name, rows: np.stack([read(name, row) for row in rows])

    return {
        "raw array in memory": Peer(store, lambda name, rows: arrays[name][rows]),
        "raw memmap (the ceiling)": Peer(store, lambda name, rows: mapped[name][rows]),
        "a .npy file per array and image": Peer(store, each(lambda name, row: np.load(folder / f"{row}-{name}.npy"))),
        "a .npz file per image": Peer(store, each(lambda name, row: np.load(folder / f"{row}.npz")[name])),
        "a compressed .npz file per image": Peer(
            store, each(lambda name, row: np.load(folder / f"{row}-compressed.npz")[name])
        ),
    }


def samples_per_second(source: Any, config: TrainConfig, feed: str, workers: int, device: torch.device) -> float:
    """Samples that arrive a second when nothing else is done: the fastest of four epochs after one that warms up."""
    dataset = StoreDataset(source, Split.TRAIN, needs=training_arrays(config), height=config.height, width=config.width)
    sampling = config.sampling
    sampler = PKSampler(dataset.labels, identities=sampling.identities, images=sampling.images, seed=0)
    feeder = make_feeder(feed, dataset, sampler, device=device, workers=workers, seed=0)
    rates = []
    for _ in range(5):
        began = perf_counter()
        number = sum(len(batch) for batch in feeder)
        rates.append(number / (perf_counter() - began))
    return max(rates[1:])


def data_wait(source: Any, config: TrainConfig, feed: str, workers: int, device: str, run: Path) -> tuple[float, float]:
    """(images/s, share of the time spent waiting for data) of training, over an epoch after one that does not count."""
    steps: list[StepsDone] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StepsDone) and event.epoch > 1:
            steps.append(event)

    fit(config, source, run, device=device, workers=workers, feed=feed, on_event=on_event)
    return float(np.mean([event.images_per_second for event in steps])), float(
        np.mean([event.data_wait for event in steps])
    )


@click.command()
@click.option("--model", default="dsa-reid-small", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--identities", default=66, show_default=True, help="Training identities, 12 images each.")
@click.option("--workers", default=1, show_default=True)
@click.option("--alone", is_flag=True, help="Reading alone, without training.")
def main(model: str, device: str, identities: int, workers: int, alone: bool) -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    config = load_config(model, {"epochs": 2, "evaluate_every": 0, "model.pretrained": "never"})
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stores = make_stores(folder, config.height, config.width, identities)
        (folder / "peers").mkdir()
        peers = make_peers(stores["zarr"], folder / "peers")
        sources: list[tuple[str, Any, str, int]] = [(name, peer, "disk", 0) for name, peer in peers.items()]
        for name, store in stores.items():
            sources += [(f"our {name}", store, "disk", 0), (f"our {name}", store, "disk", workers)]
        sources += [("our zarr", stores["zarr"], "memory", 0), ("our zarr", stores["zarr"], "device", 0)]
        for index, (name, source, feed, processes) in enumerate(sources):
            reading = samples_per_second(source, config, feed, processes, torch.device(device))
            rows.append([name, feed, processes, f"{reading:.0f}"])
            if not alone:
                rate, wait = data_wait(source, config, feed, processes, device, folder / f"run{index}")
                rows[-1] += [f"{rate:.0f}", f"{wait:.1%}"]
            click.echo(f"{rows[-1]}", err=True)
        dataset = StoreDataset(
            stores["zarr"], Split.TRAIN, needs=training_arrays(config), height=config.height, width=config.width
        )
        size = f"{len(dataset)} training images, {filesize.decimal(decoded_bytes(dataset))} decoded"
    title = f"Feeding {model} on {device}: {size}, page cache warm"
    columns = ["source", "feed", "workers", "samples/s, reading alone"]
    columns += [] if alone else ["images/s in training", "data wait"]
    print_markdown_table(title, columns, rows, ("torch", "zarr", "tensorstore", "h5py"))


if __name__ == "__main__":
    main()
