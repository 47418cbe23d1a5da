"""What the report of runs shows, gathered from runs and store."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import Store
from densereid.pipeline.commands.activations import activations, heat_overlay
from densereid.pipeline.commands.networks.open_run import Embedded, OpenRun
from densereid.pipeline.console import print_status
from densereid.pipeline.reports.pages.runs.results import (
    RankedStore,
    RunResults,
    RunsReport,
    ShownActivations,
    ShownQueries,
)
from densereid.preprocess.writing.provenance import commit, commit_in_words, recorded_runs
from densereid.train.engine.checkpoint import BEST, LAST
from densereid.train.engine.describe import settings_table
from densereid.train.engine.tracking import read_metrics
from densereid.train.evaluation.breakdown import seen_parts
from densereid.train.evaluation.comparison import differences
from densereid.train.evaluation.evaluate import gallery_rows, query_rows
from densereid.train.evaluation.views.findings import find_all
from densereid.train.evaluation.views.ranked_lists import extreme_queries, ranked_lists, worst_and_best

_WORST, _BEST, _DIFFERENT, _ACTIVATIONS = 6, 4, 4, 8
"""How many queries of each kind are shown."""


def gather(opened: Sequence[OpenRun]) -> RunsReport:
    """Everything about runs on one store. Raises ScoringError where nothing can be ranked."""
    store = opened[0].store
    rows = query_rows(store)
    ranked = RankedStore(store, rows, gallery_rows(store), seen_parts(store, rows), _store_facts(store))
    embedded, runs = [], list[RunResults]()
    for run, name in zip(opened, _names(opened), strict=True):
        embedded.append(run.embedded())
        print_status(f"{name}: looking at its ranking")
        runs.append(_results(run, name, embedded[-1], ranked, runs[:1]))
    queries = _shown_queries(runs, embedded)
    shown = list(dict.fromkeys(number for group in queries for number in group.lists))[:_ACTIVATIONS]
    return RunsReport(runs, ranked, queries, _activations(opened, shown, ranked), _made_with(), _notes(opened))


def _names(opened: Sequence[OpenRun]) -> list[str]:
    """The shortest that tell the runs apart: the folder's name, with the checkpoint's, or the whole path."""
    for name in (
        lambda run: run.checkpoint_file.parent.absolute().name,
        lambda run: f"{run.checkpoint_file.parent.absolute().name}, {run.checkpoint_file.stem}",
        lambda run: str(run.checkpoint_file),
    ):
        names = [name(run) for run in opened]
        if len(set(names)) == len(names):
            break
    return names


def _results(
    run: OpenRun, name: str, embedded: Embedded, ranked: RankedStore, first: Sequence[RunResults]
) -> RunResults:
    findings = find_all(embedded, ranked.query_parts)
    return RunResults(
        name=name,
        facts=_run_facts(run),
        settings=settings_table(run.config),
        metrics=read_metrics(run.checkpoint_file.parent),
        findings=findings,
        differences=differences(first[0].findings.scores, findings.scores) if first else {},
    )


def _run_facts(run: OpenRun) -> dict[str, str]:
    checkpoint, config = run.checkpoint, run.config
    trained = checkpoint.store
    return {
        "folder": str(run.checkpoint_file.parent),
        "network": f"{config.name}, family {config.model.family}, trunk {config.model.backbone}",
        "checkpoint": f"{run.checkpoint_file.name}, epoch {checkpoint.epoch} of {config.epochs}",
        "seed": str(checkpoint.seed),
        "images": f"{config.height}x{config.width}",
        "feature": config.evaluate.feature,
        "trained on": f"{trained['dataset']}, {plural(checkpoint.num_identities, 'identity')}: {trained['path']} "
        f"({trained['digest'][:8]})",
        "trained with": ", ".join(f"{name} {found}" for name, found in checkpoint.versions.items()),
    }


def _store_facts(store: Store) -> dict[str, str]:
    split = store.read("split")
    numbers = ", ".join(f"{int((split == role).sum())} {role.name.lower()}" for role in Split)
    estimator = store.attributes.get("estimator", {}).get("name", "unknown")
    made = recorded_runs(store.path)
    facts = {
        "store": str(store.path), "dataset": str(store.attributes.get("dataset", "unknown")), "images": numbers,
        "size": f"{store.geometry.height}x{store.geometry.width}", "dense pose by": str(estimator),
    }  # fmt: skip
    return facts | (
        {"made by": f"{made[-1].get('command')}, commit {commit_in_words(made[-1].get('commit'))}"} if made else {}
    )


def _made_with() -> dict[str, str]:
    names = ("densereid", "torch", "numpy", "matplotlib")
    return {"versions": ", ".join(f"{name} {version(name)}" for name in names), "commit": commit_in_words(commit())}


def _notes(opened: Sequence[OpenRun]) -> list[str]:
    """What a reader has to know before the scores."""
    notes, store = [], opened[0].store
    dataset = store.attributes.get("dataset")
    if others := sorted({run.checkpoint.store["dataset"] for run in opened} - {dataset}):
        notes.append(f"Across datasets: trained on {', '.join(others)}, ranked on {dataset}.")
    if any(run.checkpoint_file.name == BEST for run in opened):
        notes.append(f"{BEST} was chosen by its mAP on the test split: its scores are too good. {LAST} was not.")
    return notes


def _shown_queries(runs: Sequence[RunResults], embedded: Sequence[Embedded]) -> list[ShownQueries]:
    """Of one run its worst and best queries; of several those on which each differs most from the first."""
    scores = runs[0].findings.scores
    if len(runs) == 1:
        worst, best = worst_and_best(scores, _WORST, _BEST)
        return [
            _shown("The worst", "The lowest average precision first.", worst, embedded),
            _shown("The best", "The highest average precision first.", best, embedded),
        ]
    groups = []
    for run in runs[1:]:
        more = run.findings.scores.average_precision - scores.average_precision
        lost, gained = extreme_queries(more, scores.num_matches > 0, _DIFFERENT, _DIFFERENT)
        why = f"The average precision differs most from that of {runs[0].name}."
        groups.append(_shown(f"{run.name} is better", why, gained, embedded))
        groups.append(_shown(f"{run.name} is worse", why, lost, embedded))
    return groups


def _shown(title: str, why: str, queries: Sequence[int], embedded: Sequence[Embedded]) -> ShownQueries:
    lists = [ranked_lists(*each[Split.QUERY], *each[Split.GALLERY], queries) for each in embedded]
    return ShownQueries(title, why, {query: [each[place] for each in lists] for place, query in enumerate(queries)})


def _activations(opened: Sequence[OpenRun], queries: Sequence[int], ranked: RankedStore) -> ShownActivations:
    """Where the runs look in some queries."""
    rows = ranked.query_rows[list(queries)]
    images = ranked.store.read("image", rows)
    pictures = []
    for run in opened:
        maps = activations(run.network, run.store, rows, run.config, run.device)
        pictures.append(np.stack([heat_overlay(image, each) for image, each in zip(images, maps, strict=True)]))
    return ShownActivations(rows, pictures)
