"""How well the embedded network finds dense pose: on rendered people never trained on, and on a folder of real ones.

    python -m bench.dense_pose.embedded --folder runs/embedded-weights-solids-anny --sheet sheet.jpg

scores it against exact IUV of both body makers (rendered into the folder unless they are there), with ``--seed 3`` of
people that were not looked at while the recipe was made; ``--images FOLDER`` with ``--iuv FOLDER`` scores it against
maps that exist, image by image. ``--images`` alone only draws. Needs anny for the second maker
(`pip install '.[embedded-training]'`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path

import click
import numpy as np
from PIL import Image

from bench.report import print_markdown_table
from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.datasets.records import ImageRecord
from densereid.data_catalog.parts import PART_TO_LABEL
from densereid.data_catalog.store.schema import Split
from densereid.pipeline.reports.contact_sheet import captioned, grid, iuv_colours, overlay
from densereid.preprocess.densepose.precision import Precision
from densereid.preprocess.embedded.network import EmbeddedNetwork
from densereid.preprocess.embedded.weights import WEIGHTS, read_weights
from densereid.preprocess.embedded_training.making import (
    HELD_OUT_PICTURES,
    HELD_OUT_SEED,
    MAKERS,
    SCORED_CONDITIONS,
    SIZE,
    TRAIN_SEED,
    estimated,
    held_out,
    measure_agreement,
)
from densereid.preprocess.embedded_training.pictures.composition import compose
from densereid.preprocess.estimators.embedded import open_embedded
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.images import Crop, read_image
from densereid.preprocess.semantics.agreement import Agreement, agreement

MEASURES = [each.name.replace("_", " ") for each in fields(Agreement)]

Panels = tuple[str, np.ndarray, np.ndarray | None]
"""What a picture shows, its pixels, and its exact or published IUV where there is one."""


def row(name: str, count: int, found: Agreement) -> list[str]:
    return [name, str(count), *(f"{value:.3f}" for value in astuple(found))]


def rendered(folder: Path, maker: str, count: int, seed: int) -> Iterator[Panels]:
    library = held_out(folder, maker, seed)
    for index in range(count):
        image, iuv = compose(library, np.random.default_rng((seed, index)), SIZE)
        yield f"{maker} {index}", image, iuv


def rendered_rows(network: EmbeddedNetwork, folder: Path, maker: str, seed: int) -> list[list[str]]:
    library, count = held_out(folder, maker, seed), HELD_OUT_PICTURES
    found = {
        name: measure_agreement(network, library, conditions, size=SIZE, count=count, seed=seed)
        for name, conditions in SCORED_CONDITIONS.items()
    }
    return [row(f"{maker}, {name}, never trained on", count, each) for name, each in found.items()]


def photographed(dataset: Dataset) -> Iterator[Panels]:
    maps = open_iuv(dataset) if dataset.iuv_root is not None else None
    for record in dataset.records:
        crop = Crop(record, read_image(dataset.root / record.path))
        exact = None if maps is None else maps.estimate([crop], crop.size).iuv[0].numpy()
        yield record.path, crop.pixels, exact


def drawn(network: EmbeddedNetwork, panels: Panels) -> Image.Image:
    """Image, exact parts (where known), found parts and found IUV, 256 pixels high."""
    caption, image, exact = panels
    found = estimated(network, image)
    pictures = [image]
    if exact is not None:
        pictures += [overlay(image, PART_TO_LABEL[exact[..., 0]])]
    pictures += [overlay(image, PART_TO_LABEL[found[..., 0]]), iuv_colours(found)]
    scale = 256 / image.shape[0]
    size = (round(image.shape[1] * scale), 256)
    return captioned(
        grid([Image.fromarray(each).resize(size, Image.Resampling.NEAREST) for each in pictures], len(pictures)),
        caption,
    )


def crops_per_second(weights: Path, precision: Precision, number: int = 64) -> float:
    """From crops of 256x128 to IUV of that size, as `preprocess` asks for them; the best of five batches."""
    estimator = open_embedded("cpu", None if weights == WEIGHTS else weights, precision=precision)
    pixels = np.random.default_rng(0).integers(0, 256, (number, *SIZE, 3), np.uint8)
    crops = [Crop(ImageRecord(f"{index}.png", 1, 1, Split.TRAIN), each) for index, each in enumerate(pixels)]
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        estimator.estimate(crops, SIZE)
        best = min(best, time.perf_counter() - start)
    return number / best


def _rates(weights: Path) -> list[str]:
    return [f"{crops_per_second(weights, precision):.0f} crops/s in {precision}" for precision in ("fp32", "bf16")]


@click.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), default=WEIGHTS, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Of make embedded-weights.")
@click.option("--makers", default=",".join(MAKERS), show_default=True)
@click.option("--seed", type=click.IntRange(min=TRAIN_SEED + 1), default=HELD_OUT_SEED, show_default=True)
@click.option("--images", type=click.Path(path_type=Path, exists=True), help="Real crops.")
@click.option("--iuv", type=click.Path(path_type=Path, exists=True), help="Their IUV maps.")
@click.option("--sheet", type=click.Path(path_type=Path), help="A picture of some of them, .jpg or .png.")
@click.option("--pictures", default=12, show_default=True, help="Rendered ones of each maker in the sheet.")
@click.option("--columns", default=3, show_default=True)
def main(
    weights: Path, folder: Path | None, makers: str, seed: int, images: Path | None, iuv: Path | None,
    sheet: Path | None, pictures: int, columns: int,
) -> None:  # fmt: skip
    """Print the agreement, and draw a sheet."""
    network, rows = read_weights(weights), []
    cells: list[Image.Image] = []
    if folder is not None:
        for maker in makers.split(","):
            rows += rendered_rows(network, folder, maker, seed)
            cells += [drawn(network, each) for each in rendered(folder, maker, pictures, seed)]
    for each in photographed(find_dataset("folder", images, iuv_root=iuv)) if images is not None else []:
        cells.append(drawn(network, each))
        if each[2] is not None:
            rows.append(row(each[0], 1, agreement(estimated(network, each[1]), each[2])))
    print_markdown_table(
        f"`python -m bench.dense_pose.embedded`: {', '.join(_rates(weights))}",
        ["pictures", "number", *MEASURES], rows, ["torch"],
    )  # fmt: skip
    if sheet is not None:
        grid(cells, columns).save(sheet, quality=88)


if __name__ == "__main__":
    main()
