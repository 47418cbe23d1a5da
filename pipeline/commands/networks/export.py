"""Exporting a run: the formats that are written, where, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import filesize

from densereid.pipeline.console import print_status
from densereid.train.deployment.formats import TORCH, WrittenFile, check_formats, suffix_of, write_formats
from densereid.train.engine.checkpoint import LAST, Checkpoint, load_trained_network
from densereid.train.engine.export import exported_scores
from densereid.train.families import inference_feature


def export_run(
    run: Path, target: Path | None, *, formats: Sequence[str] = (TORCH,), checkpoint_name: str = LAST
) -> list[Path]:
    """Write the inference network of a run's last checkpoint, or of its best one by name, to files; their paths.

    ``target`` is the file, or of several formats the file whose suffix each replaces with its own; in the run's folder
    unless given.
    """
    check_formats(formats)
    network, checkpoint = load_trained_network(run, name=checkpoint_name)
    folder = run if run.is_dir() else run.parent
    path = target or folder / f"{checkpoint.config.name}.export{suffix_of(formats[0])}"
    written = write_formats(network, checkpoint, path, formats)
    feature = inference_feature(checkpoint.config)
    for file in written:
        print_status(_in_words(file, f"{checkpoint.config.name}, epoch {checkpoint.epoch}", feature))
    print_status(_scores_in_words(checkpoint, feature))
    return [file.path for file in written]


def _in_words(file: WrittenFile, network: str, feature: str) -> str:
    if file.path.suffix == ".md":
        return f"model card: {file.path}"
    size = filesize.decimal(file.path.stat().st_size)
    said = f"{network}: {size}, what inference of {feature} needs, {file.path.suffix}"
    return said if file.difference is None else f"{said}; gives the network's embeddings to {file.difference:.0e}"


def _scores_in_words(checkpoint: Checkpoint, feature: str) -> str:
    """Whether what was written has scores, and of what."""
    if scores := exported_scores(checkpoint):
        return f"its scores are those of {feature}: mAP {scores['mean_average_precision']:.1%}"
    if checkpoint.scores:
        measured = f"{checkpoint.config.evaluate.feature} after epoch {checkpoint.scores_epoch}"
        return f"it has no scores: those of the run are of {measured}"
    return "it has no scores: the run was not evaluated"
