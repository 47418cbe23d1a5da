"""Our configs of the DensePose chart models against DensePose's own YAML files, which pip does not install.

They are found in DETECTRON2_SOURCE, a checkout of Detectron2's repository.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from densepose_samples import zoo_architectures

from densereid.preprocess.densepose.checkpoints import Architecture
from densereid.preprocess.densepose.detectron2_network import config_of, missing
from densereid.preprocess.densepose.zoo import ZOO

pytestmark = pytest.mark.detectron2
if (reason := missing()) is not None:
    pytest.skip(f"the real Detectron2 is not compared with: {reason}", allow_module_level=True)
if "DETECTRON2_SOURCE" not in os.environ:
    pytest.skip("DETECTRON2_SOURCE is not set", allow_module_level=True)

_TRAINING_ONLY = ("INDEX_WEIGHTS", "PART_WEIGHTS", "POINT_REGRESSION_WEIGHTS", "HEATMAP_SIZE")


@pytest.mark.parametrize("architecture", zoo_architectures().values(), ids=lambda architecture: architecture.name)
def test_configs_are_densepose_s_own(architecture: Architecture) -> None:
    from densepose import add_densepose_config
    from detectron2.config import get_cfg

    folder = Path(os.environ["DETECTRON2_SOURCE"]) / "projects" / "DensePose" / "configs"
    theirs = get_cfg()
    add_densepose_config(theirs)
    theirs.merge_from_file(str(folder / f"{architecture.name}.yaml"))
    ours = config_of(architecture, "cpu")
    theirs.MODEL.DEVICE, theirs.MODEL.WEIGHTS = "cpu", ""
    for name in _TRAINING_ONLY:
        theirs.MODEL.ROI_DENSEPOSE_HEAD[name] = ours.MODEL.ROI_DENSEPOSE_HEAD[name]
    for name in ("PRE_NMS_TOPK_TRAIN", "POST_NMS_TOPK_TRAIN"):
        theirs.MODEL.RPN[name] = ours.MODEL.RPN[name]
    assert ours.MODEL == theirs.MODEL
    assert (ours.INPUT.FORMAT, ours.INPUT.MAX_SIZE_TEST) == (theirs.INPUT.FORMAT, theirs.INPUT.MAX_SIZE_TEST)
    assert ours.TEST.DETECTIONS_PER_IMAGE == theirs.TEST.DETECTIONS_PER_IMAGE


def test_the_zoo_is_the_page_s_own() -> None:
    page = Path(os.environ["DETECTRON2_SOURCE"]) / "projects" / "DensePose" / "doc" / "DENSEPOSE_IUV.md"
    addresses = re.findall(r"https://[^\s\"]+/densepose_rcnn_[^\s\"]+\.pkl", page.read_text(encoding="utf-8"))
    assert sorted(addresses) == sorted(entry.url for entry in ZOO.values())
