"""The bench of real people: what counts as a person in Clothing Co-Parsing, how crops are cut, and what is scored."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from bench.dense_pose import photographs as bench
from densereid.preprocess.embedded.network import EmbeddedNetwork

NAMES = ("null", "shirt", "bag", "hair", "skin")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One photograph of 200x100: hair over a shirt in rows 40 to 139 and columns 20 to 59, a bag beside it."""
    for each in ("photos", "annotations/pixel-level"):
        (tmp_path / each).mkdir(parents=True)
    labels = np.zeros((200, 100), np.uint8)
    labels[40:140, 20:60], labels[40:60, 20:60], labels[80:120, 60:90] = 1, 3, 2
    savemat(tmp_path / "label_list.mat", {"label_list": np.array(NAMES, dtype=object)[None]})
    savemat(tmp_path / "annotations/pixel-level/0001.mat", {"groundtruth": labels})
    Image.fromarray(np.full((200, 100, 3), 90, np.uint8)).save(tmp_path / "photos/0001.jpg")
    return tmp_path


def test_a_crop_is_about_the_person_without_the_bag(folder: Path) -> None:
    ((image, region),) = bench.photographs(folder, 1, 1)
    assert image.shape == (256, 128, 3)
    regions = list(bench.REGIONS)
    assert set(np.unique(region)) <= {*map(regions.index, ("hair", "tops", "background")), len(regions)}
    person = region < bench.BACKGROUND
    assert 0.85 < person.any(axis=1).mean() <= 1.0
    assert 0.85 < person.any(axis=0).mean() <= 1.0
    assert (region == regions.index("hair")).sum() / person.sum() == pytest.approx(0.2, abs=0.02)


def test_scores_leave_out_what_is_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    region = np.full((10, 10), bench.BACKGROUND)
    region[:6, :5] = list(bench.REGIONS).index("tops")
    region[:2, :5] = list(bench.REGIONS).index("hair")
    region[:, 9] = len(bench.REGIONS)
    iuv = np.zeros((10, 10, 3), np.uint8)
    iuv[2:8, :5], iuv[:, 9] = 1, 1  # the shirt, ten pixels below it, and all that is ignored
    monkeypatch.setattr(bench, "estimated", lambda *_: iuv)
    with np.errstate(invalid="ignore"):  # no skin, no shoes: no share of them
        found = bench.scores(cast("EmbeddedNetwork", None), [(np.zeros((10, 10, 3), np.uint8), region)])
    assert found[:3] == pytest.approx([20 / 40] * 3)
    shares = dict(zip(bench.REGIONS, found[3:], strict=True))
    assert shares["hair"] == 0.0
    assert shares["tops"] == 1.0
    assert shares["background"] == pytest.approx(10 / 60)
    assert np.isnan(shares["skin"])
