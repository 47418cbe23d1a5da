"""The variants of DSA-reID's tables 3, 4 and 5: which streams, branches, losses and features each one has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_train import TINY, random_store
from torch import nn

from densereid.data_catalog.errors import UserError
from densereid.train.config.train_config import EvaluateConfig, TrainConfig, known_configs, load_config
from densereid.train.data.batch import Inputs
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.engine.loop import fit
from densereid.train.evaluation.evaluate import evaluate, extract_embeddings
from densereid.train.families import build_network, evaluation_arrays, loss_of, training_arrays
from densereid.train.losses.metric_learning import batch_hard_triplet_loss, dsa_loss, identity_loss
from densereid.train.networks.dsa_reid import ConcatenationFusion, DSAReid

VARIANTS = tuple(
    name for name in known_configs() if name.endswith("-small") and load_config(name).model.family == "dsa-reid"
)


def _config(name: str, **changes: object) -> TrainConfig:
    return load_config(name, {**TINY, **changes})


def _network(name: str) -> DSAReid:
    network = build_network(_config(name), 5, seed=0)
    assert isinstance(network, DSAReid)
    return network.eval()


def _inputs() -> Inputs:
    random = torch.Generator().manual_seed(0)
    image = torch.randn(4, 3, 32, 32, generator=random)
    dsap = torch.randn(4, 24, 3, 8, 8, generator=random)
    return Inputs(image, torch.tensor([0, 0, 1, 1]), torch.zeros(4), dsap)


@pytest.mark.parametrize(
    ("name", "guide", "branches", "erase", "smoothing", "feature"),
    [
        ("baseline", False, ("global",), 0.0, 0.0, "f"),
        ("baseline-re", False, ("global",), 0.5, 0.0, "f"),
        ("baseline-re-ls", False, ("global",), 0.5, 0.1, "f"),
        ("two-branches", False, ("global", "local"), 0.5, 0.1, "f"),
        ("two-branches-plain", False, ("global", "local"), 0.5, 0.1, "f"),
        ("dsa-global-single", True, ("global",), 0.5, 0.1, "z"),
        ("dsa-local-single", True, ("local",), 0.5, 0.1, "z"),
        ("dsa-joint-global", True, ("global", "local"), 0.5, 0.1, "z_global"),
        ("dsa-joint-local", True, ("global", "local"), 0.5, 0.1, "z_local"),
        ("dsa-fused", True, ("global", "local"), 0.5, 0.1, "z"),
        ("dsa-reid", True, ("global", "local"), 0.5, 0.1, "f"),
        ("csa", True, ("global", "local"), 0.5, 0.1, "f"),
        ("dsa-concat", True, ("global", "local"), 0.5, 0.1, "f"),
    ],
)
def test_tables_3_to_5_variants_differ_in_what_the_paper_names(
    name: str, guide: bool, branches: tuple[str, ...], erase: float, smoothing: float, feature: str
) -> None:
    config = load_config(name)
    assert (config.augmentation.erase, config.loss.label_smoothing) == (erase, smoothing)
    assert config.evaluate.feature == feature
    assert (config.epochs, config.height, config.model.backbone) == (320, 256, "resnet50")
    assert config.model.part_images == ("crops" if name == "csa" else "dsap")
    with torch.device("meta"):
        network = DSAReid(replace(config.model, pretrained="never"), 5)
    assert (network.guide is not None) == guide
    assert network.branches == branches
    assert hasattr(network.main, "global_branch") == ("global" in branches)
    assert hasattr(network.main, "part_branches") == ("local" in branches)
    assert isinstance(next(iter(network.fusion.values()), None), ConcatenationFusion) == (name == "dsa-concat")


def test_a_variant_at_the_small_scale_changes_the_small_base() -> None:
    small, variant = load_config("dsa-reid-small"), load_config("csa-small")
    assert variant == replace(small, name="csa-small", model=replace(small.model, part_images="crops"))
    chained = load_config("baseline-re-ls", base="dsa-reid-small")
    assert chained == replace(load_config("baseline-re-ls-small"), name="baseline-re-ls")


def test_a_file_of_ones_own_may_have_a_base(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: csa-small\nepochs: 7\n")
    config = load_config(tmp_path / "mine.yaml")
    assert (config.name, config.epochs, config.model.part_images, config.height) == ("mine", 7, "crops", 128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.streams": "three"}, r"model.streams is 'three'; expected two or mf"),
        ({"model.fusion": "max"}, r"model.fusion is 'max'; expected add or concat"),
        ({"evaluate.feature": "d"}, r"evaluate.feature is 'd'; expected f or f_global"),
        ({"model.streams": "mf", "evaluate.feature": "z"}, r"is 'z'; expected f where model.streams is mf"),
        (
            {"model.streams": "mf", "loss.repeat_on_main": 1},
            r"repeat_on_main is 1.0; expected 0 where model.streams is mf",
        ),
        (
            {"model.branches": "global", "evaluate.feature": "z_local"},
            r"evaluate.feature is 'z_local'; expected a feature of the global branch",
        ),
    ],
)
def test_combinations_that_do_not_exist_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("dsa-reid", changes)


@pytest.mark.parametrize("name", ["baseline-small", "dsa-global-single-small", "dsa-local-single-small", "csa-small"])
def test_each_variant_has_the_losses_of_its_branches(name: str) -> None:
    config, network = _config(name), _network(name)
    outputs, inputs = network(_inputs()), _inputs()
    terms = loss_of(config, outputs, inputs).terms
    expected = {f"{loss}_{branch}" for branch in network.branches for loss in ("identity_f", "identity_z", "triplet_z")}
    assert set(terms) == expected


def test_without_a_guide_z_is_f_and_every_loss_stays() -> None:
    """So that a baseline differs from DSA-reID by the guide alone."""
    network, inputs = _network("two-branches-small"), _inputs()
    outputs = network(inputs)
    features = network.main(inputs.image)
    assert torch.equal(outputs["z_global"], features["global"])
    assert torch.equal(outputs["z_local"], features["local"].flatten(1))
    config = _config("two-branches-small").loss
    assert set(dsa_loss(outputs, inputs.identity, config).terms) == set(
        dsa_loss(_network("dsa-reid-small")(inputs), inputs.identity, config).terms
    )


def test_two_branches_trained_alone_have_one_classifier_each() -> None:
    """Identity loss 1.0 on f_G and each f_L,i, triplet loss 1.5 on f_G and f_L; nothing reaches z's classifiers."""
    config, network, inputs = _config("two-branches-plain-small"), _network("two-branches-plain-small"), _inputs()
    outputs, identity = network(inputs), inputs.identity
    expected = torch.zeros(())
    for logits in (outputs["logits_f_global"], *outputs["logits_f_local"].split(1, dim=1)):
        expected += identity_loss(logits, identity, label_smoothing=0.1)
    for name in ("z_global", "z_local"):
        expected += 1.5 * batch_hard_triplet_loss(outputs[name], identity, margin=0.3)
    found = loss_of(config, outputs, inputs).total
    torch.testing.assert_close(found, expected)
    found.backward()
    unused = {name: weight.grad for name, weight in network.named_parameters() if name.startswith("classify_z")}
    assert len(unused) == 10
    assert all(gradient is not None and not gradient.any() for gradient in unused.values())


def test_repeated_losses_leave_the_rest_of_the_network_as_it_is() -> None:
    """The same initial weights; f is what the MF-Stream gives, and z's losses reach it without the guide."""
    config, inputs = _config("dsa-reid-small", **{"loss.repeat_on_main": 1}), _inputs()
    paper, repeated = _network("dsa-reid-small"), build_network(config, 5, seed=0).eval()
    assert isinstance(repeated, DSAReid)
    weights = repeated.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in paper.state_dict().items())
    outputs = repeated(inputs)
    torch.testing.assert_close(outputs["f_local"], repeated.main(inputs.image)["local"].flatten(1))
    terms = set(loss_of(config, outputs, inputs).terms) - set(
        loss_of(_config("dsa-reid-small"), paper(inputs), inputs).terms
    )
    names = ("global", "local")
    assert terms == {f"triplet_f_{name}" for name in names} | {f"identity_whole_f_{name}" for name in names}
    for name in names:
        guided = torch.autograd.grad(
            outputs[f"logits_whole_f_{name}"].sum(), list(repeated.guide.parameters()), allow_unused=True,
            retain_graph=True,
        )  # fmt: skip
        assert not any(gradient is not None for gradient in guided)


def test_table_5_concatenation_and_a_fully_connected_layer() -> None:
    network, inputs = _network("dsa-concat-small"), _inputs()
    assert network.guide is not None
    assert inputs.dsap is not None
    f, d = network.main(inputs.image), network.guide(inputs.dsap)
    outputs = network(inputs)
    for name in ("global", "local"):
        layer = network.fusion[name].layer
        assert isinstance(layer, nn.Linear)
        expected = torch.cat((f[name].flatten(1), d[name].flatten(1)), 1) @ layer.weight.T + layer.bias
        torch.testing.assert_close(outputs[f"z_{name}"], expected, rtol=1e-4, atol=1e-5)


def test_table_3_features_that_can_be_ranked() -> None:
    network, inputs = _network("dsa-reid-small"), _inputs()
    outputs, main = network(inputs), network.main(inputs.image)
    parts = {
        "f": (main["global"], main["local"].flatten(1)),
        "f_local": (main["local"].flatten(1),),
        "z": (outputs["z_global"], outputs["z_local"]),
        "z_global": (outputs["z_global"],),
        "z_local": (outputs["z_local"],),
    }
    for feature, expected in parts.items():
        embedding = network.embed(inputs.image, inputs.dsap, feature=feature)
        torch.testing.assert_close(embedding, nn.functional.normalize(torch.cat(expected, 1)))


def test_fused_features_read_the_part_images_and_the_main_stream_does_not() -> None:
    store = random_store()
    network = _network("dsa-reid-small")
    rows = np.arange(5)
    read = {}
    for feature in ("f", "z"):
        config = replace(_config("dsa-reid-small"), evaluate=EvaluateConfig(feature))
        store.reads.clear()
        assert extract_embeddings(network, store, rows, config=config).shape == (5, network.embedding_width)
        read[feature] = set(store.reads)
    assert read == {"f": {"image"}, "z": {"image", "dsap", "dsap_valid"}}
    assert evaluation_arrays(_config("dsa-reid-small")) == ("image",)
    assert training_arrays(_config("two-branches-small")) == ("image",)
    csa = replace(_config("csa-small"), evaluate=EvaluateConfig("z"))
    assert evaluation_arrays(csa) == training_arrays(csa) == ("image", "crops")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_is_evaluated(name: str, tmp_path: Path) -> None:
    store = random_store()
    config = _config(name, epochs=1, evaluate_every=0)
    result = fit(config, store, tmp_path, device="cpu", on_event=lambda event: None)
    assert result.scores is not None
    network, checkpoint = load_trained_network(tmp_path)
    assert evaluate(network, store, config=checkpoint.config) == result.scores


def test_blank_part_images_are_those_of_nobody() -> None:
    """augmentation.blank_parts empties all 24 part images of a sample, as preprocessing does where nobody is found."""
    from densereid.data_catalog.store.schema import Split
    from densereid.train.data.augmentation import augment, draw_augmentation
    from densereid.train.data.dataset import StoreDataset
    from densereid.train.data.randomness import generator

    dataset = StoreDataset(random_store(), Split.TRAIN, needs=("image", "dsap", "dsap_valid"), height=32, width=32)
    batch = dataset.read_batch(list(range(24)))
    config = _config("dsa-reid-small", **{"augmentation.blank_parts": 0.5}).augmentation
    draw = draw_augmentation(24, config, height=32, width=32, generator=generator(0))
    inputs = augment(batch, draw, config)
    assert inputs.dsap is not None
    empty = (inputs.dsap == 0).flatten(1).all(1)
    assert torch.equal(empty, draw.blank)
    assert 4 < int(empty.sum()) < 20
