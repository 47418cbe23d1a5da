"""The foreground that follows the image, against sums over every pair of pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from densereid.preprocess.densepose.decode import ChartScores, decode_charts
from densereid.preprocess.embedded.bilateral import ALIKE, NEAR, SPACING, STRENGTH, follow_image


def _scores(seed: int, images: int, size: tuple[int, int]) -> ChartScores:
    random = torch.Generator().manual_seed(seed)
    return ChartScores(*(torch.randn(images, channels, *size, generator=random) for channels in (2, 25, 25, 25)))


def _cells(values: Tensor, rows: int, columns: int) -> list[tuple[float, float, Tensor]]:
    """Middles (in shares of height and width) and means of the cells of an even grid over (C, H, W) values."""
    height, width = values.shape[1] // rows, values.shape[2] // columns
    return [
        (
            (row + 0.5) / rows,
            (column + 0.5) / columns,
            values[:, row * height : (row + 1) * height, column * width : (column + 1) * width].mean(dim=(1, 2)),
        )
        for row in range(rows)
        for column in range(columns)
    ]


def _change_by_loops(scores: ChartScores, image: Tensor) -> Tensor:
    """What is taken from the background's logits of one image (3, H, W): (h, w)."""
    height, width = image.shape[1:]
    rows, columns = scores.fine.shape[2:]
    margin = torch.empty(1, rows, columns)
    for y in range(rows):
        for x in range(columns):
            coarse = float(scores.coarse[0, 1, y, x] - scores.coarse[0, 0, y, x])
            fine = max(float(scores.fine[0, part, y, x]) for part in range(1, 25)) - float(scores.fine[0, 0, y, x])
            margin[0, y, x] = math.tanh(min(coarse, fine) / 2)
    grid = height // SPACING, width // SPACING
    neighbours = list(zip(_cells(image, *grid), _cells(margin, *grid), strict=True))
    change = torch.empty(rows * columns)
    for index, (y, x, colour) in enumerate(_cells(image, rows, columns)):
        total = weights = 0.0
        for (there_y, there_x, there_colour), (_, _, value) in neighbours:
            away = ((y - there_y) * height) ** 2 + ((x - there_x) * width) ** 2
            different = float(((colour - there_colour) ** 2).sum())
            weight = math.exp(-0.5 * (away / NEAR**2 + different / ALIKE**2))
            total, weights = total + weight * float(value), weights + weight
        change[index] = STRENGTH * total / weights
    return change.view(rows, columns)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("colours", [(120, 10), (0, 255)])
def test_krahenbuhl_equation_3_one_step_of_mean_field_as_by_loops(colours: tuple[int, int], device: str) -> None:
    if device != "cpu" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    darkest, span = colours
    scores = _scores(0, 2, (24, 12))
    images = darkest + span * torch.rand(2, 3, 48, 24, generator=torch.Generator().manual_seed(1))
    found = follow_image(ChartScores(*(each.to(device) for each in scores.all())), images.to(device))
    for index in range(2):
        change = _change_by_loops(scores[index : index + 1], images[index])
        for before, after in ((scores.coarse, found.coarse.cpu()), (scores.fine, found.fine.cpu())):
            torch.testing.assert_close(before[index, 0] - after[index, 0], change, atol=1e-3, rtol=1e-3)
            assert torch.equal(before[index, 1:], after[index, 1:])
    assert torch.equal(found.u.cpu(), scores.u)
    assert torch.equal(found.v.cpu(), scores.v)


def test_a_hole_in_a_plain_shirt_is_filled_and_an_object_of_another_colour_is_not() -> None:
    """Both are doubted by the network; what is of the colour of the found body around it becomes body."""
    image = torch.full((1, 3, 96, 48), 40.0)
    image[:, :, 12:84, 12:36] = 200.0
    body = torch.zeros(48, 24, dtype=torch.bool)
    body[6:42, 6:18] = True
    margin = torch.where(body, 2.0, -2.0)
    margin[16:24, 9:15] = -1.0
    scores = ChartScores(*(torch.zeros(1, channels, 48, 24) for channels in (2, 25, 25, 25)))
    scores.fine[0, 1:] = -10.0
    scores.coarse[0, 1] = scores.fine[0, 2] = margin

    def found(pixels: Tensor) -> Tensor:
        return decode_charts(follow_image(scores, pixels), (48, 24))[0][0, ..., 0] == 2

    assert torch.equal(found(image), body)
    image[:, :, 32:48, 18:30] = torch.tensor([30.0, 160.0, 40.0]).view(1, 3, 1, 1)
    assert torch.equal(found(image), margin > 0)


def test_an_image_smaller_than_a_square_is_one_neighbour() -> None:
    scores = _scores(3, 1, (2, 2))
    change = scores.fine[:, 0] - follow_image(scores, torch.full((1, 3, 4, 4), 9.0)).fine[:, 0]
    assert float(change.std()) < 1e-5
