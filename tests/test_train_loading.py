from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from reference_train import random_store

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import open_store
from densereid.train.data import loading as feeding
from densereid.train.data.batch import Batch
from densereid.train.data.dataset import StoreDataset
from densereid.train.data.loading import choose_feed, decode_rows, decoded_bytes, free_memory, make_feeder
from densereid.train.data.sampler import PKSampler
from densereid.train.engine.memory import peak_memory

CPU = torch.device("cpu")
EVERYTHING = ("image", "dsap", "dsap_valid", "mask")
MODES = (("disk", 0), ("disk", 1), ("memory", 0), ("memory", 1), ("device", 0))


def _batches(dataset: StoreDataset, mode: str, workers: int) -> list[Batch]:
    """Two epochs."""
    sampler = PKSampler(dataset.labels, identities=2, images=3, seed=4)
    feeder = make_feeder(mode, dataset, sampler, device=CPU, workers=workers, seed=4)
    batches = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        one_epoch = list(feeder)
        assert len(one_epoch) == len(feeder) == len(sampler)
        batches += one_epoch
    return batches


def _assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second) > 0
    for left, right in zip(first, second, strict=True):
        for item in fields(Batch):
            a, b = getattr(left, item.name), getattr(right, item.name)
            if a is None:
                assert b is None, item.name
                continue
            assert torch.equal(a, b), item.name
            # The same strides too: another memory format is another order of additions in a convolution.
            assert a.stride() == b.stride(), item.name


def test_all_feeding_modes_give_the_same_batches_in_the_same_order() -> None:
    dataset = StoreDataset(random_store(height=64), Split.TRAIN, needs=EVERYTHING, height=64, width=32)
    expected = _batches(dataset, *MODES[0])
    for mode, workers in MODES[1:]:
        _assert_same(_batches(dataset, mode, workers), expected)


@pytest.mark.parametrize("needs", [("image",), ("image", "crops"), EVERYTHING])
@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_feeding_modes_agree_on_a_real_store_and_another_size(
    stores: dict[str, Path], format: str, needs: tuple[str, ...]
) -> None:
    dataset = StoreDataset(open_store(stores[format]), Split.TRAIN, needs=needs, height=48, width=32)
    expected = _batches(dataset, "disk", 0)
    for mode in ("memory", "device"):
        _assert_same(_batches(dataset, mode, 0), expected)


def test_decoded_images_are_the_whole_split_once() -> None:
    dataset = StoreDataset(random_store(), Split.TRAIN, needs=EVERYTHING, height=32, width=32)
    whole = decode_rows(dataset, CPU)
    assert whole.row.tolist() == dataset.rows.tolist()
    assert whole.image.is_contiguous(memory_format=torch.channels_last)
    held = sum(value.nbytes for value in vars(whole).values())
    assert decoded_bytes(dataset) == held


@pytest.mark.parametrize(
    ("device", "gpu_free", "ram_free", "mode", "reason"),
    [
        ("cuda:0", 10_000, 10_000, "device", r"are free on cuda:0"),
        ("cuda:0", 1, 10_000, "memory", r"too much for the .* free on cuda:0, .* of RAM are free"),
        ("cpu", 0, 10_000, "memory", r"24 decoded images take .* kB, .* of RAM are free"),
        ("cpu", 0, 1, "disk", r"too much for .* of free RAM"),
    ],
)
def test_auto_takes_what_fits_and_says_why(
    monkeypatch: pytest.MonkeyPatch, device: str, gpu_free: int, ram_free: int, mode: str, reason: str
) -> None:
    dataset = StoreDataset(random_store(), Split.TRAIN, needs=EVERYTHING, height=32, width=32)
    size = decoded_bytes(dataset)
    free = {"cuda": gpu_free * size, "cpu": ram_free * size}
    monkeypatch.setattr(feeding, "free_memory", lambda device: free[device.type])
    chosen = choose_feed("auto", dataset, torch.device(device))
    assert chosen.mode == mode
    assert re.search(reason, chosen.reason)
    assert choose_feed("disk", dataset, CPU).reason == "asked for"
    with pytest.raises(UserError, match=r"FEED is 'tape'\nexpected auto, disk, memory, device"):
        choose_feed("tape", dataset, CPU)


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = StoreDataset(random_store(), Split.TRAIN, needs=EVERYTHING, height=32, width=32)
    monkeypatch.setattr(feeding, "free_memory", lambda device: 3 * decoded_bytes(dataset))
    assert choose_feed("auto", dataset, CPU).mode == "memory"
    assert choose_feed("auto", dataset, CPU, processes=2).mode == "disk"


def test_memory_of_this_machine_is_known() -> None:
    assert free_memory(CPU) > 1e6
    assert peak_memory(CPU) > 1e7


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("mode", "workers"), MODES)
def test_every_feeding_mode_gives_a_gpu_the_batches_of_the_cpu(mode: str, workers: int) -> None:
    dataset = StoreDataset(random_store(), Split.TRAIN, needs=EVERYTHING, height=32, width=32)
    sampler = PKSampler(dataset.labels, identities=2, images=3, seed=4)
    feeder = make_feeder(mode, dataset, sampler, device=torch.device("cuda:0"), workers=workers, seed=4)
    found = [batch.to("cuda:0").to("cpu") for batch in feeder]
    torch.cuda.synchronize()  # copies to the host do not wait either
    _assert_same(found, _batches(dataset, "disk", 0)[: len(sampler)])
