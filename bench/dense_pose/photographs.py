"""How much of real people the embedded network finds: photographs with outlines, of a dataset that is not shipped here.

    git clone https://github.com/bearpaw/clothing-co-parsing
    python -m bench.dense_pose.photographs --folder clothing-co-parsing

Clothing Co-Parsing (Yang, Luo and Lin, CVPR 2014; Apache-2.0) names the garment, hair, skin or background of each
pixel of 1,004 photographs. They have no IUV maps: foreground is all that is scored. What is chosen is chosen on
photographs 1, 5, 9, ...; `--first 3` scores as many that nothing was chosen on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import numpy as np
from PIL import Image
from scipy.io import loadmat

from bench.report import print_markdown_table
from densereid.preprocess.embedded import foreground
from densereid.preprocess.embedded.network import EmbeddedNetwork, fused
from densereid.preprocess.embedded.weights import WEIGHTS, read_weights
from densereid.preprocess.embedded_training.making import SIZE, estimated
from densereid.preprocess.images import read_image

EVERY = 4
"""Photographs that follow one another are often of the same person."""

REGIONS = {
    "hair": ("hair",),
    "skin": ("skin",),
    "tops": (
        *("blazer", "blouse", "bodysuit", "bra", "cardigan", "coat", "hoodie", "intimate", "jacket", "jumper", "shirt"),
        *("suit", "sweater", "sweatshirt", "t-shirt", "top", "vest"),
    ),
    "trousers": ("jeans", "leggings", "panties", "pants", "shorts", "stockings", "tights"),
    "dresses": ("dress", "skirt", "romper"),
    "shoes": (
        *("boots", "clogs", "flats", "heels", "loafers", "pumps"),
        *("sandals", "shoes", "sneakers", "socks", "wedges"),
    ),
    "background": ("null",),
}
"""Names of the dataset. All others, as bags and hats, are ignored: an IUV map may have them or not."""

BACKGROUND = list(REGIONS).index("background")
"""The last: the regions before it are a person."""

Photograph = tuple[np.ndarray, np.ndarray]
"""A crop (H, W, 3) uint8 RGB, and the region of each pixel (H, W): a position in REGIONS, or its length if ignored."""


def region_of_label(folder: Path) -> np.ndarray:
    """The region of each of the dataset's labels."""
    names = [str(each[0]) for each in loadmat(folder / "label_list.mat")["label_list"].ravel()]
    found = {name: number for number, region in enumerate(REGIONS.values()) for name in region}
    return np.array([found.get(name, len(REGIONS)) for name in names])


def photographs(folder: Path, first: int, count: int) -> Iterator[Photograph]:
    """Crops at 256x128, a little looser or tighter than the person, as a detector's are."""
    regions = region_of_label(folder)
    for number in range(first, first + EVERY * count, EVERY):
        image = read_image(folder / "photos" / f"{number:04d}.jpg")
        region = regions[loadmat(folder / "annotations" / "pixel-level" / f"{number:04d}.mat")["groundtruth"]]
        yield cropped(image, region, np.random.default_rng(number))


def cropped(image: np.ndarray, region: np.ndarray, rng: np.random.Generator) -> Photograph:
    person = region < BACKGROUND
    ends = []
    for axis, extent in enumerate(person.shape):
        filled = np.flatnonzero(person.sum(axis=1 - axis) > 2)
        margins = rng.uniform(-0.01, 0.06, 2) * (filled[-1] - filled[0])
        ends.append((max(0, int(filled[0] - margins[0])), min(extent, int(filled[-1] + 1 + margins[1]))))
    (top, bottom), (left, right) = ends
    box, size = (left, top, right, bottom), SIZE[::-1]
    pixels = Image.fromarray(image).crop(box).resize(size, Image.Resampling.LANCZOS)
    labels = Image.fromarray(region.astype(np.uint8)).crop(box).resize(size, Image.Resampling.NEAREST)
    return np.asarray(pixels), np.asarray(labels)


def scores(network: EmbeddedNetwork, given: list[Photograph]) -> list[float]:
    """Foreground IoU: mean, median and lowest tenth; then the share of each region that is called body."""
    overlaps, called, seen = [], np.zeros(len(REGIONS)), np.zeros(len(REGIONS))
    for image, region in given:
        found = estimated(network, image)[..., 0] > 0
        judged, person = region < len(REGIONS), region < BACKGROUND
        overlaps.append((found & person).sum() / ((found | person) & judged).sum())
        seen += np.bincount(region[judged], minlength=len(REGIONS))
        called += np.bincount(region[judged & found], minlength=len(REGIONS))
    return [float(np.mean(overlaps)), *(float(value) for value in np.quantile(overlaps, (0.5, 0.1))), *(called / seen)]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True, help="Of Clothing Co-Parsing.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), multiple=True, default=[WEIGHTS])
@click.option("--temperature", type=float, multiple=True, default=[foreground.TEMPERATURE])
@click.option("--first", type=click.IntRange(1, EVERY), default=1, show_default=True, help="Photograph; then each 4th.")
@click.option("--count", type=click.IntRange(1, 250), default=120, show_default=True)
def main(folder: Path, weights: tuple[Path, ...], temperature: tuple[float, ...], first: int, count: int) -> None:
    """Print what share of real people is found, for some weights and some temperatures of their logits."""
    if not (folder / "label_list.mat").is_file():
        raise click.UsageError(f"{folder} has no label_list.mat: give a clone of bearpaw/clothing-co-parsing")
    given, rows = list(photographs(folder, first, count)), []
    for path in weights:
        network = fused(read_weights(path))
        for value in temperature:
            with mock.patch.object(foreground, "TEMPERATURE", value):
                rows.append([path.name, f"{value:g}", *(f"{each:.3f}" for each in scores(network, given))])
    columns = ["weights", "temperature", "foreground IoU", "median", "lowest tenth", *REGIONS]
    print_markdown_table("`python -m bench.dense_pose.photographs`", columns, rows, ["torch"])


if __name__ == "__main__":
    main()
