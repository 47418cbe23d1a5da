"""Decoding DensePose's scores: against a pixel-by-pixel version, and against a recording of DensePose's converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densereid.preprocess.densepose import decode as module
from densereid.preprocess.densepose.decode import ChartScores, decode_box, decode_charts

GOLDEN = Path(__file__).parent / "golden" / "densepose.npz"


def random_scores(people: int, *, seed: int = 0, coarse: int = 2, cells: tuple[int, int] = (7, 5)) -> ChartScores:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int, spread: float, centre: float) -> torch.Tensor:
        return spread * torch.randn(people, channels, *cells, generator=generator) + centre

    return ChartScores(draw(coarse, 2, 0), draw(25, 2, 0), draw(25, 0.6, 0.5), draw(25, 0.6, 0.5))


def bilinear(scores: np.ndarray, y: int, x: int, size: tuple[int, int]) -> np.ndarray:
    """Value of (channels, h, w) at the centre of pixel (y, x) of an image of ``size`` laid over it."""
    rows, columns = scores.shape[1:]
    row = min(max((y + 0.5) * rows / size[0] - 0.5, 0), rows - 1)
    column = min(max((x + 0.5) * columns / size[1] - 0.5, 0), columns - 1)
    top, left = int(row), int(column)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    down, along = row - top, column - left
    upper = scores[:, top, left] * (1 - along) + scores[:, top, right] * along
    lower = scores[:, bottom, left] * (1 - along) + scores[:, bottom, right] * along
    result: np.ndarray = upper * (1 - down) + lower * down
    return result


def decode_slowly(scores: ChartScores, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """IUV and confidence of one person, pixel by pixel."""
    coarse, fine, u, v = (getattr(scores, name)[0].double().numpy() for name in ("coarse", "fine", "u", "v"))
    iuv = np.zeros((*size, 3), np.uint8)
    foreground = []
    for y, x in np.ndindex(*size):
        here = bilinear(coarse, y, x, size)
        part = int(np.argmax(bilinear(fine, y, x, size)))
        if part == 0 or np.argmax(here) == 0:
            continue
        chart = [bilinear(values[part : part + 1], y, x, size)[0] for values in (u, v)]
        iuv[y, x] = part, *(np.floor(255 * min(max(value, 0.0), 1.0) + 0.5) for value in chart)
        foreground.append(1 - np.exp(here[0]) / np.exp(here).sum())
    return iuv, float(np.mean(foreground)) if foreground else 0.0


@pytest.mark.parametrize("size", [(16, 9), (5, 3), (7, 5), (1, 1)])
@pytest.mark.parametrize("coarse", [2, 15])
def test_decoding_equals_the_slow_version(size: tuple[int, int], coarse: int) -> None:
    scores = random_scores(3, coarse=coarse)
    iuv, confidence = decode_charts(scores, size)
    assert iuv.dtype == torch.uint8
    for index in range(3):
        expected, mean = decode_slowly(scores[index : index + 1], size)
        np.testing.assert_array_equal(iuv[index, ..., 0], expected[..., 0])
        assert np.abs(iuv[index].numpy().astype(int) - expected).max() <= 1  # float32 against float64
        assert abs(float(confidence[index]) - mean) < 1e-5


def test_coordinates_outside_the_chart_are_clamped_and_background_is_zero() -> None:
    scores = random_scores(1)
    scores.u.copy_(torch.full_like(scores.u, 1.4))
    scores.v.copy_(torch.full_like(scores.v, -0.85))
    iuv, _ = decode_charts(scores, (14, 10))
    body = iuv[..., 0] > 0
    assert 0 < body.sum() < body.numel()
    assert (iuv[..., 1][body] == 255).all()
    assert not iuv[..., 2].any()
    assert not iuv[~body].any()


def test_not_a_number_is_a_byte_too() -> None:
    scores = random_scores(1)
    scores.u.fill_(torch.nan)
    iuv, _ = decode_charts(scores, (14, 10))
    assert not iuv[..., 1].any()


def test_nobody_has_no_confidence() -> None:
    scores = random_scores(2)
    scores.coarse[0, 0] = 100
    iuv, confidence = decode_charts(scores, (14, 10))
    assert not iuv[0].any()
    assert confidence[0] == 0
    assert 0.5 < confidence[1] < 1


def test_half_precision_scores_are_resampled_in_float32() -> None:
    scores = random_scores(1)
    halves = ChartScores(scores.coarse.half(), scores.fine.half(), scores.u.half(), scores.v.half())
    again = ChartScores(halves.coarse.float(), halves.fine.float(), halves.u.float(), halves.v.float())
    torch.testing.assert_close(decode_charts(halves, (14, 10)), decode_charts(again, (14, 10)))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = random_scores(7)
    whole = decode_charts(scores, (16, 9))
    monkeypatch.setattr(module, "_CHUNK_BYTES", 2 * 4 * 25 * 16 * 9)
    for ours, expected in zip(decode_charts(scores, (16, 9)), whole, strict=True):
        assert torch.equal(ours, expected)
    assert decode_charts(scores[0:0], (16, 9))[0].shape == (0, 16, 9, 3)


@pytest.mark.parametrize(
    "box", [(2, 3, 9, 14), (2.9, 3.9, 9.2, 14.7), (-3, -2, 9, 14), (6, 8, 20, 30), (4, 4, 4.3, 4.3), (0, 0, 12, 18)]
)
def test_a_box_is_pasted_at_its_whole_pixel_corner(box: tuple[float, ...]) -> None:
    scores = random_scores(1)
    edges = torch.tensor(box, dtype=torch.float32)
    image = decode_box(scores, edges, (18, 12)).numpy()
    x0, y0 = int(edges[0]), int(edges[1])
    width, height = max(int(edges[2] - edges[0]), 1), max(int(edges[3] - edges[1]), 1)
    person = decode_charts(scores, (height, width))[0][0].numpy()
    expected = np.zeros((18, 12, 3), np.uint8)
    for y, x in np.ndindex(height, width):
        if 0 <= y0 + y < 18 and 0 <= x0 + x < 12:
            expected[y0 + y, x0 + x] = person[y, x]
    np.testing.assert_array_equal(image, expected)


def test_decoding_equals_the_recording_of_denseposes_converter() -> None:
    """Raw scores of a real Detectron2 run and what ToChartResultConverter made of them (record_golden.py)."""
    golden = np.load(GOLDEN)
    names = ("coarse", "fine", "u", "v")
    scores = ChartScores(*(torch.from_numpy(golden[name]).float() for name in names))
    recorded = [name.removeprefix("labels_") for name in golden.files if name.startswith("labels_")]
    assert len(recorded) == 6
    for key in recorded:
        index, _, size = key.partition("_")
        height, width = (int(edge) for edge in size.split("x"))
        iuv = decode_charts(scores, (height, width))[0][int(index)]
        np.testing.assert_array_equal(iuv[..., 0], golden[f"labels_{key}"])
        uv = np.clip(golden[f"uv_{key}"], 0, 1)
        np.testing.assert_allclose(iuv[..., 1:].permute(2, 0, 1), 255 * uv, atol=0.5 + 1e-3)


def test_the_recording_stays_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.parent.iterdir()) < 300_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_decodes_as_the_cpu() -> None:
    scores = random_scores(5, cells=(112, 112))
    there = ChartScores(*(getattr(scores, name).cuda() for name in ("coarse", "fine", "u", "v")))
    ours, expected = decode_charts(there, (256, 128))[0].cpu(), decode_charts(scores, (256, 128))[0]
    assert (ours[..., 0] == expected[..., 0]).float().mean() > 0.9999
    assert ((ours.int() - expected.int()).abs().amax(dim=-1) <= 1).float().mean() > 0.9999
