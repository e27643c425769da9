"""Parameter groups, and learning rates computed by hand from docs/method.md, section 10."""

import math

import pytest
import torch

from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.training.recipe_schema import TrainConfig
from qfm_iqm.training.schedule import build_optimizer, rate_factor

PAPER = TrainConfig(epochs=9, warmup_epochs=3, decay_epochs=3, decay=0.1, schedule="step")


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [
        # warm-up: linear from 0 to 1 over three epochs
        (0.0, 0.0),
        (0.5, 1 / 6),
        (1.0, 1 / 3),
        (1.5, 0.5),
        (2.0, 2 / 3),
        (2.99, 2.99 / 3),
        # then x0.1 every three epochs, counted from the warm-up's end
        (3.0, 1.0),
        (4.5, 1.0),
        (5.999, 1.0),
        (6.0, 0.1),
        (8.999, 0.1),
    ],
)
def test_the_papers_schedule(epoch, factor):
    assert rate_factor(epoch, PAPER) == pytest.approx(factor, rel=1e-12)


def test_other_decays():
    config = TrainConfig(epochs=10, warmup_epochs=0, decay_epochs=2, decay=0.5)
    assert [rate_factor(e, config) for e in (0, 1.9, 2, 4, 6.5)] == [1, 1, 0.5, 0.25, 0.125]


def test_cosine_begins_at_one_and_ends_at_zero():
    config = TrainConfig(epochs=5, warmup_epochs=1, schedule="cosine")
    values = [rate_factor(e, config) for e in (0, 0.25, 1, 2, 3, 4, 5)]
    half = math.sqrt(0.5) / 2
    expected = [0, 0.25, 1, 0.5 + half, 0.5, 0.5 - half, 0]
    assert values == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_a_warm_up_longer_than_the_run_is_never_left(schedule):
    config = TrainConfig(epochs=2, warmup_epochs=4, schedule=schedule)
    assert rate_factor(1.999, config) == pytest.approx(1.999 / 4)


def test_groups_of_the_optimizer():
    network = QualityNetwork("test_vit", crop=32, width=48, heads=3)
    optimizer = build_optimizer(network, TrainConfig(lr=3e-4, weight_decay=0.07))
    assert type(optimizer) is torch.optim.AdamW
    name_of = {parameter: name for name, parameter in network.named_parameters()}
    decay_of = {
        name_of[parameter]: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decay_of.keys() == set(name_of.values())
    assert all(group["lr"] == 3e-4 for group in optimizer.param_groups)
    spared = {name for name, decay in decay_of.items() if decay == 0}
    one_dimensional = {name for name in decay_of if name.endswith(("bias", "norm.weight"))} | {
        name for name in decay_of if name.rsplit(".", 2)[-2].startswith("norm")
    }
    tokens = {"encoder.backbone.pos_embed", "encoder.backbone.cls_token", "decoder.panel"}
    assert spared == one_dimensional | tokens
    assert {decay_of[name] for name in decay_of.keys() - spared} == {0.07}
    assert {
        "encoder.backbone.patch_embed.proj.weight",
        "encoder.project.weight",
        "decoder.layer.linear1.weight",
        "decoder.head.weight",
    } <= decay_of.keys() - spared


def test_frozen_parameters_are_left_out():
    network = QualityNetwork("test_vit", crop=32)
    network.encoder.backbone.requires_grad_(False)
    groups = build_optimizer(network, TrainConfig()).param_groups
    trained = sum(len(group["params"]) for group in groups)
    assert trained == len(list(network.decoder.parameters()))


def test_without_a_prefix_the_peak_is_never_held():
    """timm's default, which the literature uses: x0.1 as soon as the warm-up ends."""
    config = PAPER.model_copy(update={"warmup_prefix": False})
    epochs = (0, 1.5, 2.99, 3, 5.99, 6, 8.99)
    expected = [0, 0.5, 2.99 / 3, 0.1, 0.1, 0.01, 0.01]
    assert [rate_factor(epoch, config) for epoch in epochs] == pytest.approx(expected)
    cosine = config.model_copy(update={"schedule": "cosine"})
    assert rate_factor(4.5, cosine) == pytest.approx(0.5)


def test_rates_fall_towards_the_first_layers_of_the_backbone():
    network = QualityNetwork("efficientnet_lite0_stages", crop=64, width=48, heads=3)
    config = TrainConfig(lr=1e-3, backbone_lr=4e-4, layer_decay=0.5)
    optimizer = build_optimizer(network, config)
    peak_of = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    backbone = network.encoder.backbone
    assert peak_of[id(network.decoder.head.weight)] == 1e-3
    assert peak_of[id(network.encoder.projections[0].weight)] == 1e-3
    for number, block in enumerate(backbone.blocks):
        (found,) = {peak_of[id(parameter)] for parameter in block.parameters()}
        assert found == pytest.approx(4e-4 * 0.5 ** (6 - number))
    assert peak_of[id(backbone.conv_stem.weight)] == pytest.approx(4e-4 * 0.5**7)
    assert len(peak_of) == len(list(network.parameters()))


def test_a_transformers_last_norm_is_trained_like_its_last_block():
    network = QualityNetwork("test_vit", crop=32)
    groups = build_optimizer(network, TrainConfig(layer_decay=0.1)).param_groups
    peak_of = {id(p): group["peak"] for group in groups for p in group["params"]}
    vit = network.encoder.backbone
    last = {peak_of[id(p)] for p in (*vit.norm.parameters(), *vit.blocks[-1].parameters())}
    assert last == {2e-4}
    first = 2e-4 * 0.1 ** len(vit.blocks)
    assert peak_of[id(vit.pos_embed)] == peak_of[id(vit.patch_embed.proj.weight)]
    assert peak_of[id(vit.pos_embed)] == pytest.approx(first)
