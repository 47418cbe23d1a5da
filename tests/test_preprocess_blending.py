"""Maps whose pixels were mixed are told from those that were not, by no more than what is in them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference import random_iuv
from reference_densepose import count_blended_slowly

from densereid.preprocess.estimators.blending import count_blended, is_blended


@pytest.fixture(scope="module")
def maps(synthetic_root: Path) -> list[np.ndarray]:
    """Rendered maps in the order I, U, V."""
    paths = sorted((synthetic_root / "synthetic" / "iuv").rglob("*.png"))[::9]
    return [np.asarray(Image.open(path))[..., ::-1] for path in paths]


def resized(iuv: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(iuv).resize(size[::-1], method))


def compressed(iuv: np.ndarray, quality: int, subsampling: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(iuv[..., ::-1])).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))[..., ::-1]


def test_counting_equals_the_slow_version(maps: list[np.ndarray]) -> None:
    generator = np.random.default_rng(0)
    examples = [random_iuv(generator, 20, 12), resized(maps[0], (40, 23), Image.Resampling.BILINEAR), maps[1][:30]]
    examples += [np.zeros((1, 1, 3), np.uint8), random_iuv(generator, 2, 9), random_iuv(generator, 9, 1)]
    for iuv in examples:
        assert count_blended(iuv) == count_blended_slowly(iuv)


def test_maps_that_were_never_mixed_pass(maps: list[np.ndarray]) -> None:
    """Rendered, flipped, cut, resized by the nearest pixel to larger and smaller, and even noise."""
    assert len(maps) >= 6
    for iuv in maps:
        height, width = iuv.shape[:2]
        kept = [iuv, iuv[:, ::-1], iuv[::-1], iuv[height // 3 :], iuv.swapaxes(0, 1)]
        kept += [
            resized(iuv, size, Image.Resampling.NEAREST)
            for size in ((64, 32), (128, 64), (384, 128), (2 * height, 2 * width), (height * 9 // 10, width * 9 // 10))
        ]
        assert not any(is_blended(example) for example in kept)
    generator = np.random.default_rng(0)
    assert not any(is_blended(random_iuv(generator, height, 32)) for height in (20, 64, 128))
    assert not is_blended(np.zeros((64, 32, 3), np.uint8))


@pytest.mark.parametrize("factor", [0.5, 0.7, 0.9, 1.3, 2.0, 3.5])
def test_maps_that_were_resized_by_mixing_are_found(maps: list[np.ndarray], factor: float) -> None:
    """By Pillow, which filters before it makes smaller, and as OpenCV and torch do it, which take two by two pixels."""
    for iuv in maps:
        size = (round(iuv.shape[0] * factor), round(iuv.shape[1] * factor))
        for method in ("BILINEAR", "BICUBIC", "LANCZOS"):
            assert is_blended(resized(iuv, size, Image.Resampling[method]))
        channels = torch.from_numpy(iuv.copy()).permute(2, 0, 1)[None].float()
        mixed = torch.nn.functional.interpolate(channels, size, mode="bilinear", align_corners=False)
        assert is_blended(mixed[0].permute(1, 2, 0).round().byte().numpy())


@pytest.mark.parametrize("quality", [50, 75, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_maps_that_were_jpegs_are_found(maps: list[np.ndarray], quality: int, subsampling: int) -> None:
    for iuv in maps:
        assert is_blended(compressed(iuv, quality, subsampling))
