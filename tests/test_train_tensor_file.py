"""Checkpoints and exports: no flipped bit, missing end or other dictionary is read as if nothing had happened."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_train import TINY, random_store

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import load_config
from densereid.train.data.randomness import random_states
from densereid.train.engine.checkpoint import (
    Checkpoint,
    library_versions,
    load_checkpoint,
    save_checkpoint,
    store_fingerprint,
)
from densereid.train.engine.export import export_network, load_exported
from densereid.train.engine.resume import start_from
from densereid.train.families import build_network
from densereid.train.networks.tensor_file import load_tensor_file, save_tensor_file

FLIPS = 200


def _checkpoint(network: torch.nn.Module) -> Checkpoint:
    optimiser = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    return Checkpoint(
        model=network.state_dict(), optimiser=optimiser.state_dict(), epoch=2, step=8, best=0.5, scores={}, seed=3,
        scores_epoch=-1, random=random_states(), config=load_config("dsa-reid-small", TINY),
        num_identities=6, store=store_fingerprint(random_store()), versions=library_versions(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return _checkpoint(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3)))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_network(load_config("dsa-reid-small", TINY), 6, seed=3).eval()


def _same(first: Any, second: Any) -> bool:
    """Bit for bit, with types, shapes and strides."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.stride() == second.stride() and torch.equal(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and list(first) == list(second) and all(
            _same(first[key], second[key]) for key in first
        )  # fmt: skip
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(_same, first, second))
    return type(first) is type(second) and first == second


def _read_checkpoint(path: Path) -> dict[str, Any]:
    return vars(load_checkpoint(path))


def _read_export(path: Path) -> dict[str, Any]:
    return dict(load_exported(path)[0].state_dict())


def _flip_bits(path: Path, read: Callable[[Path], dict[str, Any]], seed: int, flips: int) -> int:
    """How many of the flips, of one bit each, were refused; the others must not have changed what is read."""
    whole, expected = path.read_bytes(), read(path)
    random, refused = np.random.default_rng(seed), 0
    for bit in random.integers(0, 8 * len(whole), flips):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            assert _same(read(path), expected), f"bit {bit} was read silently"
        except UserError as error:
            refused += str(path) in error.problem
    path.write_bytes(whole)
    return refused


def test_a_flipped_bit_of_a_checkpoint_is_refused_or_changes_nothing(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """Half a file as small as this is names, padding and the archive's own lists, where most bits mean nothing."""
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    assert _flip_bits(tmp_path / "last.pt", _read_checkpoint, 0, FLIPS) > FLIPS // 4


def test_a_flipped_bit_of_an_export_is_refused_or_changes_nothing(
    tmp_path: Path, network: torch.nn.Module, checkpoint: Checkpoint
) -> None:
    path = tmp_path / "net.pt"
    export_network(network, checkpoint, path)
    values = torch.load(path, weights_only=True)
    assert _flip_bits(path, _read_export, 1, FLIPS // 20) > FLIPS // 40  # each builds the network
    tiny = {key: value for key, value in values.items() if key != "checksums"}
    tiny["weights"] = {name: values["weights"][name] for name in list(values["weights"])[-3:]}
    save_tensor_file(path, tiny, what="", remedy="")

    def refused_in_the_end(path: Path) -> dict[str, Any]:
        with pytest.raises(UserError) as error:
            load_exported(path)
        if "do not belong together" not in error.value.problem:
            raise error.value
        return {}

    assert _flip_bits(path, refused_in_the_end, 2, FLIPS) > FLIPS // 4


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_a_file_without_its_end_is_refused_by_name(
    tmp_path: Path, network: torch.nn.Module, checkpoint: Checkpoint, kept: float
) -> None:
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    export_network(network, checkpoint, tmp_path / "net.pt")
    for name, read in (("last.pt", _read_checkpoint), ("net.pt", _read_export)):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
        with pytest.raises(UserError, match=rf"{name} cannot be read: "):
            read(path)
        assert path.is_file()


def _mutations(values: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    mutated: list[tuple[str, dict[str, Any]]] = [("nothing", {}), ("another", {**values, "another": 1})]
    for key in values:
        others = {name: value for name, value in values.items() if name != key}
        mutated += [(f"no {key}", others), (f"renamed {key}", {**others, f"{key}_": values[key]})]
        mutated += [(f"{key} is {odd!r}", {**others, key: odd}) for odd in (None, -1, 1.5, "odd", [], {"odd": 1})]
    return mutated


@pytest.mark.parametrize("version", [1, 2])
def test_another_dictionary_is_refused_by_name(tmp_path: Path, checkpoint: Checkpoint, version: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint)
    values = torch.load(path, weights_only=True)
    if version == 1:
        del values["checksums"]
        values["checkpoint_version"] = 1
    for what, mutated in _mutations(values):
        torch.save(mutated, path)
        if version == 1 and what in (
            "best is -1",
            "best is 1.5",
            "seed is -1",
            "optimiser is {'odd': 1}",
            "random is {'odd': 1}",
            "scores is {'odd': 1}",
            "scores_epoch is -1",
        ):
            continue  # such a file may have been written; what uses it looks at it
        with pytest.raises(UserError) as error:
            load_checkpoint(path)
        assert str(path) in error.value.problem, what


def test_a_weight_that_was_changed_and_saved_again_is_refused(
    tmp_path: Path, network: torch.nn.Module, checkpoint: Checkpoint
) -> None:
    """The archive's own checksums are right then."""
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    values = torch.load(tmp_path / "last.pt", weights_only=True)
    values["model"]["0.weight"][0, 0, 0, 0] *= 2
    torch.save(values, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt is damaged: the numbers in its tensors are not those that were"):
        start_from(network, tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt", tensors=False).epoch == 2


def test_a_file_without_checksums_is_read_and_its_archive_looked_at(
    tmp_path: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint)
    values = {**torch.load(path, weights_only=True), "checkpoint_version": 1}
    del values["checksums"]
    torch.save(values, path)
    with caplog.at_level(logging.INFO):
        assert _same(load_checkpoint(path).model, dict(checkpoint.model))
    assert "last.pt has checkpoint version 1, without checksums: not all damage" in caplog.text
    content = bytearray(path.read_bytes())
    weight = checkpoint.model["0.weight"].numpy().tobytes()
    content[content.index(weight) + 3] ^= 64
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt is damaged: its part archive|last/data/\d+ is not what was written"):
        load_checkpoint(path)


def test_equal_exports_have_equal_bytes(tmp_path: Path, network: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Whatever the file is called, however the weights lie in memory, and whether they were loaded or are in use."""
    export_network(network, checkpoint, tmp_path / "one.pt")
    other = deepcopy(network).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    export_network(other, load_checkpoint(tmp_path / "last.pt"), tmp_path / "another.export.pt")
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "another.export.pt").read_bytes()


def test_the_system_is_quoted_where_it_refuses_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch says "enforce fail" and a line of its source."""
    values = {"weight": torch.zeros(2**16)}
    monkeypatch.setattr("densereid.train.networks.tensor_file.replacing", _onto_a_full_disk)
    with pytest.raises(UserError, match=r"thing /dev/full could not be written: .*No space left on device\nmore room"):
        save_tensor_file(Path("/dev/full"), values, what="thing", remedy="more room")


class _onto_a_full_disk:  # noqa: N801 - in the place of a function
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        pass


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "a.pt").touch()
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(UserError, match=r"thing .*a\.pt cannot be read: .*Permission denied\nThe system does not let"):
        load_tensor_file(tmp_path / "a.pt", what="thing", remedy="remove it")
