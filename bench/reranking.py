"""What k-reciprocal re-ranking costs, ours (neighbours only) against full N x N matrices, on random people."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.report import print_markdown_table
from densereid.train.evaluation.metrics import squared_distances
from densereid.train.evaluation.reranking import Reranking, reranked_distances

IMAGES, WIDTH, QUERIES = (2000, 4000), 256, 200


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


def ours(images: Tensor) -> Tensor:
    parts = reranked_distances(images[:QUERIES], images[QUERIES:], Reranking())
    return torch.cat([part for part, _ in parts])


def full(images: Tensor, k1: int = 20, k2: int = 6, weight: float = 0.3) -> Tensor:
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
    shared = torch.stack([torch.minimum(one, encodings[QUERIES:]).sum(1) for one in encodings[:QUERIES]])
    return (1 - weight) * (1 - shared / (2 - shared)) + weight * distances[:QUERIES, QUERIES:]


def _reciprocal(ranks: Tensor, size: int) -> list[list[int]]:
    nearest = ranks[:, :size].tolist()
    near = [set(row) for row in nearest]
    return [[other for other in row if person in near[other]] for person, row in enumerate(nearest)]


def measure(method: str, number: int) -> None:
    """Print CPU seconds and peak GB of this process beyond the embeddings; one process for each measurement."""
    images = make(number)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    result = {"ours": ours, "full": full}[method](images)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    click.echo(f"{time.process_time() - start} {used / 1e6} {result.double().mean().item()}")


def main() -> None:
    rows = []
    for number in IMAGES:
        measured = {}
        for method in ("full", "ours"):
            command = [sys.executable, "-m", "bench.reranking", method, str(number)]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            measured[method] = [float(value) for value in found]
        assert abs(measured["full"][2] - measured["ours"][2]) < 1e-4, "both must give the same distances"
        for method, name in (("full", "full matrices"), ("ours", "neighbours only")):
            seconds, memory, _ = measured[method]
            time_ratio, memory_ratio = measured["full"][0] / seconds, measured["full"][1] / memory
            rows.append((number, name, f"{seconds:.1f}", f"{time_ratio:.1f}x", f"{memory:.2f}", f"{memory_ratio:.1f}x"))
    columns = ("images", "method", "CPU seconds", "speed ratio", "GB", "memory ratio")
    print_markdown_table(f"`python -m bench.reranking`, {QUERIES} queries, {WIDTH}-d", columns, rows, ("torch",))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        main()
