"""Masks and DSAP images equal their slow references, on every device, and obey the flip rule."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.derive import dsap_from_iuv, mask_from_iuv

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def _needs_its_device(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("collision", ["last", "mean"])
@pytest.mark.parametrize("size", [8, 32, 64])
def test_section_3_1_warping(device: str, collision: str, size: int) -> None:
    generator = np.random.default_rng(size)
    image = generator.integers(0, 256, (3, 40, 30, 3)).astype(np.uint8)
    iuv = np.stack([reference.random_iuv(generator, 40, 30) for _ in range(3)])
    iuv[2] = 0  # nobody in the last image
    there = torch.from_numpy(image).to(device), torch.from_numpy(iuv).to(device)
    dsap, valid = dsap_from_iuv(*there, size=size, collision=collision)  # type: ignore[arg-type]
    for index in range(3):
        expected, expected_valid = reference.dsap_from_iuv(image[index], iuv[index], size, collision)
        np.testing.assert_array_equal(dsap[index].cpu().numpy(), expected)
        np.testing.assert_array_equal(valid[index].cpu().numpy(), expected_valid)
    assert valid[:2].any()
    assert not valid[2].any()


@pytest.mark.parametrize("device", DEVICES)
def test_mask_equals_the_table_pixel_by_pixel(device: str) -> None:
    iuv = reference.random_iuv(np.random.default_rng(0), 50, 40)
    mask = mask_from_iuv(torch.from_numpy(iuv)[None].to(device))[0].cpu().numpy()
    np.testing.assert_array_equal(mask, reference.mask_from_iuv(iuv))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([8, 16, 32]), collision=st.sampled_from(["last", "mean"]))
def test_any_map_gives_the_reference_dsap(seed: int, size: int, collision: str) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 20, 2)
    image = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
    iuv = reference.random_iuv(generator, int(height), int(width))
    dsap, valid = dsap_from_iuv(
        torch.from_numpy(image)[None],
        torch.from_numpy(iuv)[None],
        size=size,
        collision=collision,  # type: ignore[arg-type]
    )
    expected, expected_valid = reference.dsap_from_iuv(image, iuv, size, collision)
    np.testing.assert_array_equal(dsap[0].numpy(), expected)
    np.testing.assert_array_equal(valid[0].numpy(), expected_valid)


def test_every_byte_pair_survives_a_mirror() -> None:
    """Texel of 255 - q is the mirrored texel of q for all 256 bytes, so the flip rule is exact."""
    for size in (8, 32, 64):
        byte = np.arange(256)
        texel = np.minimum(size - 1, size * byte // 255)
        np.testing.assert_array_equal(np.minimum(size - 1, size * (255 - byte) // 255), size - 1 - texel)


def test_dsap_of_a_mirrored_image_is_the_flipped_dsap() -> None:
    """Exact where colliding pixels agree: each texel here has one colour, as a rendered texture has."""
    generator = np.random.default_rng(5)
    iuv = reference.random_iuv(generator, 48, 32)
    texture = generator.integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    row, column = (np.minimum(31, 32 * iuv[..., channel].astype(int) // 255) for channel in (1, 2))
    image = texture[iuv[..., 0].astype(int) - 1, row, column]
    dsap, valid = dsap_from_iuv(torch.from_numpy(image)[None], torch.from_numpy(iuv)[None])
    mirrored_iuv = reference.mirror_iuv(iuv)
    mirrored_image = np.ascontiguousarray(image[:, ::-1])
    mirrored, mirrored_valid = dsap_from_iuv(
        torch.from_numpy(mirrored_image)[None], torch.from_numpy(mirrored_iuv)[None]
    )
    np.testing.assert_array_equal(mirrored[0].numpy(), reference.mirror_dsap(dsap[0].numpy()))
    np.testing.assert_array_equal(mirrored_valid[0].numpy(), reference.mirror_dsap(valid[0].numpy()))
