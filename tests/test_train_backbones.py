"""Backbones of timm other than the papers': how they are split, what trains on them, and which are refused."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import helpers
import pytest
import timm
import torch
from reference_train import TINY, random_store
from torch import nn

from densereid.data_catalog.errors import UserError
from densereid.pipeline.commands import training
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.engine.describe import multiply_adds, parameter_table
from densereid.train.engine.export import export_network, load_exported
from densereid.train.engine.loop import fit
from densereid.train.evaluation.evaluate import evaluate
from densereid.train.families import build_network, check_network
from densereid.train.networks.backbone import build_backbone
from densereid.train.networks.trunks.choice import choose_network
from densereid.train.networks.trunks.resnet import InstanceBatchNorm

KINDS = ("test_resnet", "test_resnet_ibn_a", "test_convnext", "test_efficientnet", "test_vit")
"""A ResNet, one with IBN-a, networks in stages, a vision transformer: the smallest that there are."""


def _config(name: str, backbone: str, **changes: object) -> TrainConfig:
    settings = {**TINY, "epochs": 1, "evaluate_every": 0, "model.backbone": backbone, "model.pretrained": "never"}
    return load_config(name, {**settings, **changes})


@pytest.mark.parametrize("backbone", KINDS)
def test_magnifiernet_trains_on_every_kind_of_backbone(backbone: str, tmp_path: Path) -> None:
    """With masks on the map of every one of them, for a transformer on its tokens."""
    store = random_store()
    config = _config("magnifiernet-small", backbone)
    result = fit(config, store, tmp_path, device="cpu", on_event=lambda event: None)
    network, checkpoint = load_trained_network(tmp_path)
    assert result.steps > 0
    assert evaluate(network, store, config=checkpoint.config) == result.scores
    export_network(network, checkpoint, tmp_path / "net.pt")
    exported, _ = load_exported(tmp_path / "net.pt")
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(exported(image), network.eval().embed(image))  # type: ignore[operator]


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit"])
def test_dsa_reid_trains_on_backbones_whose_width_it_can_share_out(backbone: str, tmp_path: Path) -> None:
    store = random_store()
    result = fit(_config("dsa-reid-small", backbone), store, tmp_path, device="cpu", on_event=lambda event: None)
    assert result.scores is not None
    with pytest.raises(UserError, match="last stage of test_resnet has 96 channels; expected a multiple of 64"):
        check_network(_config("dsa-reid-small", "test_resnet"))


@pytest.mark.parametrize(
    ("backbone", "shape"),
    [
        ("resnet50_ibn_a", (1024, 2048, 16, 16)),
        ("resnet101", (1024, 2048, 16, 16)),
        ("convnext_tiny", (384, 768, 16, 16)),
        ("mobilenetv3_large_100", (112, 960, 16, 32)),
        ("swin_tiny_patch4_window7_224", (384, 768, 16, 32)),
        ("vit_small_patch16_224", (384, 384, 16, 16)),
        ("vit_base_patch32_224", (768, 768, 32, 32)),
    ],
)
def test_widths_and_strides_are_read_from_the_network(backbone: str, shape: tuple[int, ...]) -> None:
    assert astuple(choose_network(backbone, (384, 192)).shape) == shape


def test_a_stride_of_32_and_a_patch_of_32_keep_masks_at_the_shared_map() -> None:
    for backbone, masks in (("mobilenetv3_small_050", (4, 2)), ("test_vit", (8, 4))):
        config = _config("magnifiernet-small", backbone, height=64, width=32)
        with torch.device("meta"):
            network = build_network(config, 3, seed=0)
            outputs = network.main(torch.empty(2, 3, 64, 32), torch.empty(2, 8, 64, 32))  # type: ignore[operator]
        assert tuple(outputs["mask_logits"].shape[2:]) == masks
        assert outputs["parts"].shape[1] == 8


def test_stages_give_what_timms_own_features_are() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 64, 32)
    for name in ("test_convnext", "test_efficientnet", "test_byobnet"):
        torch.manual_seed(1)
        ours = build_backbone(name, size=(64, 32))
        torch.manual_seed(1)
        whole = timm.create_model(name, output_stride=16, num_classes=0).eval()
        shared = ours.trunk.eval()(image)
        maps = whole.forward_intermediates(image, intermediates_only=True)
        torch.testing.assert_close(ours.trunk.as_map(shared), maps[-2])
        torch.testing.assert_close(ours.conv5.eval()(shared), maps[-1])


def test_a_transformers_map_is_its_patch_tokens_where_the_patches_lie() -> None:
    image = torch.randn(2, 3, 64, 32)
    torch.manual_seed(1)
    ours = build_backbone("test_vit3", size=(64, 32))
    torch.manual_seed(1)
    whole = timm.create_model("test_vit3", img_size=(64, 32), num_classes=0).eval()
    tokens = whole.forward_features(image)[:, whole.num_prefix_tokens :]
    deep = ours.conv5.eval()(ours.trunk.eval()(image))
    torch.testing.assert_close(deep[:, :, 2, 1], tokens[:, 2 * 2 + 1])
    assert deep.shape[2:] == (4, 2)


def test_any_resnet_is_split_as_the_papers() -> None:
    with torch.device("meta"):
        papers, other = build_backbone("resnet50"), build_backbone("resnet50.tv_in1k")
    for part in ("trunk", "conv5"):
        first, second = (getattr(backbone, part) for backbone in (papers, other))
        assert list(first.state_dict()) == list(second.state_dict())
        layers = (
            [
                (layer.stride, layer.dilation, layer.padding)
                for layer in module.modules()
                if isinstance(layer, nn.Conv2d)
            ]
            for module in (first, second)
        )
        assert next(layers) == next(layers)


def test_ibn_a_normalises_half_of_the_channels_by_the_image() -> None:
    layer, x = InstanceBatchNorm(6), torch.randn(4, 6, 5, 3)
    expected = [
        (x[:, channel] - x[:, channel].mean(axes, keepdim=True))
        / (x[:, channel].var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
        for channel in range(6)
        for axes in [(1, 2) if channel < 3 else (0, 1, 2)]
    ]
    torch.testing.assert_close(layer(x), torch.stack(expected, 1))
    with torch.device("meta"):
        names = set(build_backbone("resnet50_ibn_a").trunk.state_dict())
        last = build_backbone("resnet50_ibn_a").conv5.state_dict()
    assert {"layer1.0.bn1.IN.weight", "layer3.5.bn1.BN.running_mean"} < names
    assert not any(".IN." in name for name in last)


@pytest.mark.parametrize(
    ("backbone", "size", "words"),
    [
        ("vgg", (64, 32), r"model.backbone is 'vgg'; expected resnet50, small, .* timm .*\nDid you mean vgg1\d or "),
        ("convnext_tinny", (64, 32), r"'convnext_tinny'; expected .*\nDid you mean convnext_tiny "),
        ("hf-hub:someone/resnet50", (64, 32), "which has none of that name"),
        ("", (64, 32), "model.backbone is ''; expected"),
        ("resnet50.nonsense", (64, 32), r"has no weights 'nonsense' for resnet50\nIt has .*resnet50.tv_in1k"),
        ("mixer_b16_224", (224, 224), "'mixer_b16_224', which gives no feature maps .*what its stages give is no map"),
        ("eva02_tiny_patch14_224", (224, 224), "gives no feature maps that branches could share"),
        (
            "vit_base_patch14_dinov2",
            (256, 128),
            r"reads patches of 14x14 pixels, which do not fill images of 256x128\nSet height to a multiple of 14",
        ),
        ("convnext_tiny_ibn_a", (64, 32), "cannot build convnext_tiny_ibn_a: convnext_tiny is no ResNet"),
        ("inception_v3", (256, 128), "gives maps of 14x6 for images of 256x128, which do not divide them"),
    ],
)
def test_backbones_that_cannot_be_are_named(backbone: str, size: tuple[int, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_backbone(backbone, size=size)


def test_a_wrong_backbone_stops_a_training_before_its_store_is_made(tmp_path: Path) -> None:
    settings = ("--set", "model.backbone=resnet5", "--data-root", tmp_path, "--run-root", tmp_path / "runs")
    done = helpers.run("train", "--dataset", "synthetic", "--model", "dsa-reid-small", *settings, check=False)
    assert "Did you mean resnet50" in done.stderr
    assert not list(tmp_path.iterdir())


def test_describe_lists_parameters_and_arithmetic_of_every_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for backbone in KINDS:
        config = _config("magnifiernet-small", backbone)
        arithmetic, weights = multiply_adds(config), dict(parameter_table(config, 5))
        assert 0 < arithmetic["  main.trunk"] < arithmetic["in inference"] == arithmetic["main"]
        assert weights["  main.trunk"] > 0
    (tmp_path / "mine.yaml").write_text("base: magnifiernet-small\nmodel: {backbone: test_vit}\n")
    training.describe_model(str(tmp_path / "mine.yaml"))
    shown = capsys.readouterr().out
    assert "GMAC, one image of 128x64" in shown
    assert "test_vit" in shown


def test_arithmetic_of_a_convolution_and_of_resnet_50_is_as_counted_by_hand() -> None:
    """ResNet-50 has 4.09 GMAC at 224x224; at 256x128 and with conv5_x at stride 16 it is more."""
    arithmetic = multiply_adds(load_config("baseline"))
    first = 128 * 64 * 64 * 3 * 7 * 7
    conv5 = 16 * 8 * (1024 * 512 + 9 * 512 * 512 + 512 * 2048 + 1024 * 2048 + 2 * (2 * 2048 * 512 + 9 * 512 * 512))
    assert arithmetic["  main.global_branch"] == conv5
    assert first < arithmetic["  main.trunk"] == arithmetic["in inference"] - conv5
