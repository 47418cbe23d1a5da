"""Evaluating a run: its embeddings ranked, the table that is printed and the files beside the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split
from densereid.pipeline.commands.networks.open_run import Embedded, OpenRun, open_run
from densereid.pipeline.console import print_status, print_table
from densereid.pipeline.reports.network_tables import differences_table, intervals_in_words, ranked_by, scores_table
from densereid.train.engine.checkpoint import LAST, store_fingerprint
from densereid.train.evaluation.breakdown import by_camera_pair, by_visible_parts, visible_parts
from densereid.train.evaluation.comparison import differences, estimates
from densereid.train.evaluation.evaluate import query_rows
from densereid.train.evaluation.metrics import Labels, Scores, score_embeddings
from densereid.train.evaluation.query_scores import QueryScores, score_queries
from densereid.train.evaluation.report import EvaluationReport, as_means, with_intervals, write_report
from densereid.train.evaluation.reranking import Reranking, reranked_scores


def evaluate_run(
    run: Path, *, store_path: AnyPath | None, device: str, feature: str | None = None,
    reranking: Reranking | None = None, checkpoint_name: str = LAST,
) -> Scores:  # fmt: skip
    """Scores of a run folder's last checkpoint, or of its best one by name, on its own store, or another.

    ``feature`` is ranked instead of the config's own; see ``evaluate.feature``. With ``reranking`` a second line has
    the re-ranked scores, and those are returned. The scores, their intervals and their parts by camera and by visible
    body parts are also written beside the checkpoint.
    """
    opened = open_run(run, store_path=store_path, device=device, feature=feature, checkpoint_name=checkpoint_name)
    print_status(
        f"{opened.checkpoint_file}, epoch {opened.checkpoint.epoch}; store {opened.store.path}; "
        f"device {opened.device} ({opened.device_reason})"
    )
    found, name = opened.embedded(), ranked_by(opened.config)
    scores = {name: score_embeddings(*found[Split.QUERY], *found[Split.GALLERY])}
    try:
        if reranking is not None:
            name = f"{name}, re-ranked"
            scores[name] = reranked_scores(*_on(found, opened.device), reranking)
    finally:  # the plain scores are there, whatever becomes of the others
        _conclude(scores, found, opened)
    return scores[name]


def compare_runs(
    first: Path, others: Sequence[Path], *, store_path: AnyPath | None, device: str, feature: str | None = None,
    checkpoint_name: str = LAST,
) -> None:  # fmt: skip
    """Evaluate other runs on the store of the first, and print how much more than the first each of them has.

    The embeddings are those that :func:`evaluate_run` keeps. Raises UserError as it does.
    """
    opened = partial(open_run, device=device, feature=feature, checkpoint_name=checkpoint_name)
    own = opened(first, store_path=store_path)
    scores, rows = _queries_of(own), {}
    for run in others:
        evaluate_run(run, store_path=own.store.path, device=device, feature=feature, checkpoint_name=checkpoint_name)
        rows[str(run)] = differences(scores, _queries_of(opened(run, store_path=own.store.path)))
    print_table(differences_table(str(first), rows))


def _queries_of(opened: OpenRun) -> QueryScores:
    found = opened.embedded()
    return score_queries(*found[Split.QUERY], *found[Split.GALLERY])


def _on(found: Embedded, device: str) -> tuple[torch.Tensor, Labels, torch.Tensor, Labels]:
    (query, query_labels), (gallery, gallery_labels) = found[Split.QUERY], found[Split.GALLERY]
    return query.to(device), query_labels, gallery.to(device), gallery_labels


def _say_unmatched(scores: Scores) -> None:
    if unmatched := scores.num_queries - scores.num_valid_queries:
        print_status(
            f"{plural(unmatched, 'query')} of {scores.num_queries} without a match in the gallery: counted, not scored"
        )


def _conclude(scores: Mapping[str, Scores], found: Embedded, opened: OpenRun) -> None:
    """Print the scores, the plain ones first, and write them with their parts."""
    print_table(scores_table(str(opened.store.path), scores))
    plain = score_queries(*found[Split.QUERY], *found[Split.GALLERY])
    intervals = estimates(plain)
    print_status(intervals_in_words(intervals, int((plain.num_matches > 0).sum())))
    first, *others = scores.values()
    _say_unmatched(first)
    means = {"plain": with_intervals(plain, intervals)}
    means |= zip(("re-ranked",), map(as_means, others), strict=False)
    _write(found, plain, EvaluationReport(_evaluated(opened), means), opened)


def _evaluated(opened: OpenRun) -> dict[str, object]:
    """What was evaluated, as plain values."""
    checkpoint, config, path = opened.checkpoint, opened.config, opened.checkpoint_file
    return {
        "run": path.parent.name, "checkpoint": path.name, "epoch": checkpoint.epoch, "seed": checkpoint.seed,
        "network": config.name, "feature": config.evaluate.feature, "trained_on": checkpoint.store["dataset"],
        "store": store_fingerprint(opened.store),
    }  # fmt: skip


def _write(found: Embedded, plain: QueryScores, report: EvaluationReport, opened: OpenRun) -> None:
    """Write the report with its scores in parts; where that cannot be, a line says why: the scores are printed."""
    parts = by_visible_parts(plain, visible_parts(opened.store, query_rows(opened.store)))
    pairs = by_camera_pair(*found[Split.QUERY], *found[Split.GALLERY])
    try:
        for path in write_report(replace(report, camera_pairs=pairs, visible_parts=parts), opened.files):
            print_status(f"written: {path}")
    except OSError as error:
        print_status(f"the scores were printed and not written: {first_line(error)}")


def choose_reranking(rerank: bool, *, keep_junk: bool) -> Reranking | None:
    """How a command's options say that scores are re-ranked; None for not at all."""
    if keep_junk and not rerank:
        raise UserError("KEEP_JUNK says how scores are re-ranked, and RERANK is not set", "Add RERANK=1 (--rerank).")
    return Reranking(keep_junk=keep_junk) if rerank else None
