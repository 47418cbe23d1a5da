"""From nothing to a file of weights: layers rendered ahead, the network trained on them, its scores on other seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.preprocess.embedded.network import EmbeddedNetwork
from densereid.preprocess.embedded.weights import write_weights
from densereid.preprocess.embedded_training.anny.layers import anny_layers
from densereid.preprocess.embedded_training.layer_store import (
    SHARD,
    Maker,
    read_backgrounds,
    read_layers,
    render_backgrounds,
    render_layers,
)
from densereid.preprocess.embedded_training.pictures.composition import HARSH, KIND, Conditions, Library, compose
from densereid.preprocess.embedded_training.recipe import Recipe
from densereid.preprocess.embedded_training.solids import solid_layers
from densereid.preprocess.embedded_training.training import train
from densereid.preprocess.estimators.embedded import charts_of, input_size
from densereid.preprocess.semantics.agreement import Agreement, agreement

MAKERS: dict[str, Maker] = {"solids": solid_layers, "anny": anny_layers}
"""The two body makers: the project's own renderer, and Anny."""

_BACKGROUNDS = "backgrounds"

TRAIN_SEED, HELD_OUT_SEED = 1, 2
"""Of everything that is rendered: people and backgrounds. The scores are of people and streets never trained on."""

HELD_OUT_SHARDS = 4
"""Of each maker: 400 bodies of Anny's, for scores of 100 differed by 0.02 of parts from seed to seed."""

HELD_OUT_PICTURES = 400

SCORED_CONDITIONS = {"harsh": HARSH, "kind": KIND}
"""Of the pictures that are scored."""

SIZE = (256, 128)
"""Height and width of the pictures that are scored."""


@dataclass(frozen=True)
class Making:
    """What is rendered and trained, and where it is kept meanwhile."""

    folder: Path
    makers: tuple[str, ...] = tuple(MAKERS)
    scored: tuple[str, ...] = tuple(MAKERS)
    """Body makers whose people are scored: one that was not trained on shows what is lost on people nobody rendered."""
    shards: int = 20
    """Of 500 layers, for each maker."""
    background_shards: int = 8
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "cpu"
    workers: int = 2
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is written beside the weights: commit, versions, machine."""


def make_weights(making: Making, report: Callable[[str], None]) -> dict[str, Agreement]:
    """Render, train and write ``weights.safetensors`` into the folder; the scores by maker and conditions.

    What is there already is not done again: rendered shards, and the steps up to the last checkpoint. Raises
    UserError for an unknown maker.
    """
    unknown = {*making.makers, *making.scored} - set(MAKERS)
    if unknown or not making.makers:
        raise UserError(f"unknown body makers: {sorted(unknown)}", f"known: {', '.join(MAKERS)}")
    making.folder.mkdir(parents=True, exist_ok=True)
    _render(making, report)
    report("training")
    network = train(
        read_library(making.folder, making.makers, TRAIN_SEED, making.shards, making.background_shards),
        making.recipe,
        making.folder / "checkpoint.pt",
        device=making.device,
        workers=making.workers,
        report=report,
    )
    scores = {}
    for maker in making.scored:
        library = held_out(making.folder, maker)
        for name, conditions in SCORED_CONDITIONS.items():
            found = measure_agreement(network, library, conditions, size=SIZE, count=HELD_OUT_PICTURES)
            scores[f"{maker}, {name}"] = found
    written = write_weights(making.folder / "weights.safetensors", network, _facts(making, scores))
    report(f"SHA-256 {written}")
    return scores


def _facts(making: Making, scores: Mapping[str, Agreement]) -> dict[str, Any]:
    return {
        **making.facts,
        "recipe": asdict(making.recipe),
        "makers": making.makers,
        "layers_of_each_maker": SHARD * making.shards,
        "backgrounds": SHARD * making.background_shards,
        "seeds": {"train": TRAIN_SEED, "held_out": HELD_OUT_SEED},
        "scores": {name: asdict(each) for name, each in scores.items()},
    }


def held_out(folder: Path, maker: str, seed: int = HELD_OUT_SEED) -> Library:
    """A maker's people and streets that no training sees; rendered into the folder unless they are there."""
    for shard in range(HELD_OUT_SHARDS):
        render_layers(folder / maker, MAKERS[maker], seed, shard)
    render_backgrounds(folder / _BACKGROUNDS, seed, 0)
    return read_library(folder, [maker], seed, HELD_OUT_SHARDS, 1)


def measure_agreement(
    network: EmbeddedNetwork,
    library: Library,
    conditions: Conditions = HARSH,
    *,
    size: tuple[int, int],
    count: int,
    seed: int = HELD_OUT_SEED,
) -> Agreement:
    """The network's agreement with the exact IUV of ``count`` composed pictures, as the estimator runs it."""
    rngs = [np.random.default_rng((seed, index)) for index in range(count)]
    pictures = [compose(library, rng, size, conditions) for rng in rngs]
    found = np.stack([estimated(network, image) for image, _ in pictures])
    return agreement(found, np.stack([iuv for _, iuv in pictures]))


def estimated(network: EmbeddedNetwork, image: np.ndarray) -> np.ndarray:
    """The IUV (H, W, 3) uint8 that the estimator gives for an image (H, W, 3) uint8."""
    size, device = (image.shape[0], image.shape[1]), next(network.parameters()).device
    iuv, _ = charts_of(network, [image], input_size(*size), size, device.type)
    result: np.ndarray = iuv[0].cpu().numpy()
    return result


def _render(making: Making, report: Callable[[str], None]) -> None:
    jobs: list[tuple[Any, ...]] = []
    for seed, makers, shards, backgrounds in (
        (HELD_OUT_SEED, making.scored, HELD_OUT_SHARDS, 1),
        (TRAIN_SEED, making.makers, making.shards, making.background_shards),
    ):
        for maker in makers:
            folder = making.folder / maker
            jobs += [(render_layers, folder, MAKERS[maker], seed, shard) for shard in range(shards)]
        jobs += [(render_backgrounds, making.folder / _BACKGROUNDS, seed, shard) for shard in range(backgrounds)]
    with ProcessPoolExecutor(max(1, making.workers), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(*job) for job in jobs]
        for number, future in enumerate(futures, start=1):
            future.result()
            report(f"rendered {number} of {len(futures)} shards")


def read_library(folder: Path, makers: Sequence[str], seed: int, shards: int, background_shards: int) -> Library:
    """The people of some makers and the backgrounds, from the first shards of a seed that are in a folder."""
    people = [layer for maker in makers for layer in read_layers(folder / maker, seed, shards)]
    return Library(people, read_backgrounds(folder / _BACKGROUNDS, seed, background_shards))
