from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
    load_weights,
    save_checkpoint,
    store_fingerprint,
)


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
        scores={"rank_1": 0.4},
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
