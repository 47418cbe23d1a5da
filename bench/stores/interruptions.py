"""Is a store that was killed again and again the same as one that was not? And what does a run need?

Renders ``--images`` pedestrians in Market-1501's grammar into ``--folder`` (or takes those that are there),
preprocesses them without a break with ESTIMATOR=iuv, and again with ``--kills`` SIGKILLs at random moments, each
followed by the same command. Then it compares the two stores file by file and array by array, and prints time, peak
memory, files and bytes. It exits with 1 where anything differs or a kill came too late.

    python -m bench.stores.interruptions --folder /tmp/market --format zarr --format hdf5  # Market's size, minutes
    python -m bench.stores.interruptions --folder /tmp/small --images 1500 --kills 5 --shard-rows 64  # half a minute
"""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil

from bench.report import print_markdown_table
from densereid.data_catalog.store.schema import ARRAYS
from densereid.data_catalog.store.store import FORMATS, open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import plan_images, write_dataset

_PER_IDENTITY = 16
_POLL_SECONDS = 0.02
_OF_THE_RUN = {"provenance.json"}
"""Files that say when and by what a store was made, which is another story for every run."""


@dataclass(frozen=True)
class Ended:
    """How a preprocessing process ended: its exit code, its seconds, its peak memory and that of each quarter."""

    code: int
    seconds: float
    peak: int
    """Bytes."""
    quarters: tuple[int, ...]
    """Bytes; the largest of what was looked at every few milliseconds."""


def market_config(images: int) -> SyntheticConfig:
    """A synthetic dataset of exactly ``images`` images: identities, and distractors for what is left over."""
    identities = images // _PER_IDENTITY
    test = max(1, min(750, identities // 2))
    return SyntheticConfig(
        train_identities=identities - test,
        test_identities=test,
        images_per_identity=_PER_IDENTITY,
        cameras=6,
        distractors=images - identities * _PER_IDENTITY,
        junk=0,
    )


def command(data: Path, stores: Path, format: str, shard_rows: int) -> list[str]:
    """The preprocessing command as a user types it."""
    options = {
        "dataset": "synthetic",
        "data-root": data,
        "store-root": stores,
        "store": format,
        "estimator": "iuv",
        "shard-rows": shard_rows,
        "workers": 0,
        "device": "cpu",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "pipeline", "preprocess", *words]


class Moment:
    """A moment of a run: when ``shards`` more shards are finished, the fraction being time since the last of them."""

    def __init__(self, store: Path, shards: float, *, seconds_a_shard: float) -> None:
        self._store = store
        self._finished = finished(store) + int(shards)
        self._delay = shards % 1 * seconds_a_shard
        self._reached = float("inf")

    def is_now(self) -> bool:
        if self._reached == float("inf") and finished(self._store) >= self._finished:
            self._reached = time.perf_counter()
        return time.perf_counter() >= self._reached + self._delay


def finished(store: Path) -> int:
    """Shards of a store that count."""
    return len(list((store / "shards").glob("[0-9]*.json")))


def run(arguments: list[str], kill: Moment | None = None) -> Ended:
    """Run the command, and kill it at that moment; the time of loading is not counted."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("estimator "):  # said before the store is made or opened
            break
    os.set_blocking(process.stderr.fileno(), False)
    start = time.perf_counter()
    pid = 0
    memory = []
    while not pid:
        memory.append(resident(process.pid))
        time.sleep(_POLL_SECONDS)
        said += process.stderr.readlines()  # a full pipe would stop it
        if kill is not None and kill.is_now():
            process.send_signal(signal.SIGKILL)
            kill = None
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}:\n{''.join(said)}")
    return Ended(process.returncode, seconds, usage.ru_maxrss * 1024, quarters(memory))


def resident(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    held: int = psutil.Process(pid).memory_info().rss
    return held


def quarters(values: list[int]) -> tuple[int, ...]:
    """The largest of each quarter of the values."""
    return tuple(max(part.tolist(), default=0) for part in np.array_split(values, 4))


def run_with_kills(arguments: list[str], once: Path, store: Path, *, kills: int, seconds: float) -> list[Ended]:
    """Every start of the command until ``store`` is complete, each but the last killed at a random moment.

    ``once`` is the finished store of a run that took ``seconds``. Each moment is drawn between now and twice the
    equal share of what is missing, so that kills and work last equally long, whatever else the machine does.
    """
    generator = random.Random(0)
    total = open_store(once).geometry.num_shards
    starts = []
    for left in range(kills, 0, -1):
        missing = total - finished(store)
        further = min(generator.uniform(0, 2 * missing / (left + 1)), missing - 0.5)
        starts.append(run(arguments, Moment(store, further, seconds_a_shard=seconds / total)))
        click.echo(
            f"  kill {kills - left + 1} after {starts[-1].seconds:.2f} s: {finished(store)} of {total} shards", err=True
        )
    starts.append(run(arguments))
    return starts


def different_files(one: Path, other: Path) -> list[str]:
    """Relative paths of the files that are not the same bytes in both folders, or are in one only."""
    names = {path.relative_to(root) for root in (one, other) for path in root.rglob("*") if path.is_file()}
    compared = sorted(name for name in names if name.name not in _OF_THE_RUN)
    return [str(name) for name in compared if not _same(one / name, other / name)]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def different_arrays(one: Path, other: Path) -> list[str]:
    """Names of the arrays that two stores do not hold alike, read shard by shard."""
    stores = open_store(one), open_store(other)
    geometry = stores[0].geometry
    different = []
    for spec in ARRAYS:
        by_shard = spec.written == "shard"
        for rows in map(geometry.shard_slice, range(geometry.num_shards)) if by_shard else [slice(None)]:
            left, right = (store.read(spec.name, rows) for store in stores)
            if not np.array_equal(left, right, equal_nan=left.dtype.kind == "f"):
                different.append(spec.name)
                break
    return different


def measure(folder: Path, format: str, *, shard_rows: int, kills: int) -> tuple[list[str], bool]:
    """The table's row of one format, and whether everything is as it should be."""
    paths = {name: folder / name for name in ("once", "killed")}
    for path in paths.values():
        shutil.rmtree(path, ignore_errors=True)
    commands = {name: command(folder / "data", path, format, shard_rows) for name, path in paths.items()}
    click.echo(f"{format}: without a break ...", err=True)
    once = run(commands["once"])
    store = next(paths["once"].iterdir())
    killed = paths["killed"] / store.name
    starts = run_with_kills(commands["killed"], store, killed, kills=kills, seconds=once.seconds)
    files, arrays = different_files(store, killed), different_arrays(store, killed)
    landed = sum(start.code == -signal.SIGKILL for start in starts)
    row = [
        *facts(format, store, once, max(ended.peak for ended in (once, *starts))),
        f"{landed} of {kills}",
        f"{sum(start.seconds for start in starts):.0f} s",
        ", ".join(files[:3]) or "none",
        ", ".join(arrays) or "none",
    ]
    return row, landed == kills and not files and not arrays


def facts(format: str, store: Path, once: Ended, peak: int) -> list[str]:
    """The table's columns about the store and the run without a break."""
    sizes = [path.stat().st_size for path in store.rglob("*") if path.is_file()]
    images = open_store(store).geometry.num_samples
    rate = f"{once.seconds:.0f} s ({images / once.seconds:.0f} images/s)"
    memory = ", ".join(f"{value / 1e6:.0f}" for value in once.quarters)
    return [
        *(format, f"{images:,}", rate, f"{peak / 1e6:.0f} MB", f"{memory} MB"),
        *(f"{len(sizes):,}", f"{sum(sizes) / 1e6:,.0f} MB"),
    ]


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="For the images and the stores.")
@click.option("--images", default=32_668, show_default=True, help="Images to render, Market-1501's 32,668.")
@click.option("--format", "formats", multiple=True, type=click.Choice(list(FORMATS)), default=tuple(FORMATS))
@click.option("--kills", default=20, show_default=True)
@click.option("--shard-rows", default=1024, show_default=True)
def main(folder: Path, images: int, formats: tuple[str, ...], kills: int, shard_rows: int) -> None:
    config = market_config(images)
    assert len(plan_images(config)) == images
    click.echo(f"rendering {images} images into {folder / 'data'}, unless they are there ...", err=True)
    write_dataset(folder / "data" / "synthetic", config, workers=os.cpu_count() or 1)
    measured = [measure(folder, format, shard_rows=shard_rows, kills=kills) for format in formats]
    columns = (
        *("format", "images", "without a break", "peak memory", "in each quarter of a run"),
        *("files", "on disk", "kills", "with kills"),
    )
    title = f"A preprocessing run and its kills, shards of {shard_rows}, ESTIMATOR=iuv, 256x128"
    rows = [row for row, _ in measured]
    print_markdown_table(title, (*columns, "files that differ", "arrays that differ"), rows, ("zarr", "h5py", "torch"))
    if not all(passed for _, passed in measured):
        sys.exit("something differs, or a kill came too late")


if __name__ == "__main__":
    main()
