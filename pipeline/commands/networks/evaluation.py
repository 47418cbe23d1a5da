"""Evaluating a run: its embeddings ranked, the table that is printed and the files beside the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import Store
from densereid.pipeline.console import print_status, print_table
from densereid.pipeline.reports.network_tables import differences_table, ranked_by, scores_table
from densereid.pipeline.settings import resolve_device
from densereid.pipeline.store_choice import store_of_run
from densereid.train.config.train_config import TrainConfig, with_settings
from densereid.train.engine.checkpoint import LAST, Checkpoint, checkpoint_path, load_trained_network, store_fingerprint
from densereid.train.evaluation.breakdown import by_camera_pair, by_visible_parts, visible_parts
from densereid.train.evaluation.comparison import differences
from densereid.train.evaluation.evaluate import query_rows
from densereid.train.evaluation.kept_embeddings import once_embedded
from densereid.train.evaluation.metrics import Labels, Scores, score_embeddings
from densereid.train.evaluation.query_scores import QueryScores, score_queries
from densereid.train.evaluation.report import EvaluationReport, as_means, write_report
from densereid.train.evaluation.reranking import Reranking, reranked_scores

EVALUATIONS = "evaluations"
"""The folder of the files, in a run's folder."""

_Embedded = Mapping[Split, tuple[torch.Tensor, Labels]]


def evaluate_run(
    run: Path, *, store_path: AnyPath | None, device: str, feature: str | None = None,
    reranking: Reranking | None = None, checkpoint_name: str = LAST,
) -> Scores:  # fmt: skip
    """Scores of a run folder's last checkpoint, or of its best one by name, on its own store, or another.

    ``feature`` is ranked instead of the config's own; see ``evaluate.feature``. With ``reranking`` a second line has
    the re-ranked scores, and those are returned. The scores and their parts by camera and by visible body parts are
    also written beside the checkpoint.
    """
    network, checkpoint = load_trained_network(run, name=checkpoint_name)
    config = checkpoint.config if feature is None else with_settings(checkpoint.config, {"evaluate.feature": feature})
    chosen, why = resolve_device(device)
    store = store_of_run(run, checkpoint.store, store_path)
    path = checkpoint_path(run, name=checkpoint_name)
    print_status(f"{path}, epoch {checkpoint.epoch}; store {store.path}; device {chosen} ({why})")
    files = path.parent / EVALUATIONS / _name(path, config, store)
    told, kept = _evaluated(path, checkpoint, config, store), files.with_name(f"{files.name}.zarr")
    found = once_embedded(network, store, config=config, checkpoint=path, path=kept, device=chosen)
    name = ranked_by(config)
    scores = {name: score_embeddings(*found[Split.QUERY], *found[Split.GALLERY])}
    try:
        if reranking is not None:
            name = f"{name}, re-ranked"
            scores[name] = reranked_scores(*_on(found, chosen), reranking)
    finally:  # the plain scores are there, whatever becomes of the others
        print_table(scores_table(str(store.path), scores))
        _say_unmatched(scores[ranked_by(config)])
        _write(found, list(scores.values()), EvaluationReport(told), files, store)
    return scores[name]


def compare_runs(
    first: Path, others: Sequence[Path], *, store_path: AnyPath | None, device: str, feature: str | None = None,
    checkpoint_name: str = LAST,
) -> None:  # fmt: skip
    """Evaluate other runs on the store of the first, and print how much more than the first each of them has.

    The embeddings are those that :func:`evaluate_run` keeps. Raises UserError as it does.
    """
    _, checkpoint = load_trained_network(first, name=checkpoint_name)
    store = store_of_run(first, checkpoint.store, store_path)
    for run in others:
        evaluate_run(run, store_path=store.path, device=device, feature=feature, checkpoint_name=checkpoint_name)
    own, *found = (
        _queries_of(run, store, device=device, feature=feature, checkpoint_name=checkpoint_name)
        for run in (first, *others)
    )
    rows = {str(run): differences(own, scores) for run, scores in zip(others, found, strict=True)}
    print_table(differences_table(str(first), rows))


def _queries_of(run: Path, store: Store, *, device: str, feature: str | None, checkpoint_name: str) -> QueryScores:
    network, checkpoint = load_trained_network(run, name=checkpoint_name)
    config = checkpoint.config if feature is None else with_settings(checkpoint.config, {"evaluate.feature": feature})
    path = checkpoint_path(run, name=checkpoint_name)
    kept = path.parent / EVALUATIONS / f"{_name(path, config, store)}.zarr"
    chosen, _ = resolve_device(device)
    found = once_embedded(network, store, config=config, checkpoint=path, path=kept, device=chosen)
    return score_queries(*found[Split.QUERY], *found[Split.GALLERY])


def _name(checkpoint: Path, config: TrainConfig, store: Store) -> str:
    """The beginning of the names of an evaluation's files: what was evaluated."""
    return f"{store.path.stem}-{checkpoint.stem}-{config.evaluate.feature}"


def _on(found: _Embedded, device: str) -> tuple[torch.Tensor, Labels, torch.Tensor, Labels]:
    (query, query_labels), (gallery, gallery_labels) = found[Split.QUERY], found[Split.GALLERY]
    return query.to(device), query_labels, gallery.to(device), gallery_labels


def _say_unmatched(scores: Scores) -> None:
    if unmatched := scores.num_queries - scores.num_valid_queries:
        print_status(
            f"{plural(unmatched, 'query')} of {scores.num_queries} without a match in the gallery: counted, not scored"
        )


def _evaluated(path: Path, checkpoint: Checkpoint, config: TrainConfig, store: Store) -> dict[str, object]:
    """What was evaluated, as plain values."""
    return {
        "run": path.parent.name, "checkpoint": path.name, "epoch": checkpoint.epoch, "seed": checkpoint.seed,
        "network": config.name, "feature": config.evaluate.feature, "trained_on": checkpoint.store["dataset"],
        "store": store_fingerprint(store),
    }  # fmt: skip


def _write(found: _Embedded, scores: Sequence[Scores], report: EvaluationReport, files: Path, store: Store) -> None:
    """Write the report with its scores in parts; where that cannot be, a line says why: the scores are printed."""
    ranked = (*found[Split.QUERY], *found[Split.GALLERY])
    plain = score_queries(*ranked)
    parts = by_visible_parts(plain, visible_parts(store, query_rows(store)))
    means = dict(zip(("plain", "re-ranked"), (plain.means(), *map(as_means, scores[1:])), strict=False))
    whole = replace(report, scores=means, camera_pairs=by_camera_pair(*ranked), visible_parts=parts)
    try:
        for path in write_report(whole, files):
            print_status(f"written: {path}")
    except OSError as error:
        print_status(f"the scores were printed and not written: {first_line(error)}")


def choose_reranking(rerank: bool, *, keep_junk: bool) -> Reranking | None:
    """How a command's options say that scores are re-ranked; None for not at all."""
    if keep_junk and not rerank:
        raise UserError("KEEP_JUNK says how scores are re-ranked, and RERANK is not set", "Add RERANK=1 (--rerank).")
    return Reranking(keep_junk=keep_junk) if rerank else None
