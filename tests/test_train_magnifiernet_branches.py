"""MagnifierNet's network: regions, masked pooling, branches, BNNecks and widths, beside the papers' equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_magnifiernet import (
    labels,
    slow_aligned,
    slow_bilinear_planes,
    slow_gru,
    slow_kept,
    slow_lstm,
    slow_max_pool,
    slow_planes,
    small_config,
    small_inputs,
    small_network,
)
from torch import nn

from densereid.data_catalog.parts import LOWER_LABELS, UPPER_LABELS
from densereid.train.config.train_config import load_config
from densereid.train.data.batch import Inputs
from densereid.train.data.randomness import generator
from densereid.train.families import (
    as_reid,
    build_empty_network,
    build_network,
    evaluation_arrays,
    loss_of,
    training_arrays,
)
from densereid.train.networks.magnifiernet import MagnifierReid
from densereid.train.networks.magnifiernet_branches import FusionBranch, RegularisingBranch, masked_max_pool
from densereid.train.networks.regions import draw_regions, mask_target, one_hot_part_maps, resize_part_maps


def test_masks_become_shares_of_each_cell() -> None:
    mask = torch.randint(0, 8, (2, 12, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    part_maps = resize_part_maps(one_hot_part_maps(mask), (3, 2), resize="area")
    for index in range(2):
        np.testing.assert_allclose(part_maps[index], slow_planes(mask[index].numpy(), 3, 2), atol=1e-6)
    torch.testing.assert_close(part_maps.sum(1), torch.ones(2, 3, 2))


def test_section_3_1_binary_planes_are_resized_bilinearly() -> None:
    mask = torch.randint(0, 8, (2, 24, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    part_maps = resize_part_maps(one_hot_part_maps(mask), (3, 2), resize="bilinear")
    for index in range(2):
        np.testing.assert_allclose(part_maps[index], slow_bilinear_planes(mask[index].numpy(), 3, 2), atol=1e-6)
    torch.testing.assert_close(part_maps.sum(1), torch.ones(2, 3, 2))


@pytest.mark.parametrize("name", ["magnifiernet", "magnifiernet-v1"])
def test_erasing_leaves_whole_cells_empty(name: str) -> None:
    """In one step from the mask to the map: more cells are all zero than of shares."""
    assert load_config(name).magnifier.mask_resize == "bilinear"
    mask = (torch.arange(384)[:, None] * 8 // 384 + 0 * torch.arange(192)).to(torch.uint8)[None]
    mask = mask.roll(5, 1)  # borders of regions that are no borders of cells
    emptied = {}
    for resize in ("bilinear", "area"):
        config = small_config(**{"magnifier.mask_resize": resize, "height": 384, "width": 192})
        network = build_network(config, 5, seed=0)
        assert isinstance(network, MagnifierReid)
        inputs = Inputs(torch.zeros(1, 3, 384, 192), torch.zeros(1), torch.zeros(1), mask=mask)
        planes = resize_part_maps(network._part_maps(inputs)[0], (24, 12), resize=resize)
        kept = planes[:, [0, 2, 4, 6]].sum(1)
        emptied[resize] = int((kept == 0).sum())
    assert emptied["bilinear"] > emptied["area"]


@pytest.mark.parametrize("resize", ["bilinear", "area", "nearest"])
def test_resized_masks_hold_no_part_that_was_not_there(resize: str) -> None:
    """Labels 1 and 7 side by side: interpolated label numbers, as in the official code, would make parts 2 to 6."""
    mask = torch.ones(1, 48, 20, dtype=torch.uint8)
    mask[:, :, 9:] = 7
    part_maps = resize_part_maps(one_hot_part_maps(mask), (6, 3), resize=resize)
    assert set(mask_target(part_maps).unique().tolist()) == {1, 7}
    assert not part_maps[:, [0, 2, 3, 4, 5, 6]].any()
    interpolated = F.interpolate(mask[:, None].float(), (6, 3), mode="bilinear", antialias=True).round()
    assert set(interpolated.unique().tolist()) - {1, 7}


def test_equation_1_semantic_aligned_representation() -> None:
    random = torch.Generator().manual_seed(2)
    features = torch.randn(2, 5, 4, 3, generator=random)
    part_maps = torch.rand(2, 8, 4, 3, generator=random)
    pooled = masked_max_pool(features, part_maps)
    for index in range(2):
        aligned = slow_aligned(features[index].double().numpy(), part_maps[index].double().numpy())
        expected = np.array([slow_max_pool(part) for part in aligned])
        np.testing.assert_allclose(pooled[index], expected, rtol=1e-5)
    channels_last = masked_max_pool(features.to(memory_format=torch.channels_last), part_maps)
    assert torch.equal(channels_last, pooled)


def _pooled_by(
    branch: RegularisingBranch, features: torch.Tensor, part_maps: torch.Tensor, kept: list[int]
) -> np.ndarray:
    maps = branch.bottleneck(features).detach().double().numpy()
    rows = [slow_kept(one, plane, kept) for one, plane in zip(maps, part_maps.double().numpy(), strict=True)]
    return np.array(rows) @ branch.reduce.weight.detach().double().numpy().T


@pytest.mark.parametrize("kept", [[0, 1, 3, 5, 7], [0, 2], list(range(8))])
def test_v2_equation_2_and_v1_equation_3_kept_regions(kept: list[int]) -> None:
    """The same regions of every image of the batch survive; what is erased has no influence."""
    torch.manual_seed(0)
    branch = RegularisingBranch(8).eval()
    features, part_maps = torch.randn(3, 8, 4, 3), one_hot_part_maps(torch.randint(0, 8, (3, 4, 3)))
    found = branch(features, part_maps, labels(*kept))
    np.testing.assert_allclose(found.detach(), _pooled_by(branch, features, part_maps, kept), rtol=1e-3, atol=1e-5)


def test_at_test_time_the_regularising_branch_sees_everything() -> None:
    torch.manual_seed(0)
    branch = RegularisingBranch(8).eval()
    features, part_maps = torch.randn(3, 8, 4, 3), one_hot_part_maps(torch.randint(0, 8, (3, 4, 3)))
    everything = branch.reduce(branch.bottleneck(features).amax((2, 3)))
    assert torch.equal(branch(features, part_maps, None), everything)
    torch.testing.assert_close(branch(features, part_maps, labels(*range(8))), everything)


def test_v2_section_3_2_random_torso_and_random_baseline() -> None:
    for keep in (2, 4, 6):
        torso = _draws(f"magnifiernet-torso-{keep}-small")
        assert bool((torso[:, list(UPPER_LABELS)].sum(1) == keep // 2).all())
        assert bool((torso[:, list(LOWER_LABELS)].sum(1) == keep // 2).all())
        baseline = _draws(f"magnifiernet-baseline-{keep}-small")
        assert bool((baseline[:, 1:].sum(1) == keep).all())
        counts = {tuple(draw) for draw in baseline.tolist()}
        assert len(counts) == {2: 21, 4: 35, 6: 7}[keep]  # every choice of keep out of 7 occurs
        assert bool(torso[:, 0].all())
        assert bool(baseline[:, 0].all())


@pytest.mark.parametrize(("name", "upper", "lower"), [("1-1", 1, 1), ("2-2", 2, 2), ("3-3", 3, 3), ("all", 4, 3)])
def test_v1_section_3_2_upper_and_lower_regions(name: str, upper: int, lower: int) -> None:
    draws = _draws(f"magnifiernet-v1-regions-{name}-small")
    assert bool((draws[:, list(UPPER_LABELS)].sum(1) == upper).all())
    assert bool((draws[:, list(LOWER_LABELS)].sum(1) == lower).all())
    assert bool(draws[:, 0].all())
    assert len({tuple(draw) for draw in draws.tolist()}) == {"1-1": 12, "2-2": 18, "3-3": 4, "all": 1}[name]


def _draws(name: str) -> torch.Tensor:
    random, config = generator(0), load_config(name).magnifier
    draws = [draw_regions(config, random) for _ in range(500)]
    return torch.stack([draw for draw in draws if draw is not None])


def test_without_a_regularising_branch_nothing_is_drawn() -> None:
    assert draw_regions(load_config("magnifiernet-sfb-small").magnifier, generator(0)) is None


@pytest.mark.parametrize(("kind", "slow"), [("gru", slow_gru), ("lstm", slow_lstm)])
def test_section_3_3_parts_enter_the_cell_in_the_order_0_to_7(kind: str, slow) -> None:
    torch.manual_seed(0)
    branch = FusionBranch(8, kind).eval()
    features, part_maps = torch.randn(2, 8, 4, 3), one_hot_part_maps(torch.randint(0, 8, (2, 4, 3)))
    parts, fused = branch(features, part_maps)
    maps = branch.bottleneck(features).detach().double().numpy()
    weights = {name: value.double().numpy() for name, value in branch.cell.state_dict(prefix="").items()}
    weights = {name.removeprefix("layer."): value for name, value in weights.items()}
    for index in range(2):
        aligned = slow_aligned(maps[index], part_maps[index].double().numpy())
        expected = np.array([slow_max_pool(part) for part in aligned])  # background first, then 1 to 7
        np.testing.assert_allclose(parts[index].detach(), expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(fused[index].detach(), slow(expected, weights), rtol=1e-3, atol=1e-5)


def test_the_ablation_branch_reduces_each_part_and_concatenates() -> None:
    torch.manual_seed(0)
    branch = FusionBranch(16, "ab").eval()
    parts, fused = branch(torch.randn(2, 16, 4, 3), one_hot_part_maps(torch.randint(0, 8, (2, 4, 3))))
    expected = [F.linear(parts[:, part], branch.cell.weight[part]) for part in range(8)]
    torch.testing.assert_close(fused, torch.cat(expected, 1))
    assert fused.shape == (2, 16)


def test_bnneck_what_each_loss_and_the_embedding_read() -> None:
    """Triplet and cell before the neck, classifier and embedding after it; the neck's bias stays 0."""
    network, inputs = small_network(), small_inputs(labels(0, 1, 2, 5, 6))
    outputs = network(inputs)
    for name, neck in network.main.necks.items():
        assert isinstance(neck, nn.BatchNorm1d)
        before = outputs[f"before_{name}"]
        after = F.batch_norm(before, None, None, neck.weight, neck.bias, training=True)
        torch.testing.assert_close(outputs[f"after_{name}"], after)
        classifier = network.classify_branches[name].weight[0]
        torch.testing.assert_close(outputs[f"logits_{name}"][:, 0], after @ classifier.T)
        assert not neck.bias.requires_grad
        assert not neck.bias.any()
    torch.testing.assert_close(network.main.fuse.cell(outputs["parts"]), outputs["before_fusion"])
    network.eval()
    outputs = network.main(inputs.image)
    joined = torch.cat([outputs[f"after_{name}"] for name in ("global", "regularisation", "fusion")], 1)
    torch.testing.assert_close(network.embed(inputs.image), F.normalize(joined))
    torch.testing.assert_close(network.embed(inputs.image, feature="f_fusion"), F.normalize(outputs["after_fusion"]))


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_training_masks_are_the_stores_and_test_masks_the_networks_own(kind: str) -> None:
    network, inputs = small_network(**{"magnifier.test_masks": kind}), small_inputs(labels(0, 1, 5))
    network.eval()
    own = network.main(inputs.image)
    logits = own["mask_logits"]
    again = network.main(inputs.image, logits.softmax(1) if kind == "soft" else one_hot_part_maps(logits.argmax(1)))
    assert torch.equal(own["after_fusion"], again["after_fusion"])
    given = network(inputs)
    assert not torch.equal(given["after_fusion"], own["after_fusion"])
    target = mask_target(resize_part_maps(one_hot_part_maps(inputs.mask), (8, 4), resize="bilinear"))
    assert torch.equal(given["mask_target"], target)
    assert given["mask_logits"].shape == (4, 8, 8, 4)


@pytest.mark.parametrize(
    ("name", "branches"),
    [
        ("magnifiernet-global", ("global",)),
        ("magnifiernet-mask", ("global",)),
        ("magnifiernet-sab", ("global", "regularisation")),
        ("magnifiernet-sfb", ("global", "fusion")),
        ("magnifiernet-sab-sfb", ("global", "regularisation", "fusion")),
        ("magnifiernet", ("global", "regularisation", "fusion")),
        ("magnifiernet-v1-global", ("global",)),
        ("magnifiernet-v1-seg", ("global",)),
        ("magnifiernet-v1-srb", ("global", "regularisation")),
        ("magnifiernet-v1-sfb", ("global", "fusion")),
        ("magnifiernet-v1-ab", ("global", "regularisation", "fusion")),
    ],
)
def test_v2_table_2_and_v1_tables_4_and_5_branches_losses_and_widths(name: str, branches: tuple[str, ...]) -> None:
    config, network = small_config(f"{name}-small"), small_network(f"{name}-small").eval()
    inputs = small_inputs(draw_regions(config.magnifier, generator(0)))
    terms = set(loss_of(config, network(inputs), inputs, epoch=config.stages.first_epochs).terms)
    expected = {f"{loss}_{branch}" for loss in ("identity", "triplet") for branch in branches}
    expected |= {"mask"} if not name.endswith("global") else set()
    expected |= {"identity_parts"} if "fusion" in branches else set()
    expected |= {"diversity"} if name == "magnifiernet" else set()
    assert terms == expected
    assert training_arrays(config) == (("image",) if name.endswith("global") else ("image", "mask"))
    assert evaluation_arrays(config) == ("image",)
    embedding = network.embed(inputs.image)
    assert embedding.shape == (4, 128 + 64 * (len(branches) - 1)) == (4, as_reid(network).embedding_width)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))


def test_published_sizes_at_384_by_192() -> None:
    """Maps of 24x12, masks of 48x24, an embedding of 4096; without arithmetic ("meta")."""
    config = load_config("magnifiernet")
    with torch.device("meta"):
        network = build_empty_network(config, 751)
        assert isinstance(network, MagnifierReid)
        shared = network.main.trunk(torch.zeros(2, 3, config.height, config.width))
        deep = network.main.conv5(shared)
        masks = network.main.mask_head(deep)
    assert (tuple(shared.shape), tuple(deep.shape)) == ((2, 1024, 24, 12), (2, 2048, 24, 12))
    assert tuple(masks.shape) == (2, 8, 48, 24)
    assert network.embedding_width == 4096
    assert network.main.widths == {"global": 2048, "regularisation": 1024, "fusion": 1024}


def test_the_conv1_relu_is_there() -> None:
    """The official code drops it by mistake."""
    network = small_network()
    names = [name for name, _ in network.main.trunk.named_children()]
    assert names[:4] == ["conv1", "bn1", "act1", "maxpool"]
    assert isinstance(network.main.trunk.act1, nn.ReLU)
