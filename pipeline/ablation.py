"""The ablation tables of the DSA-reID paper: their rows trained one after the other, ours beside the published ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from data_catalog.errors import UserError
from data_catalog.places import Place
from data_catalog.store import Store, open_store
from pipeline.progress import say, show
from pipeline.settings import choose_model, resolve_device
from pipeline.stages import StoreRequest, find_or_make_store
from pipeline.training import chosen_settings
from train.checkpoint import LAST
from train.config import TrainConfig, changed, load_config
from train.evaluate import evaluate, has_protocol
from train.loop import fit
from train.metrics import Scores
from train.resume import load_network

FULL = "dsa-reid"
"""The variant that is MODEL itself."""


@dataclass(frozen=True)
class Row:
    """One row: the variant that is trained, the feature that is ranked, the paper's mAP, Rank-1, 5 and 10."""

    label: str
    variant: str
    feature: str
    paper: tuple[float, float, float, float]


_BASELINE = Row("Baseline (RE+LS)", "baseline-re-ls", "f", (81.2, 93.4, 97.8, 98.5))
_FINAL = (87.6, 95.7, 98.4, 99.1)

TABLES: dict[str, tuple[Row, ...]] = {
    "dsa-3": (
        Row("Baseline", "baseline", "f", (76.4, 91.2, 96.5, 97.9)),
        Row("Baseline (RE)", "baseline-re", "f", (78.6, 92.3, 97.6, 98.3)),
        _BASELINE,
        Row("Baseline (Two branches)", "two-branches", "f", (83.4, 94.0, 98.0, 98.7)),
        Row("DSA-Global(Single)", "dsa-global-single", "z", (84.7, 94.8, 98.2, 98.9)),
        Row("DSA-Local(Single)", "dsa-local-single", "z", (83.2, 94.0, 97.9, 98.6)),
        Row("DSA-Global(Joint)", FULL, "z_global", (87.4, 95.6, 98.6, 99.1)),
        Row("DSA-Local(Joint)", FULL, "z_local", (86.5, 95.2, 98.4, 99.0)),
        Row("DSA(Two streams fused)", FULL, "z", (87.5, 95.8, 98.4, 99.1)),
        Row("DSA-reID(Only MF-Stream)", FULL, "f", _FINAL),
    ),
    "dsa-4": (
        _BASELINE,
        Row("CSA(Only MF-Stream)", "csa", "f", (84.1, 94.1, 98.1, 98.8)),
        Row("DSA(Only MF-Stream)", FULL, "f", _FINAL),
    ),
    "dsa-5": (
        Row("Concatenation+fc", "dsa-concat", "f", (81.6, 93.0, 97.6, 98.6)),
        Row("Elem-add", FULL, "f", _FINAL),
    ),
}
"""Tables 3, 4 and 5 (Market-1501, single query, percent)."""

COLUMNS = ("mAP", "Rank-1", "Rank-5", "Rank-10")
_RECIPE: dict[str, object] = {"augmentation.erase": 0.5, "loss.label_smoothing": 0.1}
"""Every row but the baselines has both (section 4.2), whatever MODEL's own settings are."""


def run_ablation(
    *,
    table: str,
    model: str,
    seeds: str,
    epochs: int | None,
    run_root: Path,
    overrides: Sequence[str],
    store_path: Place | None,
    size: str | None,
    feed: str,
    **store_request: Any,
) -> Path:
    """Train and evaluate the rows of ``table`` on the requested store; prints and writes them; the Markdown's path.

    ``model`` is what every variant is a variant of. Rows that differ only in the ranked feature share
    a run; finished runs are not repeated.
    """
    device, why_device = resolve_device(store_request["device"])
    model, why_model = choose_model(model, device)
    numbers, settings = _seeds(seeds), chosen_settings(overrides, size, epochs)
    configs = {row.variant: variant_config(row.variant, model, settings) for row in TABLES[table]}
    any_config = configs[FULL]
    if store_path is not None:
        store = open_store(store_path)
    else:
        store = find_or_make_store(StoreRequest(size=f"{any_config.height}x{any_config.width}", **store_request))
    if not has_protocol(store):
        raise UserError(f"{store.path} has no query and gallery to rank", "Choose a dataset with both (market, ...).")
    folder = run_root / f"ablation-{store.attributes['dataset']}-{Path(model).stem}"
    say(f"table {table}: {len(configs)} networks x {len(numbers)} seeds, variants of {model} ({why_model})")
    say(f"device {device} ({why_device}); runs in {folder}")
    for variant, config in configs.items():
        for seed in numbers:
            run = folder / f"{variant}-seed{seed}"
            say(f"{run}: {config.epochs} epochs")
            fit(config, store, run, device=device, workers=store_request["workers"], feed=feed, seed=seed)
    scores = {row.label: [_score(folder, row, seed, store, device) for seed in numbers] for row in TABLES[table]}
    return _report(table, scores, numbers, folder, dataset=str(store.attributes["dataset"]))


def variant_config(variant: str, model: str, settings: dict[str, object]) -> TrainConfig:
    """The config of one network of a table: ``variant`` of ``model`` with the options' ``settings``."""
    if variant == FULL:
        return load_config(model, {**_RECIPE, **settings})
    recipe = {} if variant.startswith("baseline") else _RECIPE
    return load_config(variant, {**recipe, **settings}, base=model)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"SEEDS is '{text}'", "expected numbers with commas, for example 0,1,2") from error


def _score(folder: Path, row: Row, seed: int, store: Store, device: str) -> Scores:
    """Of the last checkpoint: the best one was chosen by looking at the test set."""
    network, checkpoint = load_network(folder / f"{row.variant}-seed{seed}" / LAST)
    config = changed(checkpoint.config, {"evaluate.feature": row.feature})
    return evaluate(network, store, config=config, device=device)


def _percent(scores: Scores) -> tuple[float, float, float, float]:
    ours = (scores.mean_average_precision, scores.rank_1, scores.rank_5, scores.rank_10)
    return (100 * ours[0], 100 * ours[1], 100 * ours[2], 100 * ours[3])


def _report(table: str, scores: dict[str, list[Scores]], seeds: Sequence[int], folder: Path, *, dataset: str) -> Path:
    """Print the table; write ``TABLE.md`` and, with every seed, ``TABLE.csv``."""
    title = f"{table} on {dataset}: ours, the paper's on Market-1501, difference (%)"
    lines: list[tuple[str, ...]] = [("network", "seeds", *COLUMNS)]
    for row in TABLES[table]:
        columns = list(zip(*(_percent(one) for one in scores[row.label]), strict=True))
        cells = [_cell(values, paper) for values, paper in zip(columns, row.paper, strict=True)]
        lines.append((row.label, str(len(scores[row.label])), *cells))
    shown = Table(title=title, title_justify="left")
    for name in lines[0]:
        shown.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
    for line in lines[1:]:
        shown.add_row(*line)
    show(shown)
    path = folder / f"{table}.md"
    rules = ["|".join(("", *("---" for _ in lines[0]), ""))]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    path.write_text("\n".join([title, "", body[0], *rules, *body[1:], ""]), encoding="utf-8")
    _write_csv(folder / f"{table}.csv", table, scores, seeds)
    return path


def _cell(values: Sequence[float], paper: float) -> str:
    ours = f"{mean(values):.1f}" + (f" ±{stdev(values):.1f}" if len(values) > 1 else "")
    return f"{ours} / {paper:.1f} / {mean(values) - paper:+.1f}"


def _write_csv(path: Path, table: str, scores: dict[str, list[Scores]], seeds: Sequence[int]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("network", "feature", "seed", *COLUMNS, *(f"paper {name}" for name in COLUMNS)))
        for row in TABLES[table]:
            for seed, one in zip(seeds, scores[row.label], strict=True):
                ours = (f"{value:.2f}" for value in _percent(one))
                writer.writerow((row.label, row.feature, seed, *ours, *row.paper))
