"""Evaluation at the datasets' sizes: ranking and re-ranking of random embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from bench.evaluation.reranking import make, people
from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.questions.timing import forget, gigabytes, wait
from densereid.train.evaluation.metrics import Labels, score_embeddings
from densereid.train.evaluation.reranking import Reranking, reranked_scores

CAMERAS = 6
_CHUNKS = (256, 1024)
"""Queries at a time: the default, and as many as a GPU has room for."""


def answer(context: Context, answer: Answer) -> None:
    """Market-1501 first, then MSMT17."""
    add = answer.table(
        f"Random embeddings, {context.scale.embedding}-d",
        ("what", "size", "queries at a time", "seconds", "memory, GB"),
    )
    for dataset in context.scale.ranked:
        answer.attempt(dataset, _rank, context, answer, dataset, add)
    if context.is_gpu:
        answer.attempt("market on the CPU", _rank_on_the_host, context, answer, add)


def _rank(context: Context, answer: Answer, dataset: str, add: Callable[..., None]) -> None:
    queries, gallery = context.scale.ranked[dataset]
    forget(context.device)
    images = make(queries + gallery, context.scale.embedding, context.device)
    named, size = labels(queries, gallery), f"{queries} x {gallery}"
    query, rest = images[:queries], images[queries:]

    def rank(chunk: int) -> object:
        return score_embeddings(query, named[0], rest, named[1], chunk=chunk)

    def rerank(chunk: int) -> object:
        return reranked_scores(query, named[0], rest, named[1], Reranking(), chunk=chunk)

    def row(what: str, action: Callable[[int], object], chunk: int) -> None:
        forget(context.device)
        seconds = _once(lambda: action(chunk), context)
        answer.figure(f"ranking.{dataset}.{what.replace(' ', '_')}.chunk{chunk}.seconds", seconds, "seconds")
        add(f"{dataset}, {what}", size, chunk, f"{seconds:.2f}", gigabytes(context.device))

    rank(_CHUNKS[0])  # what is loaded on first use does not count
    for what, action in (("ranking", rank), ("re-ranking", rerank)):
        for chunk in _CHUNKS:
            answer.attempt(f"{dataset}, {what}", row, what, action, chunk)


def _rank_on_the_host(context: Context, answer: Answer, add: Callable[..., None]) -> None:
    """What a training's own evaluation does, whose embeddings are on the CPU."""
    queries, gallery = context.scale.ranked["market"]
    images, named = make(queries + gallery, context.scale.embedding), labels(queries, gallery)
    began = time.perf_counter()
    score_embeddings(images[:queries], named[0], images[queries:], named[1])
    seconds = time.perf_counter() - began
    answer.figure("ranking.market.on_the_host.seconds", seconds, "seconds")
    add("market, ranking on the CPU, as after training", f"{queries} x {gallery}", _CHUNKS[0], f"{seconds:.2f}", "")


def labels(queries: int, gallery: int) -> tuple[Labels, Labels]:
    """Persons as :func:`bench.evaluation.reranking.make` draws them, cameras in turn: every query has a match."""
    number = queries + gallery
    index = torch.arange(number)
    whole = Labels(1 + index % people(number), index // people(number) % CAMERAS)
    return (
        Labels(whole.person_id[:queries], whole.camera_id[:queries]),
        Labels(whole.person_id[queries:], whole.camera_id[queries:]),
    )


def _once(action: Callable[[], object], context: Context) -> float:
    wait(context.device)
    began = time.perf_counter()
    action()
    wait(context.device)
    return time.perf_counter() - began
