"""What helps the embedded network: one change each, trained alike and briefly, scored on the same held-out renders.

    python -m bench.dense_pose.embedded_variants --folder runs/embedded-weights-solids-anny

reads what `make embedded-weights` rendered there. The scores are of one seed and a tenth of the steps of two cores, so
that only large differences say anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np

from bench.dense_pose.embedded import MEASURES
from bench.report import print_markdown_table
from densereid.preprocess.embedded.network import EmbeddedNetwork
from densereid.preprocess.embedded_training.making import (
    HELD_OUT_PICTURES,
    MAKERS,
    SIZE,
    TRAIN_SEED,
    Making,
    held_out,
    measure_agreement,
    read_library,
)
from densereid.preprocess.embedded_training.pictures import composition
from densereid.preprocess.embedded_training.recipe import Recipe, Stage
from densereid.preprocess.embedded_training.training import train

Patches = Sequence[Any]
"""Of unittest.mock."""

_PACKAGE = "densereid.preprocess"
_put = composition._put


def _put_the_person(image: np.ndarray, iuv: np.ndarray, *layer_and_window: Any, hides: bool) -> None:
    if not hides:
        _put(image, iuv, *layer_and_window, hides=False)


def _patch(name: str, value: Callable[..., object] | int) -> Any:
    return mock.patch(f"{_PACKAGE}.{name}", value)


_NARROW = partial(EmbeddedNetwork, widths=(12, 24, 48, 64, 80), pyramid=32, head=24)


@dataclass(frozen=True)
class Variant:
    makers: tuple[str, ...] = tuple(MAKERS)
    shards: int = Making.shards
    stages: tuple[Stage, ...] | None = None
    training: Patches = ()
    """What is otherwise while it trains."""
    use: Patches = ()
    """And while it is scored."""


def variants(small: tuple[Stage, ...]) -> dict[str, Variant]:
    edge = [_patch("estimators.embedded.SHORT_EDGE", 64)]
    photographed = [_patch("embedded_training.pictures.composition.photographed", lambda picture, rng: picture)]  # noqa: ARG005
    nobody = [
        _patch("embedded_training.pictures.composition._put", _put_the_person),
        _patch("embedded_training.pictures.composition._obstruct", lambda *_: None),
    ]
    return {
        "as it is": Variant(),
        "solids alone": Variant(makers=("solids",)),
        "anny alone": Variant(makers=("anny",)),
        "a 20th of the people": Variant(shards=1),
        "half the channels": Variant(training=[_patch("embedded_training.training.EmbeddedNetwork", _NARROW)]),
        "pictures as rendered, no camera": Variant(training=photographed),
        "nobody else, no obstacle": Variant(training=nobody),
        "short edge of 64": Variant(stages=small, use=edge),
    }


def trained(variant: Variant, recipe: Recipe, folder: Path, name: str) -> EmbeddedNetwork:
    library = read_library(folder, variant.makers, TRAIN_SEED, variant.shards, Making.background_shards)
    path = folder / f"variant-{name.replace(' ', '-')}.pt"
    with ExitStack() as stack:
        for patch in variant.training:
            stack.enter_context(patch)
        return train(library, recipe, path, device="cpu", workers=2, report=lambda text: click.echo(text, err=True))


def scores(variant: Variant, network: EmbeddedNetwork, folder: Path) -> list[str]:
    with ExitStack() as stack:
        for patch in variant.use:
            stack.enter_context(patch)
        found = [
            measure_agreement(network, held_out(folder, maker), size=SIZE, count=HELD_OUT_PICTURES) for maker in MAKERS
        ]
    return [f"{value:.3f}" for each in found for value in astuple(each)]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--scale", default=0.1, show_default=True, help="Of the steps of a training on two cores.")
@click.option("--only", type=click.Choice(list(variants(()))), multiple=True, help="This variant; may be repeated.")
def main(folder: Path, scale: float, only: tuple[str, ...]) -> None:
    """Train and score every variant; a row each."""
    recipe = Recipe().scaled(scale)
    stages = recipe.stages
    # Pictures of the first stage alone, as many as of all.
    pictures = sum(stage.steps * stage.batch for stage in stages)
    small = (replace(stages[0], steps=pictures // stages[0].batch),)
    rows = []
    for name, variant in variants(small).items():
        if only and name not in only:
            continue
        network = trained(variant, replace(recipe, stages=variant.stages or stages), folder, name)
        rows.append([name, *scores(variant, network, folder)])
        click.echo(rows[-1], err=True)
    columns = [f"{maker}: {measure_}" for maker in MAKERS for measure_ in MEASURES]
    print_markdown_table("`python -m bench.dense_pose.embedded_variants`", ["variant", *columns], rows, ["torch"])


if __name__ == "__main__":
    main()
