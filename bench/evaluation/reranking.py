"""What k-reciprocal re-ranking costs on random people, one thread, each measurement in a process of its own.

``product``, the floor, is the matrix product of all pairs and nothing else; ``ours`` keeps neighbours only; ``former``
did too, and computed all distances a second time for the encodings, and lengths with each table; ``full`` has matrices
of all pairs in memory.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.report import print_markdown_table
from densereid.train.evaluation import reranking
from densereid.train.evaluation.metrics import Points, chunks, squared_distances
from densereid.train.evaluation.reranking import Reranking, reranked_distances

WIDTH = 256
METHODS = ("product", "full", "former", "ours")


def make(number: int, width: int = WIDTH, device: str = "cpu") -> Tensor:
    """Embeddings (number, width) of a thirteenth as many people as images, about as many as Market-1501's test set has.

    Image i shows person i modulo their number.
    """
    random = torch.Generator(device).manual_seed(0)
    centres = torch.randn(people(number), width, generator=random, device=device)
    person = torch.arange(number, device=device) % len(centres)
    return F.normalize(centres[person] + torch.randn(number, width, generator=random, device=device))


def people(number: int) -> int:
    """How many different people so many images show."""
    return number // 13


def peak() -> float:
    """The most GB that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def product(images: Tensor, queries: int) -> Tensor:
    table = torch.empty(256, len(images))
    for rows in chunks(len(images), 256):
        torch.mm(images[rows], images.T, out=table[: rows.stop - rows.start])
    return table[:1, queries:]


def ours(images: Tensor, queries: int) -> Tensor:
    """The sum of each query's distances."""
    parts = reranked_distances(images[:queries], images[queries:], Reranking())
    return torch.cat([part.double().sum(1) for part, _ in parts])


def former(images: Tensor, queries: int) -> Tensor:
    with as_formerly():
        return ours(images, queries)


@contextmanager
def as_formerly() -> Iterator[None]:
    """Within it, re-ranking multiplies all pairs twice."""
    with mock.patch.multiple(reranking, squared_distances=_distances_with_lengths, _distances_to=_distances_again):
        yield


def _distances_with_lengths(query: Points, gallery: Points) -> Tensor:
    squares = query.embeddings.square().sum(1)[:, None] + gallery.embeddings.square().sum(1)[None]
    distances = squares - 2 * query.embeddings @ gallery.embeddings.T
    assert bool(distances.isfinite().all())
    return distances.clamp_min(0)


def _distances_again(members: Tensor, _present: Tensor, images: Points, _neighbours: object, rows: slice) -> Tensor:
    return _distances_with_lengths(images[rows], images).gather(1, members)


def full(images: Tensor, queries: int, k1: int = 20, k2: int = 6, weight: float = 0.3) -> Tensor:
    """The same over full matrices: distances, ranks, encodings."""
    distances = squared_distances(images, images)
    distances = distances / distances.amax(1, keepdim=True)
    ranks = distances.argsort(dim=1, stable=True)
    encodings = torch.zeros_like(distances)
    sets = [_reciprocal(ranks, size) for size in (k1 + 1, round(k1 / 2) + 1)]
    for row, core in enumerate(sets[0]):
        members = set(core)
        for candidate in core:
            half = sets[1][candidate]
            members |= set(half) if 3 * len(set(half) & set(core)) > 2 * len(half) else set()
        index = torch.tensor(sorted(members))
        encodings[row, index] = torch.softmax(-distances[row, index], 0)
    encodings = torch.stack([encodings[nearest[:k2]].mean(0) for nearest in ranks])
    shared = torch.stack([torch.minimum(one, encodings[queries:]).sum(1) for one in encodings[:queries]])
    return ((1 - weight) * (1 - shared / (2 - shared)) + weight * distances[:queries, queries:]).double().sum(1)


def _reciprocal(ranks: Tensor, size: int) -> list[list[int]]:
    nearest = ranks[:, :size].tolist()
    near = [set(row) for row in nearest]
    return [[other for other in row if person in near[other]] for person, row in enumerate(nearest)]


def measure(method: str, number: int, queries: int, width: int) -> None:
    """Print CPU seconds, peak GB of this process beyond the embeddings, and two sums of the distances."""
    torch.set_num_threads(1)
    images = make(number, width)
    torch.mm(images[:64], images[:64].T)  # what is loaded on first use does not count
    before, start = peak(), time.process_time()
    result = {"product": product, "full": full, "former": former, "ours": ours}[method](images, queries)
    used = time.process_time() - start, peak() - before
    print(*used, result.sum().item(), (result * torch.arange(len(result))).sum().item())


@click.command()
@click.option("--images", "numbers", default=(2000, 4000), show_default=True, multiple=True)
@click.option("--queries", default=200, show_default=True)
@click.option("--width", default=WIDTH, show_default=True)
@click.option("--method", "methods", type=click.Choice(METHODS), default=METHODS, show_default=True, multiple=True)
@click.option("--bare", is_flag=True, help="One measurement in this process, and its bare figures.")
def main(numbers: tuple[int, ...], queries: int, width: int, methods: tuple[str, ...], bare: bool) -> None:
    if bare:
        measure(methods[0], numbers[0], queries, width)
        return
    rows = []
    for number in numbers:
        found = {method: _measured(method, number, queries, width) for method in methods}
        assert {"former", "ours"} - set(found) or found["former"][2:] == found["ours"][2:], "equal to the last bit"
        assert {"full", "ours"} - set(found) or abs(found["full"][2] / found["ours"][2] - 1) < 1e-4
        for method, (seconds, memory, *_) in found.items():
            ratio = f"{seconds / found['product'][0]:.2f}x" if "product" in found else ""
            rows.append((number, method, f"{seconds:.1f}", ratio, f"{memory:.2f}"))
    columns = ("images", "method", "CPU seconds", "against the product", "GB")
    title = f"`python -m bench.evaluation.reranking`, {queries} queries, {width}-d, one thread"
    print_markdown_table(title, columns, rows, ("torch",))


def _measured(method: str, number: int, queries: int, width: int) -> list[float]:
    command = [sys.executable, "-m", "bench.evaluation.reranking", "--bare", f"--method={method}", f"--images={number}"]
    command += [f"--queries={queries}", f"--width={width}"]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True)
    return [float(value) for value in result.stdout.split()]


if __name__ == "__main__":
    main()
