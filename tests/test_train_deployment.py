"""Networks that leave the project: each format run without it, equal bytes, and what the model card says."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import torch
from reference_train import TINY, MemoryStore, random_store
from safetensors import safe_open

from densereid.data_catalog.errors import UserError
from densereid.pipeline.cli.parameter_types import parse_formats
from densereid.train.config.train_config import load_config
from densereid.train.deployment import onnx_file
from densereid.train.deployment.formats import FORMATS, suffix_of, write_formats
from densereid.train.deployment.image_network import ImageNetwork, checked
from densereid.train.deployment.opening import open_network
from densereid.train.engine.checkpoint import Checkpoint, library_versions, save_checkpoint, store_fingerprint
from densereid.train.evaluation.evaluate import extract_embeddings
from densereid.train.evaluation.metrics import Scores
from densereid.train.families import build_network

HAS_ONNX = all(find_spec(name) for name in onnx_file.PACKAGES)
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the optional group onnx is not installed")
SCORES = Scores(0.5, 0.6, 0.7, 0.4, 0.3, 0.2, 9, 9, 30)


def _trained(name: str, **changes: object) -> tuple[torch.nn.Module, Checkpoint]:
    config = load_config(name, {**TINY, **changes})
    network = build_network(config, 6, seed=3).eval()
    checkpoint = Checkpoint(
        model=network.state_dict(), optimiser={}, epoch=2, step=8, best=0.4, scores=asdict(SCORES), scores_epoch=2,
        seed=3, random={}, config=config, num_identities=6, store=store_fingerprint(random_store()),
        versions=library_versions(),
    )  # fmt: skip
    return network, checkpoint


OUTSIDE = """
import sys
sys.modules["densereid"] = None  # an import of it would fail
import numpy, torch
from safetensors.torch import load_file
torch.set_num_threads(1)
images = [torch.from_numpy(numpy.load("images.npy")[:batch]) for batch in (1, 3)]
with torch.inference_mode():
    program = torch.export.load("net.pt2").module()
    exported = [program(image) for image in images]
    for values in program.state_dict().values():
        values.zero_()  # from now on the graph alone
    assert not torch.allclose(program(images[1]), exported[1], atol=1e-2)
    program.load_state_dict(load_file("net.safetensors"))
    filled = [program(image) for image in images]
found = {"torch-export": exported, "safetensors": filled}
if "onnx" in sys.argv:
    import onnxruntime
    session = onnxruntime.InferenceSession("net.onnx")
    found["onnx"] = [torch.from_numpy(session.run(None, {"image": image.numpy()})[0]) for image in images]
for name, embeddings in found.items():
    for embedding in embeddings:
        numpy.save(f"{name}-{len(embedding)}.npy", embedding.numpy())
"""


@pytest.fixture(scope="module", params=["dsa-reid-small", "magnifiernet-small"])
def outside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder with every format of a network, and with the embeddings that plain torch and onnxruntime make of them;
    the embeddings of `evaluate`."""
    folder = tmp_path_factory.mktemp("outside")
    network, checkpoint = _trained(request.param)
    store = random_images(7)
    np.save(folder / "images.npy", store.arrays["image"].transpose(0, 3, 1, 2))
    formats = [each for each in FORMATS if each != "onnx" or HAS_ONNX]
    write_formats(network, checkpoint, folder / "net", formats)
    words = ["onnx"] if HAS_ONNX else []
    subprocess.run([sys.executable, "-I", "-c", OUTSIDE, *words], cwd=folder, check=True, timeout=200)
    return folder, extract_embeddings(network, store, np.arange(3), config=checkpoint.config).numpy()


def random_images(seed: int) -> MemoryStore:
    store = random_store()
    shape = store.arrays["image"].shape
    store.arrays["image"] = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return store


@pytest.mark.parametrize("format", ["safetensors", "torch-export", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("batch", [1, 3])
def test_without_this_project_a_file_gives_the_embeddings_of_evaluate(
    outside: tuple[Path, np.ndarray], format: str, batch: int
) -> None:
    folder, expected = outside
    found = np.load(folder / f"{format}-{batch}.npy")
    assert found.shape == (batch, expected.shape[1])
    assert np.abs(found - expected[:batch]).max() <= 1e-4


def _metadata(path: Path) -> tuple[dict[str, Any], list[str]]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["model_card"]), list(file.keys())


def test_a_file_holds_what_inference_needs_and_nothing_else(outside: tuple[Path, np.ndarray]) -> None:
    folder, expected = outside
    card, names = _metadata(folder / "net.safetensors")
    assert not [name for name in names if "guide" in name or "classify" in name]
    assert any("mask_head" in name for name in names) == (card["family"] == "magnifiernet")
    torchs = set(torch.load(folder / "net.pt", weights_only=True)["weights"])
    own = {name.removeprefix("network.").replace("necks.global_branch", "necks.global") for name in names}
    assert own == {"mean", "deviation", *torchs}
    assert set(torch.export.load(folder / "net.pt2").module().state_dict()) == set(names)
    assert card["embedding_width"] == expected.shape[1]


@pytest.mark.parametrize(
    "format", [each if each != "onnx" else pytest.param(each, marks=needs_onnx) for each in FORMATS]
)
def test_every_format_is_opened_again_and_embeds_as_evaluate(outside: tuple[Path, np.ndarray], format: str) -> None:
    folder, expected = outside
    opened = open_network(folder / f"net{suffix_of(format)}")
    assert (opened.height, opened.width, opened.feature, opened.device) == (32, 32, "f", "cpu")
    images = torch.from_numpy(np.load(folder / "images.npy")[:3])
    with torch.inference_mode():
        np.testing.assert_allclose(opened.run(images), expected, atol=1e-5)
    assert opened.embedding_width == expected.shape[1]


def test_a_program_runs_on_another_device_than_it_was_exported_on(outside: tuple[Path, np.ndarray]) -> None:
    """The meta device computes shapes alone, and refuses tensors of the CPU like any other device."""
    opened = open_network(outside[0] / "net.pt2", device="meta")
    assert opened.embedding_width == outside[1].shape[1]
    assert opened.run(torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="meta")).device.type == "meta"


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=needs_onnx)])
def test_a_torn_export_is_named(outside: tuple[Path, np.ndarray], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"torn{suffix}"
    path.write_bytes((outside[0] / f"net{suffix}").read_bytes()[:999])
    with pytest.raises(
        UserError, match=rf"torn\{suffix} (cannot be (read|used)|is damaged)[^\n]*\nExport the run again"
    ):
        open_network(path)


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (io.open, ("harm", "w"))


def test_a_program_runs_no_pickled_code_when_it_is_opened(
    outside: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.export.load alone would run it: it unpickles an archive's sample inputs."""
    monkeypatch.chdir(tmp_path)
    pickled = io.BytesIO()
    torch.save(_Harm(), pickled, pickle_module=pickle)
    with zipfile.ZipFile(outside[0] / "net.pt2") as original, zipfile.ZipFile("bad.pt2", "w") as changed:
        for name in original.namelist():
            content = pickled.getvalue() if name.endswith("sample_inputs/model.pt") else original.read(name)
            changed.writestr(f"bad/{name.partition('/')[2]}", content)
    with pytest.raises(UserError, match=r"bad\.pt2 cannot be used"):
        open_network(Path("bad.pt2"))
    assert not Path("harm").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_missing_onnxruntime_is_named_when_onnx_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(onnx_file, "import_module", absent)
    (tmp_path / "net.onnx").touch()
    with pytest.raises(UserError, match=r"net\.onnx needs onnxruntime, .*: No module named 'onnxruntime'\nInstall it"):
        open_network(tmp_path / "net.onnx")


def test_the_card_is_in_every_file_and_beside_them(outside: tuple[Path, np.ndarray]) -> None:
    folder, _ = outside
    card, _ = _metadata(folder / "net.safetensors")
    extra = {"model_card.json": ""}
    torch.export.load(folder / "net.pt2", extra_files=extra)
    assert json.loads(extra["model_card.json"]) == card
    assert card["scores"] == asdict(SCORES)
    assert card["input"]["mean"] == [123.675, 116.28, 103.53]
    page = (folder / "net.md").read_text()
    for words in (
        f"# {card['name']}", "**Trained on** memory: 6 identities, 2 epochs, seed 3", "uint8 (batch, 3, 32, 32), RGB",
        "Rank-1 50.0%, Rank-5 60.0%, mAP 40.0%", "academic research alone", 'InferenceSession("net.onnx")',
        f"float32 (batch, {card['embedding_width']})", "height: 32",
    ):  # fmt: skip
        assert words in page
    if HAS_ONNX:
        import onnxruntime

        metadata = onnxruntime.InferenceSession(folder / "net.onnx").get_modelmeta().custom_metadata_map
        assert json.loads(metadata["model_card"]) == card


def test_scores_of_another_feature_or_epoch_are_not_in_a_card(tmp_path: Path) -> None:
    network, checkpoint = _trained("dsa-reid-small", **{"evaluate.feature": "z"})
    write_formats(network, checkpoint, tmp_path / "z.safetensors", ["safetensors"])
    card, _ = _metadata(tmp_path / "z.safetensors")
    assert (card["feature"], card["scores"]) == ("f", {})
    assert "were not measured for these weights and this feature" in (tmp_path / "z.md").read_text()
    network, checkpoint = _trained("dsa-reid-small")
    write_formats(network, replace(checkpoint, epoch=3), tmp_path / "new.safetensors", ["safetensors"])
    assert _metadata(tmp_path / "new.safetensors")[0]["scores"] == {}


@pytest.mark.parametrize("outside", ["dsa-reid-small"], indirect=True)
@pytest.mark.parametrize("format", ["safetensors", "torch-export", pytest.param("onnx", marks=needs_onnx)])
def test_equal_weights_give_equal_bytes_without_paths_of_this_machine(
    outside: tuple[Path, np.ndarray], tmp_path: Path, format: str
) -> None:
    first = (outside[0] / f"net{suffix_of(format)}").read_bytes()
    network, checkpoint = _trained("dsa-reid-small")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    (file, _) = write_formats(network, checkpoint, tmp_path / "again.x", [format])
    assert first == file.path.read_bytes()
    assert str(helpers.ROOT).encode() not in first
    assert b"image_network.py" not in first


FACILITATED = {"magnifier.facilitator": "on", "magnifier.attribute_groups": "ghul"}
LSTM = {"magnifier.fusion": "lstm", "magnifier.mask_resize": "nearest", **FACILITATED}
AB = {"magnifier.fusion": "ab", "magnifier.test_masks": "hard", "magnifier.mask_resize": "area"}


@pytest.mark.parametrize(
    ("name", "format", "changes"),
    [
        ("dsa-reid-small", "torch-export", {"evaluate.feature": "f_local"}),
        pytest.param("magnifiernet-small", "onnx", LSTM, marks=needs_onnx),  # of which ONNX has a layer of its own
        ("magnifiernet-small", "torch-export", AB),
    ],
)
def test_every_kind_of_network_has_a_graph(tmp_path: Path, name: str, format: str, changes: dict[str, object]) -> None:
    network, checkpoint = _trained(name, **changes)
    file, _ = write_formats(network, checkpoint, tmp_path / "net", [format])
    assert file.difference is not None
    assert file.difference < 1e-5


def test_a_graph_with_other_embeddings_is_not_written() -> None:
    network = ImageNetwork(torch.nn.Flatten(), height=2, width=2)
    assert checked(network, network, "ONNX") == 0
    for wrong in (1e-3, torch.nan):
        with pytest.raises(UserError, match=r"ONNX of this network does not give .*: they differ by .*nothing was w"):
            checked(lambda image, wrong=wrong: network(image) + wrong, network, "ONNX")  # type: ignore[misc]


def test_packages_that_are_not_installed_are_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        if name != "onnxscript":
            raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(onnx_file, "import_module", absent)
    network, checkpoint = _trained("dsa-reid-small")
    words = r"FORMAT=onnx needs packages .*: onnx \(No module.*, onnxruntime \(.*\n.*pip install 'densereid\[onnx\]'"
    with pytest.raises(UserError, match=words):
        write_formats(network, checkpoint, tmp_path / "net", ["torch", "onnx"])
    assert list(tmp_path.iterdir()) == []


def test_formats_are_chosen_on_the_command_line(tmp_path: Path) -> None:
    _, checkpoint = _trained("dsa-reid-small")
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    done = helpers.run("export", tmp_path, FORMAT="torch,safetensors,torch")
    names = ["dsa-reid-small.export.pt", "dsa-reid-small.export.safetensors", "dsa-reid-small.export.md"]
    assert done.stdout.split() == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "last.pt"])
    assert "its scores are those of f: mAP 40.0%" in done.stderr
    assert f"model card: {tmp_path / names[2]}" in done.stderr
    done = helpers.run("export", tmp_path, "--format", "torch-export", "--to", tmp_path / "to" / "net.bin")
    assert "gives the network's embeddings to " in done.stderr
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["net.bin", "net.bin.md"]
    done = helpers.run("export", tmp_path, "--format", "safetensors", "--to", tmp_path / "last.pt" / "x")
    helpers.failed(done, "exported network", "could not be written: ", "Free some space, or choose another file.")


def test_a_format_that_is_none_is_named() -> None:
    assert parse_formats("onnx, torch") == ("onnx", "torch")
    with pytest.raises(UserError, match=r"FORMAT is 'torch,safetensor'\ndid you mean safetensors\? expected one or mo"):
        parse_formats("torch,safetensor")
    with pytest.raises(UserError, match=r"FORMAT is ''\nexpected one or more of torch, safetensors, onnx, torch-exp"):
        parse_formats("")
