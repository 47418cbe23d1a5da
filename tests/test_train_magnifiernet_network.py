"""MagnifierNet as a whole: what each branch can see, its weights, its inference form, compiled and on a GPU."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from reference_magnifiernet import (
    labels,
    small_config,
    small_inputs,
    small_network,
)
from torch import nn

from densereid.train.config.train_config import load_config
from densereid.train.data.batch import Inputs
from densereid.train.data.randomness import generator
from densereid.train.engine.describe import parameter_table
from densereid.train.families import loss_of
from densereid.train.networks.attribute_facilitator import add_activations
from densereid.train.networks.magnifiernet import MagnifierEmbedding
from densereid.train.networks.regions import draw_regions, one_hot_part_maps, resize_part_maps


def test_every_part_has_a_neck_and_a_classifier_of_its_own() -> None:
    network, inputs = small_network(), small_inputs(labels(0, 1, 5))
    outputs = network(inputs)
    for part in range(8):
        normed = F.batch_norm(outputs["parts"][:, part], None, None, training=True)
        expected = normed @ network.classify_parts.weight[part].T
        torch.testing.assert_close(outputs["logits_parts"][:, part], expected, rtol=1e-4, atol=1e-5)


def test_erased_regions_do_not_reach_the_regularising_branch_of_the_whole_network() -> None:
    """Gradients of its output with respect to the trunk's map are 0 wherever every kept plane is."""
    network, inputs = small_network(**{"magnifier.mask_resize": "nearest"}), small_inputs()
    seen: list[torch.Tensor] = []
    network.main.regularise.bottleneck.register_forward_hook(
        lambda _module, _inputs, output: (output.retain_grad(), seen.append(output))[1]
    )
    kept_regions = labels(0, 2, 4, 6)
    inputs.regions = kept_regions
    network(inputs)["before_regularisation"].sum().backward()
    part_maps = resize_part_maps(network._part_maps(inputs)[0], (4, 2), resize="nearest")
    erased = part_maps[:, ~kept_regions].sum(1, keepdim=True) > 0
    assert seen[0].grad is not None
    assert 0 < int(erased.sum()) < erased.numel()
    assert not (seen[0].grad * erased).any()
    assert (seen[0].grad * ~erased).any()


def test_v1_section_3_5_activations_reach_the_masks_of_sfb_alone() -> None:
    network = small_network("magnifiernet-v1-small", **{"magnifier.attribute_groups": "ghul"}).eval()
    assert network.main.facilitator is not None
    image = small_inputs().image
    shared = network.main.trunk(image)
    deep = network.main.conv5(shared)
    part_maps = resize_part_maps(network.main.mask_head(deep).softmax(1), (4, 2), resize="bilinear")
    logits, activations = network.main.facilitator(deep)
    outputs = network.main(image)
    expected, _ = network.main.fuse(shared, add_activations(part_maps, activations))
    torch.testing.assert_close(outputs["parts"], expected)
    torch.testing.assert_close(outputs["attribute_logits"], logits)
    assert not torch.allclose(expected, network.main.fuse(shared, part_maps)[0])
    without = network.main.regularise(shared, part_maps, None)
    torch.testing.assert_close(outputs["before_regularisation"], without)


def test_part_weights_are_those_of_the_official_code_or_1() -> None:
    inputs = small_inputs(labels(0, 1, 5))
    share = one_hot_part_maps(inputs.mask).mean((0, 2, 3))
    torch.testing.assert_close(small_network()(inputs)["part_weights"], torch.sigmoid(share))
    plain = small_network(**{"magnifier.part_weighting": "none"})(inputs)["part_weights"]
    assert torch.equal(plain, torch.ones(8))


def test_inference_network_holds_no_classifier_and_gives_the_same_embedding() -> None:
    network, inputs = small_network().eval(), small_inputs()
    exported = network.inference_network()
    assert isinstance(exported, MagnifierEmbedding)
    assert not any("classify" in name for name in exported.state_dict())
    assert torch.equal(exported(inputs.image), network.embed(inputs.image))
    without_fusion = small_network("magnifiernet-sab-small").eval().inference_network()
    assert not any("mask_head" in name for name in without_fusion.state_dict())


def test_parameters_of_each_module_are_pinned() -> None:
    """751 identities; ResNet-50 without its classifier has 23,508,032."""
    found = dict(parameter_table(load_config("magnifiernet"), 751))
    bottleneck = 1024 * 256 + 256 * 256 * 9 + 256 * 1024 + 2 * (256 + 256 + 1024)
    expected = {
        "  main.trunk": 8_543_296,
        "  main.conv5": 14_964_736,
        "  main.mask_head": 2048 * 256 * 9 + 2 * 256 + 256 * 8 + 8,
        "  main.regularise": bottleneck + 1024 * 1024,
        "  main.fuse": bottleneck + 3 * (2 * 1024 * 1024 + 2 * 1024),
        "  main.necks": 2 * 4096,
        "  classify_branches.global": 2048 * 751,
        "  classify_branches.regularisation": 1024 * 751,
        "  classify_branches.fusion": 1024 * 751,
        "classify_parts": 8 * 1024 * 751 + 2 * 8 * 1024,
    }
    assert {name: found[name] for name in expected} == expected
    assert found["main"] == found["in inference"]
    assert found["in training"] == found["main"] + found["classify_branches"] + found["classify_parts"]
    lstm = dict(parameter_table(load_config("magnifiernet-v1"), 751))
    assert lstm["  main.fuse"] == bottleneck + 4 * (2 * 1024 * 1024 + 2 * 1024)


def test_compiled_network_gives_the_same_outputs() -> None:
    """With a backend that traces but generates no code, which takes seconds instead of minutes."""
    network, inputs = small_network().eval(), small_inputs(labels(0, 1, 5))
    plain = network(inputs)
    network.compile(backend="eager")
    compiled = network(inputs)
    assert set(compiled) == set(plain)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["magnifiernet-small", "magnifiernet-v1-small"])
def test_a_training_step_on_a_gpu_equals_the_cpus_and_never_waits(name: str) -> None:
    config, network = small_config(name), small_network(name)
    inputs = small_inputs(draw_regions(config.magnifier, generator(0)))

    def step(network: nn.Module, inputs: Inputs) -> torch.Tensor:
        loss = loss_of(config, network(inputs), inputs, epoch=config.stages.first_epochs).total
        loss.backward()
        return loss.detach()

    expected = step(copy.deepcopy(network), inputs)
    network, there = network.cuda(), inputs.to("cuda")
    found = step(copy.deepcopy(network), there)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(network, there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
