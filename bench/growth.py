"""How time and memory grow with the number of images: every stage at every size, in a process of its own.

    python -m bench.growth --folder FOLDER --images 1000 --images 3000 --images 10000
    python -m bench.growth --folder FOLDER --images 100000 --repeated 10000 --stage preprocess --stage open

The first renders that many pedestrians of 128x64 and takes them through the whole chain; the second links those of a
size that was rendered under new names until there are enough. What was measured is kept in ``growth.json`` of the
folder, and measured only once; the datasets and stores are deleted, the last of them too unless ``--keep`` is given.
``--plot FILE`` draws what is there.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np

from bench.report import print_markdown_table
from bench.stores.interruptions import market_config
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import open_store
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig
from densereid.train.config.train_config import load_config
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.engine.loop import fit
from densereid.train.evaluation.evaluate import protocol_embeddings
from densereid.train.evaluation.metrics import score_embeddings
from densereid.train.evaluation.reranking import Reranking, reranked_scores

MODEL = "dsa-reid-small"
_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def render(folder: Path, images: int) -> None:
    write_dataset(folder / "synthetic", market_config(images), workers=0)


def preprocess(folder: Path, images: int) -> None:  # noqa: ARG001 - as every stage
    is_repeated = (folder / "market").is_dir()
    maps = folder / "market" / "iuv" if is_repeated else None
    dataset = find_dataset("market" if is_repeated else "synthetic", folder, iuv_root=maps)
    config = PreprocessConfig(size=(128, 64), dsap_size=32, collision="last")
    write_store(Plan(dataset, folder / "store.zarr", open_iuv(dataset), config), format="zarr")


def open_whole(folder: Path, images: int) -> None:
    assert open_store(folder / "store.zarr").geometry.num_samples == images


def epoch(folder: Path, images: int) -> None:  # noqa: ARG001
    config = load_config(MODEL, {"epochs": 1, "schedule.warmup_epochs": 0})
    fit(config, open_store(folder / "store.zarr"), folder / "run", device="cpu", feed="disk", on_event=lambda _: None)


def evaluate(folder: Path, images: int) -> None:  # noqa: ARG001
    network, checkpoint = load_trained_network(folder / "run")
    found = protocol_embeddings(network, open_store(folder / "store.zarr"), config=checkpoint.config)
    score_embeddings(*found[Split.QUERY], *found[Split.GALLERY])
    arrays = {f"{role.name}{index}": value for role, pair in found.items() for index, value in enumerate(pair)}
    np.save(folder / "found.npy", arrays, allow_pickle=True)  # type: ignore[arg-type]


def rerank(folder: Path, images: int) -> None:  # noqa: ARG001
    kept = np.load(folder / "found.npy", allow_pickle=True).item()
    reranked_scores(kept["QUERY0"], kept["QUERY1"], kept["GALLERY0"], kept["GALLERY1"], Reranking())


STAGES: dict[str, Callable[[Path, int], None]] = {
    "render": render, "preprocess": preprocess, "open": open_whole, "epoch": epoch, "evaluate": evaluate,
    "re-rank": rerank,
}  # fmt: skip


def measured(stage: str, folder: Path, images: int) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory in GB of a stage; in a new process, after its imports."""
    logging.disable(logging.WARNING)
    began, began_cpu = time.perf_counter(), time.process_time()
    STAGES[stage](folder, images)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - began_cpu, "memory": peak}


def repeat(source: Path, target: Path, images: int) -> None:
    """Links to the rendered images of ``source`` in Market-1501's layout, each time as other persons."""
    files = sorted(file for name in _FOLDERS for file in (source / "synthetic" / name).glob("*.jpg"))
    persons = 1 + max(int(file.name[:4]) for file in files)
    for name in _FOLDERS:
        (target / "market" / name).mkdir(parents=True)
        (target / "market" / "iuv" / name).mkdir(parents=True)
    for number in range(images):
        again, index = divmod(number, len(files))
        file = files[index]
        stem = f"{int(file.name[:4]) + again * persons:04}{file.stem[4:]}"
        os.link(file, target / "market" / file.parent.name / f"{stem}.jpg")
        maps = target / "market" / "iuv" / file.parent.name
        os.link(source / "synthetic" / "iuv" / file.parent.name / f"{file.stem}.png", maps / f"{stem}.png")


def slope(sizes: list[int], values: list[float]) -> float:
    """The exponent of a power law through the points: 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def plot(found: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for stage in STAGES:
        sizes = sorted(int(size) for size, stages in found.items() if stage in stages)
        for axes, key in ((times, "cpu"), (memory, "memory")):
            axes.plot(sizes, [found[str(size)][stage][key] for size in sizes], marker="o", label=stage)
    times.set(xscale="log", yscale="log", xlabel="images", ylabel="CPU seconds")
    memory.set(xscale="log", xlabel="images", ylabel="peak memory, GB", ylim=(0, None))
    memory.legend(fontsize="small")
    for axes in (times, memory):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def print_found(found: dict[str, dict[str, dict[str, float]]]) -> None:
    rows = []
    for stage in STAGES:
        sizes = sorted(int(size) for size, stages in found.items() if stage in stages)
        each = [found[str(size)][stage] for size in sizes]
        for size, one in zip(sizes, each, strict=True):
            rows.append((stage, f"{size:,}", f"{one['cpu']:.2f}", f"{1000 * one['cpu'] / size:.2f}",
                         f"{one['memory']:.2f}"))  # fmt: skip
        if len(sizes) > 1:
            rows.append((f"{stage}, slope", "", f"{slope(sizes, [one['cpu'] for one in each]):.2f}", "", ""))
    columns = ("stage", "images", "CPU seconds", "CPU ms an image", "peak memory, GB")
    print_markdown_table("`python -m bench.growth`", columns, rows, ("torch", "zarr", "numpy"))


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--images", "sizes", multiple=True, type=int, help="A size.")
@click.option("--repeated", type=int, help="Link the images of this size, rendered with --keep, instead of rendering.")
@click.option("--stage", "stages", multiple=True, default=tuple(STAGES), show_default=True)
@click.option("--keep", is_flag=True, help="Keep the last size's images.")
@click.option("--plot", "picture", type=click.Path(path_type=Path))
def main(
    folder: Path, sizes: tuple[int, ...], repeated: int | None, stages: tuple[str, ...], keep: bool,
    picture: Path | None,
) -> None:  # fmt: skip
    """Measure what is not measured yet."""
    kept = folder / "growth.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for size in sizes:
        here = folder / str(size)
        if repeated is not None:
            repeat(folder / str(repeated), here, size)
        for stage in stages:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                figures = pool.submit(measured, stage, here, size).result()
            found.setdefault(str(size), {})[stage] = figures
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
            click.echo(f"{size} {stage}: {figures}", err=True)
        for rest in ("store.zarr", "run", *(() if keep and size == sizes[-1] else (".",))):
            shutil.rmtree(here / rest, ignore_errors=True)
    print_found(found)
    if picture is not None:
        plot(found, picture)


if __name__ == "__main__":
    main()
