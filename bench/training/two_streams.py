"""DSA-reID's claim on rendered pedestrians: does the guiding stream make the MF-Stream better than it gets alone?

Both networks start from the same weights, see the same batches and have the same losses (``two-branches`` is
``dsa-reid`` without the guide, so that z is f). The trunk comes from another rendered world where asked for: as
ImageNet's weights in the paper, it has seen neither these persons nor these cameras.

``--controls`` trains two more: the MF-Stream without the losses on z, which is what remains where guide and fusion are
taken away; and the two streams with z's losses on f, too (``loss.repeat_on_main``), so that f lacks nothing that it has
alone.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import cast

import click
import torch
from torch import Tensor, nn

from bench.report import print_markdown_table
from densereid.data_catalog.datasets.lookup import find_dataset
from densereid.data_catalog.store.store import Store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.pipeline.cli.parameter_types import SETTING
from densereid.pipeline.commands.training import chosen_settings
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig
from densereid.train.config.train_config import TrainConfig, load_config, with_settings
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.engine.loop import fit
from densereid.train.evaluation.evaluate import evaluate
from densereid.train.networks.backbone import backbone_state
from densereid.train.networks.dsa_reid import DSAReid, concat_normalise

PRETRAINING_SEED = 2
"""The renderer's seed of the persons and cameras that the trunk is pretrained on; no other dataset has it."""

BASE, ALONE = "dsa-reid-small", "two-branches-small"
FEATURES = {ALONE: ("f", "f_global", "f_local"), BASE: ("f", "f_global", "f_local", "z", "d")}

_NONE_ON_FUSED = {"loss.identity_fused": 0.0, "loss.triplet_fused": 0.0}
_ON_BOTH = {"loss.repeat_on_main": 1.0}

FeatureScores = dict[str, tuple[float, float]]
"""Rank-1 and mAP, percent, by feature."""


def make_store(folder: Path, rendered: SyntheticConfig, height: int, width: int) -> Store:
    """The rendered dataset's store in ``folder``, made where it is missing."""
    write_dataset(folder / "synthetic", rendered)
    dataset = find_dataset("synthetic", folder)
    config = PreprocessConfig(size=(height, width), dsap_size=32, collision="last")
    plan = Plan(dataset, folder / "store.zarr", open_iuv(dataset), config)
    return write_store(plan, format="zarr")


def pretrained_trunk(folder: Path, identities: int, epochs: int) -> str:
    """The weights file of an MF-Stream trained on other persons seen by other cameras."""
    weights = folder / f"trunk-{identities}-{epochs}.pt"
    if not weights.is_file():
        config = load_config(ALONE, {"epochs": epochs})
        world = SyntheticConfig(seed=PRETRAINING_SEED, train_identities=identities)
        store = make_store(folder / f"pretraining-{identities}", world, config.height, config.width)
        run = folder / f"pretraining-{identities}" / f"epochs{epochs}"
        fit(config, store, run, device="cpu", feed="memory")
        network = cast(DSAReid, load_trained_network(run)[0])
        torch.save(backbone_state(network.main.trunk, network.main.global_branch), weights)
    return str(weights)


class GuideAlone(nn.Module):
    """A trained network that embeds part images by its guiding stream alone: d."""

    def __init__(self, network: DSAReid) -> None:
        super().__init__()
        self.network, self.embedding_width = network, network.embedding_width

    def embed(self, image: Tensor, dsap: Tensor | None = None, *, feature: str = "z") -> Tensor:
        """concat(d_G, d_L), L2-normalised (B, D)."""
        del image, feature  # every network is given them
        assert self.network.guide is not None
        guide: dict[str, Tensor] = self.network.guide(dsap)
        return concat_normalise(guide)


def trained_scores(model: str, config: TrainConfig, store: Store, run: Path, seed: int) -> FeatureScores:
    """The scores of one network's features, after training it unless that is done already."""
    fit(config, store, run, device="cpu", feed="memory", seed=seed)
    network, _ = load_trained_network(run)
    found = {}
    for feature in FEATURES[model]:
        ranked = with_settings(config, {"evaluate.feature": "z" if feature == "d" else feature})
        scored: nn.Module = GuideAlone(cast(DSAReid, network)) if feature == "d" else network
        scores = evaluate(scored, store, config=ranked)
        found[feature] = (100 * scores.rank_1, 100 * scores.mean_average_precision)
    click.echo(f"{run}: {json.dumps(found)}", err=True)
    return found


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def rows(alone: list[FeatureScores], others: dict[str, list[FeatureScores]]) -> list[tuple[str, ...]]:
    """A row for each feature, and one for each paired difference of f; lists by seed, ``others`` by what they are."""
    table = []
    for name, seeds in {"MF-Stream only": alone, **others}.items():
        for feature in seeds[0]:
            table.append((name, feature, *_columns(*([scores[feature][i] for scores in seeds] for i in (0, 1)))))
    for name, seeds in others.items():
        pairs = list(zip(seeds, alone, strict=True))
        differences = ([two["f"][i] - one["f"][i] for two, one in pairs] for i in (0, 1))
        table.append((f"{name}, against MF-Stream only", "f", *_columns(*differences)))
    return table


def _columns(rank_1: list[float], precision: list[float]) -> tuple[str, str, str]:
    return spread(rank_1), " / ".join(f"{value:.1f}" for value in precision), spread(precision)


def compare(
    folder: Path,
    world: SyntheticConfig,
    errors: list[int],
    changes: dict[str, object],
    seeds: list[int],
    *,
    controls: bool = False,
) -> tuple[list[FeatureScores], dict[str, list[FeatureScores]]]:
    """The baseline's scores by seed, and those of the others by their guide's errors (percent) and losses."""
    base = load_config(BASE)
    runs = folder / "-".join(f"{key}={Path(str(value)).name}" for key, value in changes.items())
    stores = {
        percent: make_store(folder / f"errors{percent}", replace(world, iuv_errors=percent), base.height, base.width)
        for percent in errors
    }

    def scores(model: str, store: Store, name: str, losses: dict[str, float]) -> list[FeatureScores]:
        config = load_config(model, {**changes, **losses})
        return [trained_scores(model, config, store, runs / f"{name}-seed{seed}", seed) for seed in seeds]

    images = stores[errors[0]]  # all that the MF-Stream reads, and the same in all stores
    alone = scores(ALONE, images, ALONE, {})
    others = {}
    if controls:
        others["MF-Stream only, without z's losses"] = scores(ALONE, images, f"{ALONE}-own", _NONE_ON_FUSED)
    for percent, store in stores.items():
        name, run = f"two streams, IUV errors {percent} %", f"{BASE}-errors{percent}"
        others[name] = scores(BASE, store, run, {})
        if controls:
            others[f"{name}, z's losses on f too"] = scores(BASE, store, f"{run}-repeated", _ON_BOTH)
    return alone, others


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Datasets and runs; kept, continued.")
@click.option("--renderer-seed", default=0, show_default=True, help="Which persons and cameras.")
@click.option(
    "--iuv-errors", default="0", show_default=True, help="DensePose-like errors of the guide, percent: 0,100."
)
@click.option("--identities", default=120, show_default=True, help="Training identities.")
@click.option("--test-identities", default=40, show_default=True)
@click.option("--epochs", default=24, show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True, help="Training seeds.")
@click.option("--pretrain", default=0, show_default=True, help="Identities the trunk is pretrained on; 0: random.")
@click.option("--pretrain-epochs", default=24, show_default=True)
@click.option("--controls", is_flag=True, help="Also with less on f alone, and with more on f beside the guide.")
@click.option("--set", "settings", type=SETTING, multiple=True, help="A setting of both networks.")
def main(
    folder: Path, renderer_seed: int, iuv_errors: str, identities: int, test_identities: int, epochs: int, seeds: str,
    pretrain: int, pretrain_epochs: int, controls: bool, settings: tuple[tuple[str, str], ...],
) -> None:  # fmt: skip
    """Train both networks with every seed and print their scores."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)  # so that numbers do not depend on the machine's cores
    world = SyntheticConfig(seed=renderer_seed, train_identities=identities, test_identities=test_identities)
    changes = chosen_settings(settings, None, epochs)
    if pretrain:
        changes["model.pretrained"] = pretrained_trunk(folder, pretrain, pretrain_epochs)
    here = folder / f"renderer{renderer_seed}-{identities}-{test_identities}"
    errors, numbers = ([int(number) for number in text.split(",")] for text in (iuv_errors, seeds))
    alone, others = compare(here, world, errors, changes, numbers, controls=controls)
    given = ", ".join(f"{key} {value}" for key, value in changes.items())
    title = f"Two streams against one, renderer seed {world.seed}, {identities} + {test_identities} identities: {given}"
    print_markdown_table(
        title, ("network", "feature", "Rank-1", "mAP, each seed", "mAP"), rows(alone, others), ("torch",)
    )


if __name__ == "__main__":
    main()
