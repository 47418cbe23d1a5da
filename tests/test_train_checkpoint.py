from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_train import random_store

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import load_config
from densereid.train.data.randomness import (
    derive_seed,
    generator,
    random_states,
    restore_random_states,
    seed_everything,
)
from densereid.train.engine import checkpoint as checkpoint_module
from densereid.train.engine.checkpoint import (
    Checkpoint,
    library_versions,
    load_checkpoint,
    load_trained_network,
    load_weights,
    save_checkpoint,
    store_fingerprint,
)
from densereid.train.engine.resume import resume_run
from densereid.train.evaluation.metrics import Scores
from densereid.train.networks.tensor_file import CHECKSUMS, save_tensor_file


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Checkpoint]:
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    checkpoint = Checkpoint(
        model=network.state_dict(),
        optimiser=optimiser.state_dict(),
        epoch=3,
        step=30,
        best=0.5,
        scores=asdict(Scores(0.4, 0.5, 0.6, 0.3, 0.3, 0.1, 4, 4, 9)),
        scores_epoch=3,
        seed=1,
        random=random_states(),
        config=load_config("dsa-reid-small"),
        num_identities=9,
        store=store_fingerprint(random_store()),
        versions=library_versions(),
    )
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint)
    return path, checkpoint


def test_round_trip(saved: tuple[Path, Checkpoint]) -> None:
    path, checkpoint = saved
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.model["weight"], checkpoint.model["weight"])
    assert torch.equal(loaded.optimiser["state"][0]["exp_avg"], checkpoint.optimiser["state"][0]["exp_avg"])
    assert torch.equal(loaded.random["torch"], checkpoint.random["torch"])
    for name in ("epoch", "step", "best", "scores", "seed", "config", "num_identities", "store", "versions"):
        assert getattr(loaded, name) == getattr(checkpoint, name), name
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_missing_damaged_and_foreign_files(saved: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    path, _ = saved
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(tmp_path / "none.pt")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"last\.pt cannot be read: .*\nBring a copy of it back"):
        load_checkpoint(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_checkpoint(path)


def test_other_versions_are_refused(saved: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    path, checkpoint = saved
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_VERSION", 1)
    with pytest.raises(UserError, match=r"has version 2, .* this code reads 1"):
        load_checkpoint(path)
    monkeypatch.undo()
    save_checkpoint(path, replace(checkpoint, versions={"config": "0"}))
    with pytest.raises(UserError, match="config version 0"):
        load_checkpoint(path)


def test_another_architecture_is_refused(saved: tuple[Path, Checkpoint]) -> None:
    path, _ = saved
    with pytest.raises(UserError, match=r"another architecture: size mismatch for weight"):
        load_weights(torch.nn.Linear(4, 2), load_checkpoint(path), path)


def test_a_full_disk_keeps_the_old_checkpoint(saved: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    path, checkpoint = saved
    before = path.read_bytes()

    def full(values: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.torch, "save", full)
    with pytest.raises(UserError, match=r"could not be written: .*No space left"):
        save_checkpoint(path, replace(checkpoint, epoch=4))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


_ODD = (None, -1, "x", [], {}, [1, 2], {"a": 1}, 10**30, torch.zeros(2), True, b"x", {1: 2})


def _places(values: object, above: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    for key in values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ():
        yield (*above, key)
        yield from _places(values[key], (*above, key))  # type: ignore[index]


def test_whatever_an_inner_value_is_the_checkpoint_is_used_or_refused_in_words(
    saved: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd values with right checksums, as a tool that edits checkpoints writes them."""
    path, checkpoint = saved
    monkeypatch.setattr(checkpoint_module, "build_empty_network", lambda *_: torch.nn.Linear(3, 2))
    written, drawn, refused = torch.load(path, weights_only=True), np.random.default_rng(0), 0
    del written[CHECKSUMS]
    places = [place for place in _places(written) if place[0] != "config" or len(place) == 2]
    for place in places:
        values = copy.deepcopy(written)
        owner = values
        for key in place[:-1]:
            owner = owner[key]
        odd = _ODD[drawn.integers(len(_ODD))]
        if drawn.random() < 0.25:
            del owner[place[-1]]
        elif drawn.random() < 0.25 and isinstance(owner, dict):
            owner["extra"] = odd
        else:
            owner[place[-1]] = odd
        save_tensor_file(path, values, what="checkpoint", remedy="")
        network = torch.nn.Linear(3, 2)
        optimiser = torch.optim.Adam(network.parameters())
        given = {"epochs": 9, "store": checkpoint.store, "num_identities": 9}
        for use in (partial(load_trained_network, path), partial(resume_run, path, network, optimiser, **given)):
            try:
                use()
            except UserError as error:
                refused += bool(error.problem)
        if optimiser.state:
            network(torch.ones(1, 3)).sum().backward()
            optimiser.step()
    assert refused > len(places) / 2


def test_the_store_digest_follows_identities_not_the_path() -> None:
    first, second = random_store(), random_store()
    second.path = Path("elsewhere.hdf5")
    assert store_fingerprint(first)["digest"] == store_fingerprint(second)["digest"]
    second.arrays["person_id"][0] = 77
    assert store_fingerprint(first)["digest"] != store_fingerprint(second)["digest"]


def test_seeds_depend_on_their_purpose_and_states_come_back() -> None:
    seeds = {derive_seed(*numbers) for numbers in [(0,), (0, 0), (0, 1), (1, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(seeds) == 6
    assert torch.equal(torch.rand(3, generator=generator(1, 2)), torch.rand(3, generator=generator(1, 2)))
    seed_everything(4)
    states = random_states()
    drawn = torch.rand(3)
    restore_random_states(states)
    assert torch.equal(torch.rand(3), drawn)
