"""Pickles and files of torch.save that would fill the memory or end the process: named before they are read."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from densepose_samples import weights_at

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.pickle_limits import check_pickle, check_torch_file
from densereid.preprocess.densepose.checkpoints import read_checkpoint
from densereid.preprocess.estimators.dump_file import read_dump
from densereid.train.networks.tensor_file import load_tensor_file
from densereid.train.networks.trunks.weights_file import read_state

MEMO = b"\x80\x02]r" + (2**31 - 1).to_bytes(4, "little") + b"."
DEEP_KEY = b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s."
DEEP_LISTS = b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."
HOSTILE = {
    "its memo has the index 2147483647 after 2 steps": MEMO,
    "it nests more than 200 containers": DEEP_KEY,
    "it nests more than 200 containers ": DEEP_LISTS,
    "it claims a frame of 1099511627776 bytes, in a file of 12": b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b".",
    "it claims more bytes than fit into the memory|its end is missing": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"),
}


@pytest.mark.parametrize(("words", "content"), HOSTILE.items())
def test_a_checkpoint_and_a_dump_that_ask_for_too_much_are_named(tmp_path: Path, words: str, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    pattern = rf"a\.pkl \({len(content)} bytes\) cannot be read as a .*: ({words.strip()})"
    with pytest.raises(UserError, match=pattern):
        read_checkpoint(weights_at(tmp_path / "a.pkl"))
    with pytest.raises(UserError, match=pattern):
        read_dump(tmp_path / "a.pkl")


def archive(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("a/data.pkl", content)
        file.writestr("a/version", "3\n")


def refused_everywhere(path: Path, words: str) -> None:
    """As weights of DensePose, a run's checkpoint and a trunk."""
    with pytest.raises(UserError, match=rf"{path.name}.*: {words}"):
        read_checkpoint(weights_at(path))
    with pytest.raises(UserError, match=rf"{path.name} cannot be read: {words}"):
        load_tensor_file(path, what="checkpoint", remedy="")
    with pytest.raises(UserError, match=rf"{path.name} cannot be read: {words}"):
        read_state(path)


def test_a_torch_file_is_looked_at_in_the_same_way(tmp_path: Path) -> None:
    """Without that, torch would end the process on the second: Python compares keys by their hash, and recursively."""
    for words, content in list(HOSTILE.items())[:2]:
        archive(tmp_path / "a.pth", content)
        refused_everywhere(tmp_path / "a.pth", words)
    torch.save({"a": torch.ones(1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    head, _, _ = (tmp_path / "old.pth").read_bytes().partition(b"}q\x00X\x01\0\0\0a")
    (tmp_path / "old.pth").write_bytes(head + DEEP_KEY)
    refused_everywhere(tmp_path / "old.pth", "it nests more than 200 containers")


def test_an_archive_that_grows_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "a.pth", bytes(10**7), zipfile.ZIP_DEFLATED)
    refused_everywhere(tmp_path / "a.pth", "its parts are compressed, which torch.save never does")
    archive(tmp_path / "a.pth", pickle.dumps({}))
    content = bytearray((tmp_path / "a.pth").read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = (2**31).to_bytes(4, "little")
    (tmp_path / "a.pth").write_bytes(content)
    refused_everywhere(tmp_path / "a.pth", r"its parts claim to have 214748365\d bytes, in a file of \d+")


def nested(depth: int) -> Any:
    value: Any = ()
    for step in range(depth):
        value = (value, [step]) if step % 2 else {"a": value, "b": (value, value)}
    return value


ORDINARY = (
    {"model": {f"layer{i}": np.zeros(2) for i in range(300)}, "iteration": 5, "names": {"a", "b"}},
    [{"file_name": f"{i}.jpg", "results": [(1, 2), None, (i, "x")], "shared": "x" * 300} for i in range(500)],
    collections.OrderedDict((str(i), [i, i * 1.5, 2**70, b"x", frozenset((i, "y"))]) for i in range(300)),
    nested(40),
    list(range(5000)),
)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_written_in_the_ordinary_way_passes(protocol: int) -> None:
    for content in ORDINARY:
        file = io.BytesIO(pickle.dumps(content, protocol))
        check_pickle(file)
        assert file.read() == b""


def test_files_of_torch_pass_and_are_left_at_their_beginning() -> None:
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(100)))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2)).sum().backward()
    optimizer.step()
    for zipped in (True, False):
        file = io.BytesIO()
        content = {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        check_torch_file(file)
        assert file.tell() == 0
