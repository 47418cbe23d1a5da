"""What scoring costs beyond the matrix product of its distances: ours by counting, and the former way by sorting.

Random people of :func:`bench.evaluation.reranking.make`, one thread, each measurement in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from torch import Tensor

from bench.evaluation.reranking import make, peak
from bench.gpu_questions.questions.ranking import labels
from bench.report import print_markdown_table
from densereid.data_catalog.datasets.records import UNKNOWN
from densereid.train.evaluation.metrics import RANKS, Labels, chunks, score_embeddings

CHUNK = 256
METHODS = ("product", "counted", "sorted")


def product(query: Tensor, gallery: Tensor, *_: Labels) -> list[float]:
    """The floor: nothing but the products, into one table."""
    table = torch.empty(CHUNK, len(gallery))
    for rows in chunks(len(query), CHUNK):
        torch.mm(query[rows], gallery.T, out=table[: rows.stop - rows.start])
    return []


def counted(query: Tensor, gallery: Tensor, ours: Labels, theirs: Labels) -> list[float]:
    scores = score_embeddings(query, ours, gallery, theirs, chunk=CHUNK)
    return [
        scores.rank_1, scores.rank_5, scores.rank_10, scores.mean_average_precision, scores.trapezoid_average_precision,
        scores.mean_inverse_negative_penalty,
    ]  # fmt: skip


def by_sorting(query: Tensor, gallery: Tensor, ours: Labels, theirs: Labels) -> list[float]:
    """The former way: every row sorted, every table as wide as the gallery."""
    rows = [_sorted_scores(table, ours.chosen(part), theirs) for table, part in _distances(query, gallery)]
    scores = torch.cat(rows)
    return [float(mean) for mean in scores[scores[:, -1] > 0].mean(0)[:-1]]


def _distances(query: Tensor, gallery: Tensor) -> Iterator[tuple[Tensor, slice]]:
    assert bool(query.isfinite().all(1).all() & gallery.isfinite().all(1).all())
    for rows in chunks(len(query), CHUNK):
        squares = query[rows].square().sum(1)[:, None] + gallery.square().sum(1)[None]
        distances = squares - 2 * query[rows] @ gallery.T
        assert bool(distances.isfinite().all())
        yield distances.clamp_min(0), rows


def _sorted_scores(distances: Tensor, query: Labels, gallery: Labels) -> Tensor:
    kept = torch.nonzero(gallery.person_id != UNKNOWN)[:, 0]
    person, camera, other = query.person_id[:, None], query.camera_id[:, None], gallery.chosen(kept)
    same_person = person == other.person_id[None]
    dropped = same_person & (camera == other.camera_id[None]) & (camera != UNKNOWN)
    matching = same_person & ~dropped & (person > 0)
    order = distances[:, kept].masked_fill(dropped, torch.inf).argsort(dim=1, stable=True)
    hits = matching.gather(1, order)
    rank = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64)
    matches = hits.cumsum(1).double()
    number = matches[:, -1]
    average = (hits * matches / rank).sum(1) / number.clamp_min(1)
    before = torch.where(rank > 1, (matches - 1) / (rank - 1).clamp_min(1), 1.0)
    trapezoid = (hits * (before + matches / rank) / 2).sum(1) / number.clamp_min(1)
    penalty = number / (hits * rank).amax(1).clamp_min(1)
    return torch.stack((*((matches[:, k - 1] > 0).double() for k in RANKS), average, trapezoid, penalty, number), 1)


def measure(method: str, queries: int, gallery: int, width: int) -> None:
    """Print CPU seconds, peak GB of this process beyond the embeddings, and the scores."""
    torch.set_num_threads(1)
    images = make(queries + gallery, width)
    torch.mm(images[:64], images[:64].T)  # what is loaded on first use does not count
    action = {"product": product, "counted": counted, "sorted": by_sorting}[method]
    before, start = peak(), time.process_time()
    scores = action(images[:queries], images[queries:], *labels(queries, gallery))
    print(time.process_time() - start, peak() - before, *scores)


@click.command()
@click.option("--queries", default=3368, show_default=True)
@click.option("--gallery", default=15913, show_default=True)
@click.option("--width", default=2048, show_default=True)
@click.option("--method", type=click.Choice(METHODS), help="Only this one, and its bare figures.")
def main(queries: int, gallery: int, width: int, method: str | None) -> None:
    if method is not None:
        measure(method, queries, gallery, width)
        return
    sizes = [f"--queries={queries}", f"--gallery={gallery}", f"--width={width}"]
    found = {}
    for name in METHODS:
        command = [sys.executable, "-m", "bench.evaluation.metrics", *sizes, f"--method={name}"]
        result = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True)
        found[name] = [float(value) for value in result.stdout.split()]
    assert found["counted"][2:] == found["sorted"][2:], "both must give the same scores, to the last bit"
    floor = found["product"][0]
    rows = [(name, f"{cpu:.2f}", f"{cpu / floor:.2f}x", f"{memory:.2f}") for name, (cpu, memory, *_) in found.items()]
    title = f"`python -m bench.evaluation.metrics {' '.join(sizes)}`, one thread"
    print_markdown_table(title, ("method", "CPU seconds", "against the product", "GB"), rows, ("torch", "numpy"))


if __name__ == "__main__":
    main()
