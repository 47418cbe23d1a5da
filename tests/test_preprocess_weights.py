"""Weights: found by name, by path or in the cache, downloaded whole, pinned by their digest."""

from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from densereid.data_catalog.errors import UserError
from densereid.preprocess.densepose.checkpoints import read_checkpoint
from densereid.preprocess.densepose.weights import (
    ZOO,
    PublishedWeights,
    Weights,
    cache_folder,
    file_digest,
    find_weights,
    pin,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DENSEREID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(text: str) -> None:
    del text


def zoo_file(path: Path, size: int = 3) -> Path:
    path.write_bytes(pickle.dumps({"model": {"a": np.zeros(size)}, "__author__": "nobody"}))
    return path


def test_names_paths_and_mistakes(tmp_path: Path) -> None:
    path = zoo_file(tmp_path / "mine.pkl")
    assert find_weights(str(path), silent) == Weights(path, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"WEIGHTS=nowhere\.pkl is not a file"):
        find_weights("nowhere.pkl", silent)
    with pytest.raises(UserError, match=r"neither a file nor a published name; did you mean R_50_FPN_s1x"):
        find_weights("R50_FPN_s1x", silent)
    for name, entry in ZOO.items():
        assert entry.config == f"densepose_rcnn_{name}"
        assert entry.url.startswith(f"https://dl.fbaipublicfiles.com/densepose/densepose_rcnn_{name}/")
        assert entry.sha256 is None  # none is published; never invent one


def test_published_weights_are_taken_from_the_cache(cache: Path) -> None:
    entry = ZOO["R_50_FPN_s1x"]
    assert entry.cached == cache / "densepose_rcnn_R_50_FPN_s1x" / "model_final_162be9.pkl"
    entry.cached.parent.mkdir(parents=True)
    zoo_file(entry.cached)
    for name in ("R_50_FPN_s1x", "densepose_rcnn_R_50_FPN_s1x"):
        assert find_weights(name, silent).path == entry.cached


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server that has ``published.pkl``.

    Of ``broken.pkl`` it sends 4 of 1000 bytes; of ``endless.pkl`` too, and then nothing for as long as it runs.
    """
    content = zoo_file(tmp_path / "published.pkl").read_bytes()
    stopped = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whole = self.path == "/published.pkl"
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)) if whole else "1000")
            self.end_headers()
            self.wfile.write(content if whole else b"half")
            if self.path == "/endless.pkl":
                stopped.wait()

        def log_message(self, *arguments: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_names_the_licence_first_and_arrives_whole(
    tmp_path: Path, cache: Path, served: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"{served}/published.pkl"
    monkeypatch.setitem(ZOO, "near", PublishedWeights("config", url))
    told: list[str] = []
    found = find_weights("near", told.append)
    assert found == Weights(cache / "config" / "published.pkl", file_digest(tmp_path / "published.pkl"))
    assert len(told) == 1
    assert "CC BY-SA 3.0" in told[0]
    assert url in told[0]
    find_weights("near", told.append)
    assert len(told) == 1
    assert [path.name for path in (cache / "config").iterdir()] == ["published.pkl"]
    assert capfd.readouterr() == ("", "")


def test_a_download_shows_a_bar_on_a_terminal(
    served: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ZOO, "near", PublishedWeights("config", f"{served}/published.pkl"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    find_weights("near", silent)
    assert "100%" in capsys.readouterr().err


def test_offline_it_says_where_to_put_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PublishedWeights("config", "http://127.0.0.1:9/model_final.pkl")
    monkeypatch.setitem(ZOO, "far", entry)
    with pytest.raises(UserError) as caught:
        find_weights("far", silent)
    assert "config are not on this machine, and downloading them failed" in caught.value.problem
    assert "Connection refused" in caught.value.problem
    assert "Max retries" not in caught.value.problem
    assert f"get {entry.url} elsewhere and put it at {cache / 'config' / 'model_final.pkl'}" in caught.value.remedy
    assert not list((cache / "config").iterdir())


def test_a_download_that_breaks_off_leaves_nothing(cache: Path, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOO, "far", PublishedWeights("config", f"{served}/broken.pkl"))
    with pytest.raises(UserError, match="4 bytes read, 996 more expected"):
        find_weights("far", silent)
    assert not list((cache / "config").iterdir())


def test_a_download_of_another_digest_than_published_leaves_nothing(
    cache: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ZOO, "wrong", PublishedWeights("config", f"{served}/published.pkl", "0" * 64))
    with pytest.raises(UserError, match="does not match the known hash: expected 0000"):
        find_weights("wrong", silent)
    assert not list((cache / "config").iterdir())


def test_what_a_killed_download_left_goes_a_day_later(
    cache: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once: it could be that of another process, still at work."""
    code = (
        "from densereid.preprocess.densepose import weights\n"
        f"weights.ZOO['far'] = weights.PublishedWeights('config', '{served}/endless.pkl')\n"
        "weights.find_weights('far', print)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while not list((cache / "config").glob(".*/*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    (left,) = (cache / "config").iterdir()
    entry = PublishedWeights("config", f"{served}/published.pkl")
    monkeypatch.setitem(ZOO, "near", entry)
    find_weights("near", silent)
    assert left.is_dir()
    entry.cached.unlink()
    os.utime(left, (0, time.time() - 25 * 3600))
    find_weights("near", silent)
    assert list((cache / "config").iterdir()) == [entry.cached]


def test_a_file_that_changed_since_its_first_use_is_refused(tmp_path: Path, cache: Path) -> None:
    path = zoo_file(tmp_path / "mine.pkl")
    first = find_weights(str(path), silent)
    assert find_weights(str(path), silent) == first
    zoo_file(path, 1)
    second = file_digest(path)
    with pytest.raises(UserError) as caught:
        find_weights(str(path), silent)
    assert f"its SHA-256 is {second}, at its first use it was {first.sha256}" in caught.value.problem
    with pytest.raises(UserError, match="changed while it was in use"):
        read_checkpoint(first)
    (record,) = (cache / "pins").iterdir()
    assert str(record) in caught.value.remedy
    record.unlink()
    assert find_weights(str(path), silent).sha256 == second


def test_a_published_digest_would_be_held_against_the_file(tmp_path: Path) -> None:
    path = zoo_file(tmp_path / "mine.pkl")
    assert pin(path, published=file_digest(path)).path == path
    with pytest.raises(UserError, match="is not the published file"):
        pin(path, published="0" * 64)


def test_a_broken_pin_and_an_unwritable_cache_are_told(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zoo_file(tmp_path / "mine.pkl")
    find_weights(str(path), silent)
    (record,) = (cache / "pins").iterdir()
    record.write_text("{")
    with pytest.raises(UserError, match=r"is no record of a digest(.|\n)*delete it"):
        find_weights(str(path), silent)
    monkeypatch.setenv("DENSEREID_CACHE", "/proc/nowhere")
    with pytest.raises(UserError, match="set DENSEREID_CACHE"):
        find_weights(str(path), silent)


def test_the_cache_is_in_the_home_folder_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DENSEREID_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "densereid"
