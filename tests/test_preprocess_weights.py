"""Weights: found by name, by path or in the cache, downloaded once, pinned by their digest once they were read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import TINY, random_state, shapes_of, weights_at, write_zoo_file
from file_server import LOGIN, FileServer, serving

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.network import load_densepose
from densereid.preprocess.densepose.weights import Weights, find_weights, first_use, pin
from densereid.preprocess.densepose.zoo import ZOO, PublishedWeights, cache_folder, published
from densereid.preprocess.estimators.densepose import DenseposeEstimator, open_densepose


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(text: str) -> None:
    del text


def zoo_file(path: Path, size: int = 3) -> Path:
    path.write_bytes(pickle.dumps({"model": {"a": np.zeros(size)}, "__author__": "nobody"}))
    return path


def found(name: str) -> Weights:
    """The weights of that name, pinned."""
    weights = Weights(*find_weights(name, lambda path: weights_at(path).sha256, silent))
    pin(weights)
    return weights


def test_names_paths_and_mistakes(tmp_path: Path) -> None:
    path = zoo_file(tmp_path / "mine.pkl")
    assert found(str(path)) == weights_at(path)
    with pytest.raises(UserError, match=r"WEIGHTS=nowhere\.pkl is neither a file nor a published name\n"):
        found("nowhere.pkl")
    with pytest.raises(UserError, match=f"WEIGHTS={tmp_path} is a folder, not a file"):
        found(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("R50_FPN_s1x", "R_50_FPN_s1x"),
        ("r_101_fpn_dl_wc2m_s1x", "R_101_FPN_DL_WC2M_s1x"),
        ("R_50_FPN_WC1", "R_50_FPN_WC1_s1x"),
        ("R_50_FPN_legacy_s1x", "R_50_FPN_s1x_legacy"),
        ("configs/densepose_rcnn_R_50_FPN_DL_s1x.yaml", "R_50_FPN_DL_s1x"),
        ("downloads/model_final_e354d9.pkl", "R_101_FPN_WC2M_s1x"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"WEIGHTS={name} is neither .*; did you mean WEIGHTS={near}\?\npublished are"):
        found(name)


def test_the_zoo_is_that_of_denseposes_own_page() -> None:
    """22 chart models of humans, in doc/DENSEPOSE_IUV.md: both depths of each kind, and no digest."""
    kinds = ["s1x_legacy", "s1x", "DL_s1x"]
    kinds += [f"{head}WC{kind}_s1x" for head in ("", "DL_") for kind in ("1", "2", "1M", "2M")]
    assert sorted(ZOO) == sorted(f"R_{depth}_FPN_{kind}" for depth in (50, 101) for kind in kinds)
    assert len({entry.url for entry in ZOO.values()}) == len(ZOO) == 22
    for name, entry in ZOO.items():
        assert entry.config == f"densepose_rcnn_{name}"
        assert entry.url.startswith(f"https://dl.fbaipublicfiles.com/densepose/densepose_rcnn_{name}/")
        assert published(name) == published(entry.config) == published(entry.url) == entry


def test_published_weights_are_taken_from_the_cache(cache: Path) -> None:
    entry = ZOO["R_50_FPN_s1x"]
    assert entry.cached == cache / "densepose_rcnn_R_50_FPN_s1x" / "model_final_162be9.pkl"
    entry.cached.parent.mkdir(parents=True)
    zoo_file(entry.cached)
    for name in ("R_50_FPN_s1x", "densepose_rcnn_R_50_FPN_s1x", entry.url):
        assert found(name).path == entry.cached


def published_at(files: FileServer, monkeypatch: pytest.MonkeyPatch, config: str = TINY.name) -> PublishedWeights:
    """``near`` among the published names, served from here."""
    entry = PublishedWeights(config, f"{files.address}/published.pkl")
    monkeypatch.setitem(ZOO, "near", entry)
    return entry


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("published") / "tiny.pkl"
    return write_zoo_file(path, random_state(shapes_of(TINY), seed=0)).read_bytes()


def opened(name: str, told: list[str]) -> DenseposeEstimator:
    load_densepose.cache_clear()
    return open_densepose(
        name, device="cpu", mode="crop", short_edge=32, precision="fp32", compiled=False, notify=told.append
    )


def pins(cache: Path) -> list[Path]:
    return list((cache / "pins").glob("*"))


def test_a_download_names_the_licence_first_and_is_pinned(
    cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with serving(FileServer(content)) as files:
        entry = published_at(files, monkeypatch)
        assert first_use("near") == f"the weights would be downloaded to {entry.cached}"
        estimator = opened("near", told)
        assert estimator.weights == weights_at(entry.cached)
        assert "CC BY-SA 3.0" in told[-1]
        assert entry.url in told[-1]
        assert first_use("near") is None
        assert opened("near", told) == estimator
    assert len(files.asked) == 1
    assert [path.name for path in entry.cached.parent.glob("[!.]*")] == ["published.pkl"]
    assert len(pins(cache)) == 1


def test_a_file_is_read_and_hashed_once(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.pkl").write_bytes(content)
    read: list[str] = []
    opening = Path.open

    def counted(path: Path, *arguments: Any, **named: Any) -> Any:
        read.extend([path.name] * (path.suffix == ".pkl"))
        return opening(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", counted)
    estimator = opened(str(tmp_path / "mine.pkl"), [])
    assert estimator.network() is estimator.network()
    assert read == ["mine.pkl"]


@pytest.mark.parametrize("wrong", ["a login page", "half", "another network", "another pickle", "NaN"])
def test_a_bad_download_is_never_pinned_and_the_good_file_is_taken_after_it(
    cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    state = random_state(shapes_of(TINY), seed=0)
    state[next(iter(state))][0] = torch.nan
    bad = {
        "a login page": LOGIN,
        "half": content[: len(content) // 2],
        "another pickle": pickle.dumps([1, 2, 3]),
        "another network": content,
        "NaN": write_zoo_file(tmp_path / "nan.pkl", state).read_bytes(),
    }[wrong]
    with serving(FileServer(bad)) as files:
        config = "densepose_rcnn_R_101_FPN_s1x" if wrong == "another network" else TINY.name
        entry = published_at(files, monkeypatch, config)
        with pytest.raises(UserError, match=r"published.pkl sent .* is not the file that was asked for"):
            opened("near", [])
        assert not list(entry.cached.parent.glob("[!.]*"))
        assert not pins(cache)
        files.content = content
        published_at(files, monkeypatch)
        assert opened("near", []).architecture == TINY
    assert len(pins(cache)) == 1


def test_a_bad_file_in_the_cache_is_set_aside_and_its_digest_forgotten(
    cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a version left it that pinned before it read."""
    told: list[str] = []
    with serving(FileServer(content)) as files:
        entry = published_at(files, monkeypatch)
        entry.cached.parent.mkdir(parents=True)
        entry.cached.write_bytes(LOGIN)
        pin(weights_at(entry.cached))
        assert opened("near", told).architecture == TINY
    assert any("is a web page (HTML)" in note and f"it is now {entry.cached}.unreadable" in note for note in told)
    assert sorted(path.name for path in entry.cached.parent.glob("[!.]*")) == [
        "published.pkl",
        "published.pkl.unreadable",
    ]
    assert json.loads(pins(cache)[0].read_text())["sha256"] == weights_at(entry.cached).sha256


@pytest.mark.parametrize("fault", [FileNotFoundError, PermissionError])
def test_a_bad_file_that_cannot_be_set_aside(
    cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, fault: type[OSError]
) -> None:
    """Where another process did it first, the file is fetched; in a cache of others, what is wrong with it is said."""
    renaming = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if target.suffix == ".unreadable":
            path.unlink()
            raise fault(1, "no")
        return renaming(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with serving(FileServer(content)) as files:
        entry = published_at(files, monkeypatch)
        entry.cached.parent.mkdir(parents=True)
        entry.cached.write_bytes(LOGIN)
        if fault is FileNotFoundError:
            assert opened("near", []).architecture == TINY
        else:
            with pytest.raises(UserError, match=r"published.pkl .* web page"):
                opened("near", [])


def test_a_file_of_ones_own_that_cannot_be_read_stays_and_is_not_pinned(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(LOGIN)
    with pytest.raises(UserError, match=r"mine\.pth .* web page"):
        opened(str(path), [])
    write_zoo_file(path, random_state(shapes_of(TINY), seed=0))
    assert opened(str(path), []).weights == weights_at(path)
    assert len(pins(cache)) == 1


def test_offline_it_says_where_to_put_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PublishedWeights("config", "http://127.0.0.1:9/model_final.pkl")
    monkeypatch.setitem(ZOO, "far", entry)
    with pytest.raises(UserError) as caught:
        found("far")
    assert "config are not on this machine, and downloading them failed" in caught.value.problem
    assert "Connection refused" in caught.value.problem
    assert "Max retries" not in caught.value.problem
    assert "run the same command again" in caught.value.remedy
    assert f"{entry.url} elsewhere and put it at {cache / 'config' / 'model_final.pkl'}" in caught.value.remedy
    assert not list((cache / "config").glob("[!.]*"))


def test_a_file_that_changed_since_its_first_use_is_refused(tmp_path: Path, cache: Path) -> None:
    path = zoo_file(tmp_path / "mine.pkl")
    first = found(str(path))
    assert found(str(path)) == first
    zoo_file(path, 1)
    second = weights_at(path).sha256
    with pytest.raises(UserError) as caught:
        found(str(path))
    assert f"its SHA-256 is {second}, at its first use it was {first.sha256}" in caught.value.problem
    (record,) = pins(cache)
    assert str(record) in caught.value.remedy
    record.unlink()
    assert found(str(path)).sha256 == second


def test_a_broken_pin_and_an_unwritable_cache_are_told(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zoo_file(tmp_path / "mine.pkl")
    found(str(path))
    (record,) = (cache / "pins").glob("[!.]*")
    record.write_text("{")
    with pytest.raises(UserError, match=r"is no record of a digest(.|\n)*move it away"):
        found(str(path))
    monkeypatch.setenv("DENSEREID_CACHE", "/proc/nowhere")
    with pytest.raises(UserError, match="set DENSEREID_CACHE"):
        found(str(path))


def test_the_cache_is_in_the_home_folder_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DENSEREID_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "densereid"
