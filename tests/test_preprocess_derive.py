"""Masks and DSAP images equal their slow references, on every device, and obey the flip rule."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densereid.data_catalog.store.schema import pack_validity
from densereid.preprocess.semantics import warp_cpu
from densereid.preprocess.semantics.derive import _packed, derive, dsap_from_iuv, mask_from_iuv

ROOT = Path(__file__).parents[1]
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


def random_batch(seed: int, batch: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random colours and IUV maps; there is nobody in the second image."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (batch, height, width, 3)).astype(np.uint8)
    iuv = np.stack([reference.random_iuv(generator, height, width) for _ in range(batch)])
    iuv[1:2] = 0
    return image, iuv


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("collision", ["last", "mean"])
@pytest.mark.parametrize("size", [8, 24, 64])
def test_derived_arrays_equal_their_references(device: str, collision: str, size: int) -> None:
    image, iuv = random_batch(size, 4, 30, 20)
    tensors = torch.from_numpy(image), torch.from_numpy(iuv)
    derived = derive(*tensors, size=size, collision=collision, device=device)  # type: ignore[arg-type]
    np.testing.assert_array_equal(derived["iuv"], iuv)
    for index in range(4):
        dsap, valid = reference.dsap_from_iuv(image[index], iuv[index], size, collision)
        np.testing.assert_array_equal(derived["mask"][index], reference.mask_from_iuv(iuv[index]))
        np.testing.assert_array_equal(derived["dsap"][index], dsap)
        np.testing.assert_array_equal(derived["dsap_valid"][index], pack_validity(valid))
    assert not derived["dsap_valid"][1].any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([1, 7, 8, 20, 32]),
    collision=st.sampled_from(["last", "mean"]),
    threads=st.integers(1, 5),
)
def test_the_compiled_kernel_equals_the_tensor_version(seed: int, size: int, collision: str, threads: int) -> None:
    """Whatever the size of the DSAP images and the number of threads; validity is padded to whole bytes."""
    height, width = np.random.default_rng(seed).integers(1, 20, 2)
    image, iuv = random_batch(seed, 19, int(height), int(width))  # three runs of images for the threads
    tensors = torch.from_numpy(image), torch.from_numpy(iuv)
    dsap, valid = dsap_from_iuv(*tensors, size=size, collision=collision)  # type: ignore[arg-type]
    found = warp_cpu.derive_on_cpu(image, iuv, size=size, collision=collision, threads=threads)
    expected = mask_from_iuv(tensors[1]).numpy(), dsap.numpy(), pack_validity(valid.numpy())
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_mean_is_exact_however_many_pixels_share_a_texel() -> None:
    generator = np.random.default_rng(0)
    for count in (*range(1, 80), 255, 256, 257, 2**15, 2**16):
        highest = 256 if count < 1000 else 2  # sums near whole multiples of the count, too
        image = generator.integers(0, highest, (1, 1, count, 3)).astype(np.uint8)
        iuv = np.full((1, 1, count, 3), 7, np.uint8)
        _, dsap, _ = warp_cpu.derive_on_cpu(image, iuv, size=8, collision="mean", threads=1)
        total = image.astype(int).sum(axis=(0, 1, 2))
        np.testing.assert_array_equal(dsap[0, 6, 0, 0], (2 * total + count) // (2 * count))
    white = np.full((1, 256, 256, 3), 255, np.uint8)
    assert (
        warp_cpu.derive_on_cpu(white, np.full_like(white, 7), size=8, collision="mean", threads=1)[1][0, 6, 0, 0, 0]
        == 255
    )


def test_validity_is_packed_on_a_device_as_the_schema_packs_it() -> None:
    valid = np.random.default_rng(0).random((2, 24, 16, 16)) < 0.5
    np.testing.assert_array_equal(_packed(torch.from_numpy(valid)).numpy(), pack_validity(valid))


@pytest.mark.parametrize("collision", ["last", "mean"])
def test_a_part_that_does_not_exist_is_an_error(collision: str) -> None:
    image, iuv = random_batch(0, 19, 6, 5)
    iuv[17, 3, 2, 0] = 25
    with pytest.raises(ValueError, match=r"an IUV map holds part 25; parts are 0\.\.24"):
        warp_cpu.derive_on_cpu(image, iuv, size=8, collision=collision, threads=2)


def test_a_fork_derives_with_threads_of_its_own() -> None:
    """A pool's threads do not survive a fork; a child that inherited the pool would wait for them for ever."""
    image, iuv = random_batch(0, 19, 6, 5)
    expected = warp_cpu.derive_on_cpu(image, iuv, size=8, collision="last", threads=2)
    child = os.fork()
    if child == 0:
        found = warp_cpu.derive_on_cpu(image, iuv, size=8, collision="last", threads=2)
        os._exit(0 if all(map(np.array_equal, found, expected)) else 1)
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_a_read_only_installation_compiles_for_itself(tmp_path: Path) -> None:
    """Where numba can keep what it compiled neither beside the module nor in the user's folder."""
    package = tmp_path / "densereid"
    shutil.copytree(ROOT / "densereid", package, ignore=shutil.ignore_patterns("__pycache__"))
    module = package / "preprocess" / "semantics" / "warp_cpu.py"
    module.with_name("__pycache__").touch()  # root writes into read-only folders, but not into a file
    code = (
        "import numpy as np; from densereid.preprocess.semantics import warp_cpu; print(warp_cpu.__file__); "
        "iuv = np.full((1, 1, 1, 3), 3, np.uint8); "
        "print(warp_cpu.derive_on_cpu(iuv, iuv, size=8, collision='last', threads=1)[0])"
    )
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **nowhere}, capture_output=True, text=True
    )
    assert result.stdout.split("\n") == [str(module), "[[[4]]]", ""], result.stderr


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
    dsap, valid = dsap_from_iuv(torch.from_numpy(image)[None], torch.from_numpy(iuv)[None], size=32, collision="last")
    mirrored_iuv = reference.mirror_iuv(iuv)
    mirrored_image = np.ascontiguousarray(image[:, ::-1])
    mirrored, mirrored_valid = dsap_from_iuv(
        torch.from_numpy(mirrored_image)[None], torch.from_numpy(mirrored_iuv)[None], size=32, collision="last"
    )
    np.testing.assert_array_equal(mirrored[0].numpy(), reference.mirror_dsap(dsap[0].numpy()))
    np.testing.assert_array_equal(mirrored_valid[0].numpy(), reference.mirror_dsap(valid[0].numpy()))
