"""The report of a run at Market-1501's size: how long `make report` takes, and how large its page is.

Random people: an embedding is its person's, moved by its camera and by noise. The pictures are a few rendered
pedestrians, repeated. The store, the run and its kept embeddings are made first, and do not count; the command runs in
a process of its own, as `make report` starts it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import click
import numpy as np
import torch
from PIL import Image

from bench.report import print_markdown_table
from densereid.data_catalog.store.schema import Geometry, Split, arrays_written
from densereid.data_catalog.store.store import Store, create_store, open_store, write_shard
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.pipeline.commands.networks.open_run import open_run
from densereid.train.config.train_config import load_config
from densereid.train.engine.checkpoint import Checkpoint, library_versions, save_checkpoint, store_fingerprint
from densereid.train.evaluation import kept_embeddings
from densereid.train.evaluation.evaluate import protocol_labels
from densereid.train.families import build_network

PERSONS, CAMERAS, DISTRACTORS, JUNK = 750, 6, 2798, 3819
"""Of Market-1501's test split."""


def pool(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A few rendered pedestrians and masks of as many bands as there are parts, uint8 (N, 128, 64, ...)."""
    write_dataset(folder, SyntheticConfig(train_identities=4, test_identities=4, images_per_identity=6))
    files = sorted(folder.rglob("*.jpg"))[:48]
    images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((64, 128))) for file in files])
    bands = np.repeat(np.arange(8), 16)[None, :, None]
    shown = np.random.default_rng(0).integers(5, 9, (len(images), 1, 1))
    masks = np.broadcast_to(np.where(bands < shown, bands, 0), (len(images), 128, 64))
    return images, masks.astype(np.uint8)


def labels(queries: int, gallery: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    known = gallery * (19732 - DISTRACTORS - JUNK) // 19732
    others = np.where(np.arange(gallery - known) < (gallery - known) * DISTRACTORS // (DISTRACTORS + JUNK), 0, -1)
    persons = [random.integers(1, PERSONS + 1, queries), random.integers(1, PERSONS + 1, known), others]
    length = queries + gallery
    return {
        "person_id": np.concatenate(persons), "camera_id": random.integers(1, CAMERAS + 1, length),
        "split": np.repeat([int(Split.QUERY), int(Split.GALLERY)], [queries, gallery]),
        "path": np.array([f"image-{number:05d}.jpg" for number in range(length)], object),
    }  # fmt: skip


def make_store(folder: Path, queries: int, gallery: int) -> Store:
    geometry = Geometry(queries + gallery, 128, 64, dsap_size=8, shard_rows=1024)
    images, masks = pool(folder / "data")
    known, path = labels(queries, gallery), folder / "market.zarr"
    created = {
        spec.name: known[spec.name].astype(object if spec.dtype == "str" else spec.dtype)
        if spec.name in known
        else np.zeros(spec.shape(geometry), spec.dtype)
        for spec in arrays_written("create")
    }
    create_store(path, format="zarr", geometry=geometry, attributes={"dataset": "market"}, rows=created)
    for shard in range(geometry.num_shards):
        rows = geometry.shard_slice(shard)
        numbers = np.arange(rows.start, rows.stop) * 7 % len(images)
        zeros = {
            spec.name: np.zeros((len(numbers), *spec.shape(geometry)[1:]), spec.dtype)
            for spec in arrays_written("shard")
        }
        write_shard(path, shard=shard, rows={**zeros, "image": images[numbers], "mask": masks[numbers]})
    return open_store(path)


def make_run(folder: Path, store: Store) -> None:
    """A run that was never trained, with the learning curves of one that was."""
    config = load_config("dsa-reid-small")
    network = build_network(config, PERSONS, seed=0)
    checkpoint = Checkpoint(
        model=network.state_dict(), optimiser={}, epoch=config.epochs, step=1, best=-1.0, scores={}, scores_epoch=-1,
        seed=0, random={}, config=config, num_identities=PERSONS, store=store_fingerprint(store),
        versions=library_versions(),
    )  # fmt: skip
    folder.mkdir()
    save_checkpoint(folder / "last.pt", checkpoint)
    names = ("loss", *(f"loss/term_{number}" for number in range(12)), "learning_rate", "scores/rank_1")
    rows = [f"{step},{step / 4:.4f},{name},{1 / step:.6g}" for step in range(1, 961) for name in names]
    (folder / "metrics.csv").write_text("\n".join(("step,epoch,name,value", *rows, "")))


def keep_embeddings(run: Path, store: Store, width: int) -> None:
    """As an evaluation would have left them."""
    random = torch.Generator().manual_seed(2)
    centres, cameras = (
        torch.randn(PERSONS + 1, width, generator=random),
        torch.randn(CAMERAS + 1, width, generator=random),
    )
    found = {}
    for role, each in protocol_labels(store).items():
        noise = torch.randn(len(each.person_id), width, generator=random)
        strangers = torch.where(each.person_id[:, None] > 0, centres[each.person_id.clamp_min(0)], noise)
        values = strangers + 0.7 * cameras[each.camera_id] + 1.3 * noise
        found[role] = (torch.nn.functional.normalize(values), each)
    opened = open_run(run, store_path=None, device="cpu", feature=None, checkpoint_name="last.pt")
    with mock.patch.object(kept_embeddings, "protocol_embeddings", return_value=found):
        opened.embedded()


@click.command()
@click.option("--queries", default=3368, show_default=True)
@click.option("--gallery", default=19732, show_default=True)
@click.option("--width", default=2048, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep what is made there, and find it again.")
@click.option("--prepare", is_flag=True, help="Only make the store, the run and its embeddings.")
def main(queries: int, gallery: int, width: int, folder: Path | None, prepare: bool) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        if not (place / "run" / "evaluations").exists():
            place.mkdir(exist_ok=True)
            store = make_store(place, queries, gallery)
            make_run(place / "run", store)
            keep_embeddings(place / "run", store, width)
        if prepare:
            return
        start = time.perf_counter()
        command = [sys.executable, "-m", "pipeline", "report", str(place / "run"), "--device", "cpu"]
        environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}  # as the Makefile has it
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        size = Path(done.stdout.strip()).stat().st_size
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6
    cells = (f"{wall:.0f}", f"{cpu:.0f}", f"{os.getloadavg()[0]:.1f}", f"{memory:.1f}", f"{size / 1e6:.1f}")
    title = f"`python -m bench.evaluation.run_report --queries={queries} --gallery={gallery} --width={width}`"
    columns = ("seconds", "CPU seconds", "load", "GB of memory", "MB of page")
    print_markdown_table(title, columns, [cells], ("torch", "matplotlib"))


if __name__ == "__main__":
    main()
