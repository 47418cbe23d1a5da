from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.parts import FRONT_BACK_MERGE, LEFT_RIGHT_MERGE
from densereid.train.config.train_config import ModelConfig, load_config
from densereid.train.data.batch import Inputs
from densereid.train.families import as_reid, build_network
from densereid.train.networks import backbone as backbone_module
from densereid.train.networks.backbone import backbone_state, build_backbone
from densereid.train.networks.blocks import Classifier, ResidualBlock
from densereid.train.networks.dsa_reid import DSAReid, EmbeddingNetwork
from densereid.train.networks.guiding_stream import GuidingStream, Merge

SMALL = load_config("dsa-reid-small").model


def _inputs(batch: int = 4, height: int = 64, width: int = 32, dsap_size: int = 8) -> Inputs:
    random = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, height, width, generator=random)
    dsap = torch.randn(batch, 24, 3, dsap_size, dsap_size, generator=random)
    return Inputs(image, torch.arange(batch) % 2, torch.zeros(batch), dsap)


def _shapes(network: nn.Module, names: tuple[str, ...], *arguments: Tensor) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        module = network.get_submodule(name)
        module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape)}))
    network.eval()
    with torch.no_grad():
        network(*arguments)
    return shapes


@pytest.mark.parametrize(("channels", "device"), [(64, "cpu"), (1024, "meta")])
def test_table_1_output_sizes(channels: int, device: str) -> None:
    """At c_A = 1024 without arithmetic ("meta"): only the shapes are of interest."""
    with torch.device(device):
        stream, dsap = GuidingStream(channels), torch.zeros(2, 24, 3, 32, 32)
    names = ("conv1", "conv2", "conv3_x", "merge_left_right", "conv4_x", "merge_front_back", "conv5_g", "conv5_l")
    shapes = _shapes(stream, names, dsap)
    c = channels // 8
    assert shapes == {
        "conv1": (2, 24 * c // 4, 32, 32),
        "conv2": (2, 24 * c // 2, 32, 32),
        "conv3_x": (2, 24 * c // 2, 16, 16),
        "merge_left_right": (2, 13 * c // 2, 16, 16),
        "conv4_x": (2, 13 * c, 8, 8),
        "merge_front_back": (2, 8 * c, 8, 8),
        "conv5_g": (2, 16 * c, 8, 8),
        "conv5_l": (2, 8 * 2 * c, 8, 8),
    }
    if channels == 1024:  # table 1's own numbers, per branch
        assert (c // 4, c // 2, c, 16 * c, 2 * c) == (32, 64, 128, 2048, 256)


def test_merge_adds_exactly_the_listed_branches() -> None:
    x = torch.randn(2, 24 * 3, 4, 4)
    parts = x.view(2, 24, 3, 4, 4)
    merged = Merge(tuple(tuple(part - 1 for part in group) for group in LEFT_RIGHT_MERGE))(x).view(2, 13, 3, 4, 4)
    for index, group in enumerate(LEFT_RIGHT_MERGE):
        assert torch.equal(merged[:, index], sum(parts[:, part - 1] for part in group))
    regions = Merge(tuple(group for _, group in FRONT_BACK_MERGE))(merged.flatten(1, 2)).view(2, 8, 3, 4, 4)
    for index, (_, group) in enumerate(FRONT_BACK_MERGE):
        assert torch.equal(regions[:, index], sum(merged[:, pair] for pair in group))


def _branch(layer: nn.Module, branch: int, branches: int, *, shared_input: bool = False) -> nn.Module:
    """A separate, ungrouped copy of one branch of a grouped module, built from slices of its weights."""
    single = copy.deepcopy(layer)
    for name, module in layer.named_modules():
        target = single.get_submodule(name) if name else single
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().chunk(branches)[branch].clone()
            made = nn.Conv2d(
                weight.shape[1], weight.shape[0], module.kernel_size, module.stride, module.padding, bias=False
            )
            made.weight = nn.Parameter(weight)
        elif isinstance(module, nn.BatchNorm2d):
            made = nn.BatchNorm2d(module.num_features // branches)
            slices = {key: value.chunk(branches)[branch] for key, value in module.state_dict().items() if value.ndim}
            made.load_state_dict(slices, strict=False)
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(single.get_submodule(parent), child, made)
        assert target is not made
    return single


def _randomise_norms(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)


@pytest.mark.parametrize("training", [True, False])
def test_grouped_guiding_stream_equals_separate_branches(training: bool) -> None:
    """24 (13, 8) separate modules with the same weights, merged by hand."""
    torch.manual_seed(0)
    stream = GuidingStream(64)
    _randomise_norms(stream)
    stream.train(training)
    dsap = torch.randn(3, 24, 3, 16, 16)
    outputs = [dsap[:, part] for part in range(24)]
    for name, branches in (("conv1", 24), ("conv2", 24), ("conv3_x", 24), ("conv4_x", 13)):
        if name == "conv4_x":
            outputs = [sum(outputs[part - 1] for part in group) for group in LEFT_RIGHT_MERGE]  # type: ignore[misc]
        layer = stream.get_submodule(name)
        outputs = [_branch(layer, index, branches).train(training)(x) for index, x in enumerate(outputs)]
    regions = [sum(outputs[pair] for pair in group) for _, group in FRONT_BACK_MERGE]
    local = [_branch(stream.conv5_l, index, 8).train(training)(x) for index, x in enumerate(regions)]
    whole = copy.deepcopy(stream.conv5_g)(torch.cat(regions, 1)).mean((2, 3))
    global_feature, part_features = stream(dsap).values()
    torch.testing.assert_close(global_feature, whole, rtol=1e-4, atol=1e-4)
    for index in range(8):
        torch.testing.assert_close(part_features[:, index], local[index].mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_equation_1_dsag_global_feature() -> None:
    """d_G = P(H(D)): average pooling over conv5_g of all eight regions together."""
    stream = GuidingStream(64).eval()
    dsap = torch.randn(2, 24, 3, 16, 16)
    mapped = stream.conv5_g(stream.regions(dsap))
    expected = F.adaptive_avg_pool2d(mapped, 1)[:, :, 0, 0]
    torch.testing.assert_close(stream(dsap)["global"], expected)


def test_equation_2_dsag_part_features() -> None:
    """d_L,i = P(F(D_i)) depends on region i alone."""
    stream = GuidingStream(64).eval()
    dsap = torch.randn(2, 24, 3, 16, 16)
    changed = dsap.clone()
    changed[:, [22, 23]] += 1  # both halves of the head: region 8
    before, after = stream(dsap)["local"], stream(changed)["local"]
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7], after[:, 7])


@pytest.mark.parametrize(("widths", "sizes"), [((6, 6), (3, 3)), ((4, 4, 12), (1, 3, 1))])
def test_branches_with_a_shared_input_equal_separate_blocks(widths: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(10, widths, sizes=sizes, branches=8, shared_input=True)
    _randomise_norms(block)
    x = torch.randn(3, 10, 5, 4)
    whole = block(x).unflatten(1, (8, -1))
    for index in range(8):
        torch.testing.assert_close(whole[:, index], _branch(block, index, 8)(x), rtol=1e-4, atol=1e-5)


def test_classifiers_of_branches_equal_separate_layers() -> None:
    torch.manual_seed(0)
    options = {"hidden": 5, "slope": 0.1, "dropout": 0.0}
    joint = Classifier(6, 7, branches=3, **options)  # type: ignore[arg-type]
    nn.init.normal_(joint.bias)
    features = torch.randn(9, 3, 6)
    logits = joint(features)
    for index in range(3):
        hidden = F.batch_norm(F.linear(features[:, index], joint.hidden_weight[index]), None, None, training=True)
        expected = F.linear(F.leaky_relu(hidden, 0.1), joint.weight[index], joint.bias[index])
        torch.testing.assert_close(logits[:, index], expected, rtol=1e-4, atol=1e-6)


def test_paper_network_has_the_published_widths() -> None:
    config = load_config("dsa-reid").model
    with torch.device("meta"):
        network = DSAReid(ModelConfig(**{**vars(config), "pretrained": "never"}), 751)
        inputs = Inputs(torch.zeros(2, 3, 256, 128), torch.zeros(2), torch.zeros(2), torch.zeros(2, 24, 3, 32, 32))
        names = ("main.trunk", "main.global_branch", "main.part_branches")
        shapes = _shapes(network, names, inputs)  # type: ignore[arg-type]
        assert network.main(inputs.image)["local"].shape == (2, 8, 256)
        assert network.embed(inputs.image).shape == (2, 4096)
    assert shapes == {
        "main.trunk": (2, 1024, 16, 8),
        "main.global_branch": (2, 2048, 16, 8),
        "main.part_branches": (2, 2048, 16, 8),
    }
    part = network.main.part_branches
    assert len(part) == 3
    assert [layer.weight.shape[0] // 8 for layer in part[1].residual if isinstance(layer, nn.Conv2d)] == [64, 64, 256]
    assert network.embedding_width == 4096


def test_section_3_2_3_fusion_is_an_elementwise_sum() -> None:
    network, inputs = DSAReid(SMALL, 5).eval(), _inputs()
    outputs = network(inputs)
    f_global, f_local = network.main(inputs.image).values()
    assert network.guide is not None
    d_global, d_local = network.guide(inputs.dsap).values()
    assert torch.equal(outputs["z_global"], f_global + d_global)
    assert torch.equal(outputs["z_local"], f_local.flatten(1) + d_local.flatten(1))
    assert outputs["logits_f_global"].shape == outputs["logits_z_local"].shape == (4, 1, 5)
    assert outputs["logits_f_local"].shape == (4, 8, 5)
    torch.testing.assert_close(outputs["logits_f_global"][:, 0], network.classify_f_global(f_global[:, None])[:, 0])


def test_inference_network_holds_no_guide_and_gives_the_same_embedding() -> None:
    network, inputs = DSAReid(SMALL, 5).eval(), _inputs()
    exported = network.inference_network()
    assert isinstance(exported, EmbeddingNetwork)
    assert not any("guide" in name or "classify" in name for name in exported.state_dict())
    number = sum(parameter.numel() for parameter in exported.parameters())
    assert number == sum(parameter.numel() for parameter in network.main.parameters())
    embedding = network.embed(inputs.image)
    assert torch.equal(exported(inputs.image), embedding)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))
    f_global, f_local = network.main(inputs.image).values()
    torch.testing.assert_close(embedding, F.normalize(torch.cat((f_global, f_local.flatten(1)), 1)))
    assert embedding.shape == (4, as_reid(network).embedding_width)


def test_same_seed_same_weights() -> None:
    config = load_config("dsa-reid-small")
    first, second, other = (build_network(config, 5, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["main.trunk.conv1.weight"], other["main.trunk.conv1.weight"])


def test_trunk_and_conv5_are_resnet_50_with_the_last_stride_removed() -> None:
    with torch.device("meta"):
        backbone = build_backbone("resnet50")
        whole = timm.create_model("resnet50", num_classes=0)
    assert backbone.channels == 1024
    names = {f"trunk.{name}" for name in backbone.trunk.state_dict()}
    names |= {f"trunk.layer4.{name}" for name in backbone.conv5.state_dict()}
    assert names == {f"trunk.{name}" for name in whole.state_dict()}
    strides = [layer.stride for layer in backbone.conv5.modules() if isinstance(layer, nn.Conv2d)]
    assert set(strides) == {(1, 1)}


def test_weights_from_a_file_fill_the_trunk_and_leave_conv5_random(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model("resnet50", pretrained=False)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    filled = build_backbone("resnet50", pretrained=str(tmp_path / "weights.pt"), conv5_pretrained=False)
    assert torch.equal(filled.trunk.state_dict()["layer3.5.conv3.weight"], source.layer3[5].conv3.weight)
    assert not torch.equal(filled.conv5.state_dict()["0.conv1.weight"], source.layer4[0].conv1.weight)
    whole = build_backbone("resnet50", pretrained=str(tmp_path / "weights.pt"))
    assert torch.equal(whole.conv5.state_dict()["0.conv1.weight"], source.layer4[0].conv1.weight)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        build_backbone("resnet50", pretrained=str(tmp_path / "none.pt"))
    (tmp_path / "broken.pt").write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be read"):
        build_backbone("resnet50", pretrained=str(tmp_path / "broken.pt"))
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"do not fit ResNet-50: \d+ missing .*; 1 of another shape \(conv1.weight"):
        build_backbone("resnet50", pretrained=str(tmp_path / "other.pt"))
    with pytest.raises(UserError, match=r"do not fit the small backbone: .*1 of another shape \(conv1.weight"):
        build_backbone("small", pretrained=str(tmp_path / "other.pt"))


def test_a_trained_small_backbone_is_read_back_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = build_backbone("small")
    torch.save(backbone_state(trained.trunk, trained.conv5), tmp_path / "small.pt")
    torch.manual_seed(1)
    again = build_backbone("small", pretrained=str(tmp_path / "small.pt"), conv5_pretrained=False)
    image = torch.randn(2, 3, 64, 32)
    assert torch.equal(again.trunk.eval()(image), trained.trunk.eval()(image))
    assert not torch.equal(again.conv5.state_dict()["0.conv1.weight"], trained.conv5.state_dict()["0.conv1.weight"])
    whole = build_backbone("small", pretrained=str(tmp_path / "small.pt"))
    assert torch.equal(whole.conv5.state_dict()["0.conv1.weight"], trained.conv5.state_dict()["0.conv1.weight"])
    # ImageNet weights of this trunk do not exist; a config that leaves the choice open starts at random.
    assert build_backbone("small", pretrained="auto").channels == 64


def test_unreachable_weights_stop_a_run_of_the_papers_network(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create = timm.create_model
    hub = logging.getLogger("huggingface_hub.utils._http")

    def offline(name: str, *, pretrained: bool, **options: object) -> nn.Module:
        if pretrained:
            hub.warning("Retrying in 1s [Retry 1/5].")
            raise ConnectionError("no route to host")
        with torch.device("meta"):
            return create(name, pretrained=False, **options)

    monkeypatch.setattr(backbone_module.timm, "create_model", offline)
    words = r"\(resnet50.tv_in1k\) could not be loaded: no route to host\n.*pretrained=FILE; or .*pretrained=never"
    with pytest.raises(UserError, match=words):
        build_backbone("resnet50", pretrained="auto")
    assert "Retrying" not in caplog.text
    hub.warning("Retrying for another library")
    assert "another library" in caplog.text
