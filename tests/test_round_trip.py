"""Preprocessing and training agree about the body: the DSAP of a mirrored image is the flipped DSAP."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from helpers import exact_config

from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.sample import render_sample
from densereid.preprocess.semantics.derive import dsap_from_iuv
from densereid.train.data.augmentation import mirror_parts


def warped(image: np.ndarray, iuv: np.ndarray, collision: str = "last") -> tuple[torch.Tensor, torch.Tensor]:
    """DSAP (1, 24, 3, u, v) and validity (1, 24, u, v), as training reads them."""
    there = torch.from_numpy(np.ascontiguousarray(image))[None], torch.from_numpy(np.ascontiguousarray(iuv))[None]
    dsap, valid = dsap_from_iuv(*there, size=32, collision=collision)  # type: ignore[arg-type]
    return dsap.permute(0, 1, 4, 2, 3), valid


@pytest.mark.parametrize("person", range(1, 7))
def test_dsap_of_a_mirrored_rendered_image_is_the_flipped_dsap(person: int) -> None:
    sample = render_sample(exact_config(), person, person % 3, 1 + person % 4, junk=False)
    dsap, valid = warped(sample.image, sample.iuv)
    mirrored, mirrored_valid = warped(sample.image[:, ::-1], reference.mirror_iuv(sample.iuv))
    assert valid.sum() > 500
    assert torch.equal(mirrored, mirror_parts(dsap))
    assert torch.equal(mirrored_valid, mirror_parts(valid))


def test_with_shading_and_cameras_the_mean_of_a_texel_is_still_mirrored_exactly() -> None:
    """Pixels that share a texel differ now, and a mirror reverses their order; their mean does not care."""
    sample = render_sample(SyntheticConfig(), 3, 1, 2, junk=False)
    dsap, valid = warped(sample.image, sample.iuv, "mean")
    mirrored, mirrored_valid = warped(sample.image[:, ::-1], reference.mirror_iuv(sample.iuv), "mean")
    assert torch.equal(mirrored, mirror_parts(dsap))
    assert torch.equal(mirrored_valid, mirror_parts(valid))
