"""What a re-ID network loses when its masks and DSAP images come from the embedded network instead of exact IUV maps.

    python -m bench.dense_pose.reid --folder FOLDER

Both are of the same rendered images, trained with the same seeds and scored with their own stores, as they would be
used. Stores and runs that are in the folder already are taken.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import click

from bench.report import print_markdown_table
from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.store.store import Store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.preprocess.densepose.precision import resolve_precision
from densereid.preprocess.estimators.base import Estimator
from densereid.preprocess.estimators.embedded import open_embedded
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.writing.fill import write_store
from densereid.preprocess.writing.plan import Plan, PreprocessConfig
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.engine.loop import fit

MODELS = ("dsa-reid-small", "magnifiernet-small")


def make_store(dataset: Dataset, estimator: Estimator, path: Path, config: TrainConfig) -> Store:
    made = PreprocessConfig(size=(config.height, config.width), dsap_size=32, collision="last")
    return write_store(Plan(dataset, path, estimator, made), format="zarr")


def scores(config: TrainConfig, store: Store, run: Path, seed: int) -> tuple[float, float]:
    """Rank-1 and mAP, percent, after the training."""
    found = fit(config, store, run, device="cpu", feed="memory", seed=seed).scores
    assert found is not None
    click.echo(f"{run.name}: Rank-1 {100 * found.rank_1:.1f}, mAP {100 * found.mean_average_precision:.1f}", err=True)
    return 100 * found.rank_1, 100 * found.mean_average_precision


def spread(values: list[float]) -> str:
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--models", default=",".join(MODELS), show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--epochs", type=int, help="Those of the models' configurations by default.")
def main(folder: Path, models: str, seeds: str, epochs: int | None) -> None:
    """Train every model on both kinds of store with every seed."""
    write_dataset(folder / "synthetic", SyntheticConfig())
    dataset = find_dataset("synthetic", folder)
    estimators = {
        "exact": open_iuv(dataset),
        "embedded": open_embedded("cpu", precision=resolve_precision("auto", "embedded", "cpu")),
    }
    rows = []
    for model in models.split(","):
        config = load_config(model, {} if epochs is None else {"epochs": epochs})
        found: dict[str, list[tuple[float, float]]] = {}
        for kind, estimator in estimators.items():
            store = make_store(dataset, estimator, folder / f"{kind}-{config.height}x{config.width}.zarr", config)
            found[kind] = [
                scores(config, store, folder / f"{model}-{kind}-{seed}", int(seed)) for seed in seeds.split(",")
            ]
            rows.append((model, kind, *(spread([each[index] for each in found[kind]]) for index in (0, 1))))
        pairs = list(zip(found["embedded"], found["exact"], strict=True))
        rows.append((model, "difference", *(spread([one[i] - other[i] for one, other in pairs]) for i in (0, 1))))
    print_markdown_table(
        f"`python -m bench.dense_pose.reid`, seeds {seeds}", ["model", "dense pose", "Rank-1", "mAP"], rows, ["torch"]
    )


if __name__ == "__main__":
    main()
