"""DensePose-like errors of IUV maps: off by default, seeded, equal to a loop over pixels, and as often as stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import random_iuv
from reference_synthetic import slow_disturb

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.synthetic import errors
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import write_dataset
from densereid.data_catalog.synthetic.sample import render_sample

SMALL = SyntheticConfig(
    train_identities=2, test_identities=1, images_per_identity=4, distractors=0, junk=0, height=64, width=32
)
SEVERE = 3.0


def many_draws(severity: float, number: int = 400) -> list[errors.IuvErrors]:
    rng = np.random.default_rng(5)
    return [errors.draw_errors(rng, 32, 16, severity=severity) for _ in range(number)]


def written_maps(root: Path, config: SyntheticConfig) -> dict[str, np.ndarray]:
    """I, U, V of every written map."""
    write_dataset(root, config)
    return {path.name: np.asarray(Image.open(path))[..., ::-1] for path in sorted((root / "iuv").rglob("*.png"))}


@pytest.mark.parametrize("seed", range(6))
def test_disturbing_equals_a_loop_over_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    iuv = random_iuv(rng, 24, 12)
    drawn = errors.draw_errors(rng, 24, 12, severity=SEVERE)
    # Such severe errors leave little to compare: every part is taken for another one instead.
    drawn = replace(drawn, turn_v=seed % 2 == 0, relabel=np.append(0, 1 + rng.permutation(24)).astype(np.uint8))
    np.testing.assert_array_equal(errors.disturb_iuv(iuv, drawn), slow_disturb(iuv, drawn))


@pytest.mark.parametrize("severity", [1.0, SEVERE])
def test_a_disturbed_map_is_a_valid_one(severity: float) -> None:
    rng = np.random.default_rng(1)
    for person in range(1, 13):
        exact = render_sample(SMALL, person, 0, 1).iuv
        before = exact.copy()
        disturbed = errors.disturb_iuv(exact, errors.draw_errors(rng, *exact.shape[:2], severity=severity))
        assert disturbed.dtype == np.uint8
        assert disturbed.shape == exact.shape
        assert disturbed[..., 0].max() <= 24
        assert not disturbed[disturbed[..., 0] == 0].any()
        np.testing.assert_array_equal(exact, before)


def test_no_severity_changes_nothing() -> None:
    iuv = random_iuv(np.random.default_rng(0), 32, 16)
    for drawn in many_draws(0.0, 5):
        np.testing.assert_array_equal(errors.disturb_iuv(iuv, drawn), iuv)


@pytest.mark.parametrize("severity", [0.5, 1.0, 2.0])
def test_errors_are_as_frequent_as_configured(severity: float) -> None:
    draws = many_draws(severity)
    undetected = np.array([not drawn.relabel.any() for drawn in draws])
    found = [drawn for drawn, nothing in zip(draws, undetected, strict=True) if not nothing]
    relabel = np.array([drawn.relabel for drawn in found])
    assert undetected.mean() == pytest.approx(severity * errors.UNDETECTED, abs=0.06)
    assert (relabel[:, 1:] == 0).mean() == pytest.approx(severity * errors.MISSED_PART, abs=0.02)
    # A lost limb does not show whether it was confused before, so the shares are of those that were found.
    for part, partner, share in ((16, 15, errors.CONFUSED_ARMS), (9, 10, errors.CONFUSED_LEGS)):
        seen = relabel[:, part][relabel[:, part] > 0]
        assert set(seen) <= {part, partner}
        assert (seen == partner).mean() == pytest.approx(severity * share, abs=0.06)
    assert np.mean([drawn.turn_v for drawn in draws]) == pytest.approx(severity * errors.CONFUSED_TORSO, abs=0.04)
    chart = np.array([drawn.chart for drawn in draws])
    # The middle half of Student's t with 3 degrees of freedom lies within 0.765 of its scale.
    assert np.median(np.abs(chart)) == pytest.approx(0.765 * severity * errors.CHART_SPREAD, rel=0.05)
    middle = np.array([drawn.displacement[:, 0, 0] for drawn in draws])
    assert middle.std() == pytest.approx(severity * errors.PIXEL_SPREAD * 16 / 64, rel=0.1)


def test_a_confused_limb_changes_sides_as_a_whole_and_a_turned_torso_its_v() -> None:
    confused = [drawn.relabel for drawn in many_draws(1.0) if drawn.relabel[10] == 9]
    assert len(confused) > 10
    for relabel in confused:
        for left, right in ((5, 6), (8, 7), (10, 9), (12, 11), (14, 13)):
            assert {relabel[left], relabel[right]} <= {left, right, 0}
            assert relabel[left] != left
    for drawn in many_draws(1.0):
        assert (drawn.relabel[1] in (2, 0)) if drawn.turn_v else (drawn.relabel[1] in (1, 0))


def test_datasets_are_exact_unless_asked_and_errors_are_seeded(tmp_path: Path) -> None:
    exact = written_maps(tmp_path / "exact", SMALL)
    wrong = written_maps(tmp_path / "wrong", replace(SMALL, iuv_errors=100))
    again = written_maps(tmp_path / "again", replace(SMALL, iuv_errors=100))
    assert exact.keys() == wrong.keys() == again.keys()
    assert all(np.array_equal(wrong[name], again[name]) for name in wrong)
    assert np.mean([np.array_equal(wrong[name], exact[name]) for name in wrong]) < 0.1
    images = {path.name: path.read_bytes() for path in (tmp_path / "exact").rglob("*.jpg")}
    assert images == {path.name: path.read_bytes() for path in (tmp_path / "wrong").rglob("*.jpg")}


def test_a_percentage_out_of_range_is_refused() -> None:
    with pytest.raises(UserError, match="IUV_ERRORS is 401; expected a whole number from 0 to 400"):
        SyntheticConfig(iuv_errors=401)
