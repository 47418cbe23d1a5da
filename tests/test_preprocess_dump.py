"""ESTIMATOR=iuv with what ``apply_net.py dump`` wrote: every kind and form of it; nothing runs, faults are named."""

from __future__ import annotations

import base64
import io
import pickle
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import Hostile
from PIL import Image
from reference import random_iuv

from densereid.data_catalog.datasets.lookup import Dataset, find_dataset
from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.decode import ChartScores, decode_box
from densereid.preprocess.densepose.detectron2_network import missing
from densereid.preprocess.estimators.base import Charts
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.images import Crop, read_image

CHART_RESULT = "densepose.structures.chart_result"


class Other:
    """Attributes as the real class has them."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """An object that pickles as one of a class of that name in that module, as DensePose's own does."""

    modules: dict[str, types.ModuleType] = {}

    def make(module: str, name: str, **values: Any) -> Any:
        for level in ("densepose", "densepose.structures", module):
            if level not in modules:
                modules[level] = types.ModuleType(level)
                monkeypatch.setitem(sys.modules, level, modules[level])
        if not hasattr(modules[module], name):
            setattr(modules[module], name, type(name, (Other,), {"__module__": module}))
        return getattr(modules[module], name)(**values)

    return make


@dataclass
class Dumped:
    """A folder of crops, the map of the person in each, and a dump with one detection of each."""

    dataset: Dataset
    maps: list[np.ndarray]
    entries: list[dict[str, Any]]

    def estimate(self, path: Path) -> Charts:
        found = find_dataset("folder", self.dataset.root, iuv_root=path)
        crops = [Crop(record, read_image(found.root / record.path)) for record in found.records]
        return open_iuv(found).estimate(crops, (30, 20))


def charts_of(iuv: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(iuv[..., 0].astype(np.int64)), torch.from_numpy(iuv[..., 1:] / 255).permute(2, 0, 1).float()


@pytest.fixture
def dumped(tmp_path: Path, real: Callable[..., Any]) -> Dumped:
    (tmp_path / "crops" / "a").mkdir(parents=True)
    maps, entries = [], []
    generator = np.random.default_rng(0)
    for index in range(4):
        path = tmp_path / "crops" / "a" / f"{index}.png"
        Image.fromarray(generator.integers(0, 256, (30, 20, 3)).astype(np.uint8)).save(path)
        box = torch.tensor([[2.7, 3.2, 14.9, 27.8]])
        iuv = random_iuv(generator, 24, 12)
        labels, uv = charts_of(iuv)
        result = real(CHART_RESULT, "DensePoseChartResultWithConfidences", labels=labels, uv=uv, sigma_1=None)
        full = np.zeros((30, 20, 3), np.uint8)
        full[3:27, 2:14] = iuv
        maps.append(full)
        entries.append(
            {"file_name": f"data/crops/a/{index}.png", "scores": torch.tensor([0.5 + index / 10]),
             "pred_boxes_XYXY": box, "pred_densepose": [result]}
        )  # fmt: skip
    return Dumped(find_dataset("folder", tmp_path / "crops"), maps, entries)


def saved(entries: Any, path: Path, form: str = "torch") -> Path:
    if form == "pickle":
        path.write_bytes(pickle.dumps(entries))
    else:
        torch.save(entries, path, _use_new_zipfile_serialization=form == "torch")
    return path


@pytest.mark.parametrize("form", ["torch", "old torch", "pickle"])
def test_a_dump_gives_each_image_its_person(dumped: Dumped, tmp_path: Path, form: str) -> None:
    path = saved(dumped.entries, tmp_path / "results.pkl", form)
    charts = dumped.estimate(path)
    assert charts.failures == {}
    np.testing.assert_array_equal(charts.iuv.numpy(), np.stack(dumped.maps))
    np.testing.assert_allclose(charts.score, [0.5, 0.6, 0.7, 0.8], rtol=1e-6)
    np.testing.assert_allclose(charts.box[0], [2.7, 3.2, 14.9, 27.8], rtol=1e-6)
    estimator = open_iuv(find_dataset("folder", dumped.dataset.root, iuv_root=path))
    assert pickle.loads(pickle.dumps(estimator)) == estimator
    assert estimator.settings() == {"order": "dump"}
    saved(dumped.entries[::-1], path, form)
    other = open_iuv(find_dataset("folder", dumped.dataset.root, iuv_root=path))
    assert other.settings() == estimator.settings()  # a longer dump adds images to a store
    assert other.inputs("a.png") != estimator.inputs("a.png")


def png_text(iuv: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(iuv).save(file, "PNG")
    return base64.encodebytes(file.getvalue()).decode()


def test_older_and_other_kinds_of_results_are_read(dumped: Dumped, real: Callable[..., Any], tmp_path: Path) -> None:
    cut = [full[3:27, 2:14] for full in dumped.maps]
    labels, uv = charts_of(cut[0])
    channels_first = torch.from_numpy(cut[1]).permute(2, 0, 1)
    kinds = [
        [real(CHART_RESULT, "DensePoseChartResult", labels=labels, uv=uv)],
        [real(CHART_RESULT, "DensePoseChartResultQuantized", labels_uv_uint8=channels_first)],
        [real(CHART_RESULT, "DensePoseChartResultCompressed", shape_chw=(3, 24, 12), labels_uv_str=png_text(cut[2]))],
        real("densepose.structures", "DensePoseResult", results=[((3, 24, 12), png_text(cut[3]))], boxes_xywh=[[]]),
    ]
    for entry, kind in zip(dumped.entries, kinds, strict=True):
        entry["pred_densepose"] = kind
    charts = dumped.estimate(saved(dumped.entries, tmp_path / "results.pkl", "pickle"))
    assert charts.failures == {}
    np.testing.assert_array_equal(charts.iuv.numpy(), np.stack(dumped.maps))


def test_of_several_persons_the_best_is_taken_and_none_is_no_person(dumped: Dumped, tmp_path: Path) -> None:
    """By the rule of MODE=detect: score x a Gaussian of the distance from the middle."""
    first, second, third, fourth = dumped.entries
    other = second["pred_densepose"][0]
    first["pred_densepose"].append(other)
    first["scores"] = torch.tensor([0.7, 0.9])
    first["pred_boxes_XYXY"] = torch.tensor([[2.7, 3.2, 14.9, 27.8], [8.0, 6.0, 20.0, 30.0]])
    for entry in (third, fourth):
        entry["scores"], entry["pred_boxes_XYXY"] = torch.empty(0), torch.empty(0, 4)
    third["pred_densepose"] = []
    del fourth["pred_densepose"]
    charts = dumped.estimate(saved(dumped.entries, tmp_path / "results.pkl"))
    assert charts.failures == {}
    np.testing.assert_array_equal(charts.iuv[0].numpy(), dumped.maps[0])
    assert not charts.iuv[2:].any()
    assert charts.score[2:].tolist() == [0, 0]
    first["scores"] = torch.tensor([0.1, 0.9])
    charts = dumped.estimate(saved(dumped.entries, tmp_path / "results.pkl"))
    expected = np.zeros((30, 20, 3), np.uint8)
    expected[6:30, 8:20] = dumped.maps[1][3:27, 2:14]
    np.testing.assert_array_equal(charts.iuv[0].numpy(), expected)


def test_u_and_v_are_clamped_and_rounded_as_ours_are(dumped: Dumped, tmp_path: Path) -> None:
    uv = dumped.entries[0]["pred_densepose"][0].uv
    uv[0], uv[1] = -0.3, 1.7
    charts = dumped.estimate(saved(dumped.entries, tmp_path / "results.pkl"))
    body = dumped.maps[0][..., 0] > 0
    assert set(map(tuple, charts.iuv[0].numpy()[body][:, 1:])) == {(0, 255)}
    assert not charts.iuv[0].numpy()[~body].any()


def test_an_images_own_faults_are_its_failures(dumped: Dumped, tmp_path: Path) -> None:
    first, second, third, fourth = dumped.entries
    first["file_name"] = "elsewhere/b/9.png"
    second["pred_boxes_XYXY"] = torch.tensor([[4.0, 6.0, 28.0, 54.0]])
    third["pred_densepose"][0].uv[0, 5, 5] = torch.nan
    charts = dumped.estimate(saved([*dumped.entries, {**fourth}], tmp_path / "results.pkl"))
    assert "a/0.png is not in the dump" in charts.failures[0]
    assert "reach to 54x28 (height x width), the image is 30x20: the dump is of another size" in charts.failures[1]
    assert "the person in a/2.png: its U and V hold NaN or infinity" in charts.failures[2]
    assert "a/3.png is 2 times in the dump" in charts.failures[3]
    third["pred_densepose"][0].uv[:] = 0
    third["pred_densepose"][0].labels[0, 0] = 99
    second["pred_boxes_XYXY"] = torch.tensor([[2.0, 3.0, 15.0, 27.0]])
    charts = dumped.estimate(saved(dumped.entries, tmp_path / "results.pkl"))
    assert "its map is 24x12, its box 24x13" in charts.failures[1]
    assert "its parts go up to 99, expected 0..24" in charts.failures[2]


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_images_of_one_name_are_told_by_their_folders(dumped: Dumped, tmp_path: Path, separator: str) -> None:
    root = dumped.dataset.root
    (root / "b").mkdir()
    (root / "a" / "1.png").rename(root / "b" / "0.png")
    dumped.entries[1]["file_name"] = "data/crops/b/0.png"
    for entry in dumped.entries:
        entry["file_name"] = entry["file_name"].replace("/", separator)
    charts = dumped.estimate(saved(dumped.entries, tmp_path / "results.pkl"))
    assert charts.failures == {}
    order = [0, 2, 3, 1]
    np.testing.assert_array_equal(charts.iuv.numpy(), np.stack([dumped.maps[index] for index in order]))
    dumped.entries[0]["file_name"] = "0.jpg"
    del dumped.entries[1]
    charts = dumped.estimate(saved(dumped.entries, tmp_path / "results.pkl"))
    assert sorted(charts.failures) == [0, 3]
    assert "0.jpg in the dump" in charts.failures[0]
    assert "may be a/0.png or another image of that name" in charts.failures[0]


def test_a_file_that_is_no_dump_of_these_images_is_told_so(
    dumped: Dumped, real: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "results.pkl"
    whole = saved(dumped.entries, path).read_bytes()
    embedding = real("densepose.structures.cse", "DensePoseEmbeddingPredictorOutput", embedding=torch.zeros(1))
    wrong: list[tuple[Any, str]] = [
        ({"model": {}}, "holds a dict, not a dump of apply_net.py"),
        ([{"file_name": "a/0.png", "pred_densepose": embedding}], "holds embeddings of a CSE model"),
        (
            [{**dumped.entries[0], "file_name": "z.png"}],
            r"has none of the 4 images of .*: it names z.png, the dataset a/",
        ),
        ([{**dumped.entries[0], "scores": torch.zeros(3)}], "a/0.png has 3 scores, 1 boxes and 1 results"),
        (
            [{**dumped.entries[0], "extra": Hostile(tmp_path / "ran")}],
            r"asks for posix\.system, which a dump of apply_net",
        ),
    ]
    for content, words in wrong:
        for form in ("torch", "pickle"):
            with pytest.raises(UserError, match=words):
                dumped.estimate(saved(content, path, form))
    assert not (tmp_path / "ran").exists()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot be read as a dump of apply_net.py: its end is missing"):
        dumped.estimate(path)


@pytest.mark.detectron2
@pytest.mark.skipif(missing() is not None, reason="DensePose is not installed, whose own results are dumped here")
@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_denseposes_own_results_are_read(tmp_path: Path, form: str) -> None:
    """As its converter makes them of a predictor's output for a box; ours decodes the same scores."""
    from densepose.converters import ToChartResultConverterWithConfidences
    from densepose.structures import DensePoseChartPredictorOutput, decorate_predictor_output_class_with_confidences
    from detectron2.structures import Boxes

    generator = torch.Generator().manual_seed(0)
    scores = ChartScores(*(torch.rand(1, channels, 8, 8, generator=generator) for channels in (2, 25, 25, 25)))
    box = torch.tensor([[2.7, 3.2, 14.9, 27.8]])
    kind = decorate_predictor_output_class_with_confidences(DensePoseChartPredictorOutput)
    result = ToChartResultConverterWithConfidences.convert(kind(*scores.all()), Boxes(box))
    Image.new("RGB", (20, 30)).save(tmp_path / "0.png")
    entry = {"file_name": "0.png", "scores": torch.ones(1), "pred_boxes_XYXY": box, "pred_densepose": [result]}
    dataset = find_dataset("folder", tmp_path, iuv_root=saved([entry], tmp_path / "results.pkl", form))
    charts = open_iuv(dataset).estimate([Crop(dataset.records[0], read_image(tmp_path / "0.png"))], (30, 20))
    assert charts.failures == {}
    np.testing.assert_array_equal(charts.iuv[0].numpy(), decode_box(scores, box[0], (30, 20)).numpy())
