"""Weights of a trunk from files as people have them: bare, wrapped, renamed, of another width, of something else."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

from densereid.data_catalog.errors import UserError
from densereid.train.networks.backbone import build_backbone
from densereid.train.networks.trunks.weights_file import named_weights

SIZE = (64, 32)
State = dict[str, Tensor]


def _state(name: str, **options: object) -> State:
    torch.manual_seed(7)
    state: State = timm.create_model(name, num_classes=3, **options).state_dict()
    return {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in state.items()}


def _under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def _loaded(backbone: str, path: Path) -> nn.Module:
    built = build_backbone(backbone, pretrained=str(path), size=SIZE)
    return nn.ModuleList([built.trunk, built.conv5])


LAYOUTS: dict[str, Callable[[State], object]] = {
    "timm's or torchvision's": dict,
    "MoCo's (LUPerson": lambda state: {
        "epoch": 3,
        "arch": "resnet50",
        "state_dict": {
            **_under("module.encoder_q.", {**state, "fc1.weight": torch.zeros(2)}),
            **_under("module.encoder_k.", state),
            "module.queue": torch.zeros(2, 3),
        },
        "optimizer": {"param_groups": [{"lr": 0.1}]},
    },
    "fast-reid's": lambda state: {
        "model": {
            **_under("backbone.", state),
            "heads.bottleneck.0.weight": torch.ones(4),
            "pixel_mean": torch.zeros(1, 3, 1, 1),
        },
        "iteration": 7,
    },
    "DINO's (CION)": lambda state: {
        "student": _under("module.backbone.", state),
        "teacher": {**_under("module.backbone.", state), "module.head.mlp.0.weight": torch.ones(2)},
        "args": argparse.Namespace(arch="resnet50", lr=0.1),
        "epoch": 99,
    },
    "reid-strong-baseline's": lambda state: {**_under("base.", state), "classifier.weight": torch.ones(3, 2)},
    "DataParallel's": lambda state: {"state_dict": _under("module.", state)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_weights_are_found_under_the_names_that_people_give_them(
    layout: str, backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"img_size": SIZE} if backbone == "test_vit" else {}
    state = _state(backbone, **options)
    torch.save(LAYOUTS[layout](state), tmp_path / "weights.pth")
    with caplog.at_level(logging.INFO):
        network = _loaded(backbone, tmp_path / "weights.pth")
    given = [value for value in state.values() if value.is_floating_point()]
    for value in network.state_dict().values():
        assert not value.is_floating_point() or any(torch.equal(value, each) for each in given)
    number = len(network.state_dict())
    assert f"{backbone} starts from {tmp_path / 'weights.pth'}, names {layout}" in caplog.text
    assert f": {number} of {number} tensors matched; " in caplog.text
    assert "left out: " in caplog.text  # the classifier at least


def test_timms_own_files_are_safetensors(tmp_path: Path) -> None:
    state = _state("test_resnet")
    save_file(state, tmp_path / "model.safetensors")
    network = _loaded("test_resnet", tmp_path / "model.safetensors")
    assert torch.equal(network.state_dict()["0.conv1.0.weight"], state["conv1.0.weight"])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"weights file .*cut.safetensors cannot be read"):
        _loaded("test_resnet", tmp_path / "cut.safetensors")


def test_a_convnext_of_torchvision_and_of_its_authors_gives_what_it_gave(tmp_path: Path) -> None:
    """timm's test_convnext has their layers, so that one stage after the other can be compared."""
    state = _state("test_convnext")
    back = (
        ("stem.", "downsample_layers.0."),
        (".downsample.", "."),
        (".blocks.", "."),
        ("conv_dw", "dwconv"),
        ("mlp.fc", "pwconv"),
    )
    authors: State = {}
    for name, value in state.items():
        known = name.replace("stages.", "downsample_layers.") if ".downsample." in name else name
        for ours, theirs in back:
            known = known.replace(ours, theirs)
        linear = value.ndim == 4 and value.shape[2:] == (1, 1) and "pwconv" in known
        authors[known.replace("head.norm", "norm")] = value.flatten(1) if linear else value
    torch.save({"teacher": _under("backbone.", authors)}, tmp_path / "authors.pth")
    torch.save(state, tmp_path / "timm.pth")
    first, second = (_loaded("test_convnext", tmp_path / name).state_dict() for name in ("authors.pth", "timm.pth"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_torchvisions_names_become_timms() -> None:
    """Of a ConvNeXt and a transformer: each architecture's names, and what the whole network gives."""
    torch.manual_seed(0)
    theirs: nn.Module = TorchvisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=64, mlp_dim=256)
    ours = timm.models.VisionTransformer(32, 16, depth=2, num_heads=2, embed_dim=64, mlp_ratio=4, num_classes=1000)
    stages = [CNBlockConfig(width, out, 1) for width, out in ((8, 16), (16, 24), (24, 32), (32, None))]
    other = timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=1000)
    for source, target in ((theirs, ours), (ConvNeXt(stages), other)):
        wanted = target.state_dict()
        found = named_weights(source.state_dict(), wanted)
        assert found.layout == "torchvision's"
        target.load_state_dict({name: value.reshape(wanted[name].shape) for name, value in found.weights.items()})
        image = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(target.eval()(image), source.eval()(image))


@pytest.mark.parametrize("grid", [(6, 6), (16, 8)])
def test_positions_of_another_size_are_resampled(grid: tuple[int, int], tmp_path: Path) -> None:
    """Of a square image, as ImageNet's, and of one twice as high as wide, as people's."""
    state = _state("test_vit", img_size=(16 * grid[0], 16 * grid[1]))
    torch.save(state, tmp_path / "weights.pth")
    found = _loaded("test_vit", tmp_path / "weights.pth").state_dict()["0.network.pos_embed"]
    assert found.shape[1] == 4 * 2 + 1
    torch.testing.assert_close(found, resample_abs_pos_embed(state["pos_embed"], [4, 2], list(grid)))


def test_weights_of_another_width_depth_or_network_are_refused(tmp_path: Path) -> None:
    state = _state("test_resnet")
    wider = {**state, "layer1.0.conv1.weight": torch.zeros(64, 32, 3, 3)}
    deeper = {**state, "layer2.7.conv1.weight": torch.zeros(3)}
    less = {name: value for name, value in state.items() if not name.startswith("layer3")}
    cases = {
        "wider": (
            wider,
            r"1 of another shape \(layer1.0.conv1.weight, ...\); layer1.0.conv1.weight is 64x32x3x3 there",
        ),
        "deeper": (deeper, r"1 unexpected \(layer2.7.conv1.weight, ...\)"),
        "less": (
            less,
            r"\d+ missing \(layer3.0.bn1.bias, ...\); \d+ of \d+ matched\nGive .*, or set model.backbone to",
        ),
        "nan": ({**state, "conv1.0.weight": torch.full_like(state["conv1.0.weight"], torch.nan)}, "NaN or infinite"),
        "vit": (
            _state("test_vit"),
            r"none of the \d+ tensors in the weights '.*vit.pth' is one of test_resnet's: it has cls_token, .*; "
            r"expected conv1.0.weight, .*\nGive weights of test_resnet. Their names may begin with module.encoder_q., ",
        ),
    }
    for name, (content, words) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=words):
            _loaded("test_resnet", tmp_path / f"{name}.pth")


def test_a_file_without_tensors_says_what_it_holds(tmp_path: Path) -> None:
    for name, content in {"a": {"epoch": 3, "lr": 0.1}, "b": [torch.ones(2)], "c": {"model": {"epoch": 2}}}.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=r"holds no state dict.*\nSave model.state_dict\(\) of the network"):
            _loaded("test_resnet", tmp_path / f"{name}.pth")
    with pytest.raises(UserError, match="it holds 'epoch', 'lr'"):
        _loaded("test_resnet", tmp_path / "a.pth")


def test_older_files_without_counters_of_batches_are_taken(tmp_path: Path) -> None:
    state = {name: value for name, value in _state("test_resnet").items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(_loaded("test_resnet", tmp_path / "old.pth").state_dict()["0.bn1.bias"], state["bn1.bias"])


def test_ibn_a_has_no_weights_of_timm_and_none_of_a_plain_resnet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"timm has no weights for test_resnet_ibn_a\nGive a file, as IBN-Net's"):
        build_backbone("test_resnet_ibn_a", pretrained="auto", size=SIZE)
    torch.save(_state("test_resnet"), tmp_path / "plain.pth")
    with pytest.raises(UserError, match=r"do not fit test_resnet_ibn_a: \d+ missing \(layer1.0.bn1.BN.bias, ..."):
        _loaded("test_resnet_ibn_a", tmp_path / "plain.pth")
