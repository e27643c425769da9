"""A training step's loss and gradients against the same computed step by step."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from qfm_iqm.method.config import MethodConfig
from qfm_iqm.method.objective import Objective
from qfm_iqm.network.quality import QualityNetwork

MEAN, STD = 50.0, 8.0


@pytest.fixture(scope="module")
def initial():
    torch.manual_seed(0)
    return QualityNetwork("test_vit", crop=32, label_mean=MEAN, label_std=STD).double()


@pytest.fixture
def network(initial):
    return copy.deepcopy(initial)


def batches(count=3, size=6, contents=4):
    """Crops in [0, 1], labels close enough for matches and far enough for fallbacks."""
    draw = np.random.default_rng(1)
    for _ in range(count):
        yield (
            torch.tensor(draw.random((size, 3, 32, 32))),
            torch.tensor(MEAN + STD * draw.normal(size=size)),
            torch.tensor(draw.permutation(size) % contents),
        )


def smooth_l1(gaps):
    return torch.where(gaps.abs() < 1, 0.5 * gaps**2, gaps.abs() - 0.5).mean()


def by_hand(network, steps, config, epoch):
    """The loss of the last step, with everything spelled out and the memory a list."""
    memory = []
    for crops, labels, contents in steps:
        tokens = network.encode(crops)
        quality = (network.decode(tokens) - MEAN) / STD
        target = (labels - MEAN) / STD
        for own, y, content in zip(
            tokens.detach(), target.tolist(), contents.tolist(), strict=True
        ):
            memory.append((own.bfloat16().double(), y, content))
        memory = memory[-config.memory :]
        perturbed, fallbacks, unmatched = [], 0, 0
        for own, y, content in zip(tokens, target.tolist(), contents.tolist(), strict=True):
            other = [entry for entry in memory if entry[2] != content]
            near = [entry for entry in other if abs(entry[1] - y) <= config.tau]
            if not other:
                unmatched += 1
                perturbed.append(own)
                continue
            if near:
                chosen = min(near, key=lambda e: torch.cosine_similarity(own[0], e[0][0], 0).item())
            else:
                fallbacks += 1
                chosen = min(other, key=lambda e: abs(e[1] - y))
            perturbed.append(own + config.alpha * chosen[0])
        changed = (network.decode(torch.stack(perturbed)) - MEAN) / STD
        regression = smooth_l1(quality - target)
        qcc = smooth_l1(changed - quality.detach())
        share = 1.0 if config.ramp_epochs == 0 else min(1.0, epoch / config.ramp_epochs)
        loss = regression + config.w_qcc * share * qcc
    return {
        "loss": loss,
        "regression": regression.detach(),
        "qcc": qcc.detach(),
        "fallback": fallbacks / len(labels),
        "unmatched": unmatched / len(labels),
    }


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("options", "epoch", "contents"),
    [
        ({}, 0.5, 4),
        ({"memory": 4}, 2.0, 4),  # smaller than a batch
        ({"memory": 9, "tau": 0.05}, 1.0, 4),  # wraps around, mostly fallbacks
        ({"tau": 10.0, "alpha": 2.0}, 1.0, 4),
        ({"w_qcc": 3.0, "ramp_epochs": 4.0}, 1.0, 4),
        ({"ramp_epochs": 0.0}, 0.0, 4),
        ({}, 1.0, 1),  # one content: nothing to match
    ],
)
def test_loss_and_gradients_are_those_computed_by_hand(network, options, epoch, contents):
    config = MethodConfig(kind="qfm", **options)
    objective = Objective(network, config)
    steps = list(batches(contents=contents))
    for crops, labels, ids in steps:
        found = objective(crops, labels, ids, epoch)
    expected = by_hand(network, steps, config, epoch)
    for key, value in expected.items():
        digits = 1e-6 if key in ("fallback", "unmatched") else 1e-9  # shares are float32
        assert found[key].item() == pytest.approx(
            float(value.detach() if key == "loss" else value), rel=digits, abs=1e-12
        ), key
        assert found[key].requires_grad == (key == "loss")
    assert (expected["qcc"] > 1e-5) == (contents > 1)
    ours, theirs = gradients(network, found["loss"]), gradients(network, expected["loss"])
    assert ours.keys() == theirs.keys() == dict(network.named_parameters()).keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-7, atol=1e-12, msg=name)


def test_the_cases_above_meet_near_matches_and_fallbacks(network):
    shares = [
        by_hand(network, list(batches()), MethodConfig(kind="qfm", tau=tau), 1.0)["fallback"]
        for tau in (0.05, 0.25, 10.0)
    ]
    assert shares[0] > shares[1] or shares[1] > 0
    assert shares[0] > 0
    assert shares[2] == 0


def test_without_its_weight_qfm_is_the_baseline_bit_for_bit(network):
    found = {}
    for kind in ("baseline", "qfm"):
        objective = Objective(network.float(), MethodConfig(kind=kind, w_qcc=0.0))
        for crops, labels, ids in batches():
            losses = objective(crops.float(), labels.float(), ids, 2.0)
        found[kind] = losses["loss"].item(), gradients(network, losses["loss"])
    assert found["baseline"][0] == found["qfm"][0]
    for name, gradient in found["baseline"][1].items():
        assert torch.equal(gradient, found["qfm"][1][name]), name


def test_with_its_weight_it_is_not(network):
    losses = {}
    for kind in ("baseline", "qfm"):
        objective = Objective(network, MethodConfig(kind=kind))
        losses[kind] = objective(*next(batches()), 1.0)["loss"].item()
    assert losses["qfm"] > losses["baseline"]


def test_no_perturbation_no_inconsistency(network):
    objective = Objective(network, MethodConfig(kind="qfm", alpha=0.0))
    assert objective(*next(batches()), 1.0)["qcc"].item() == 0.0


@pytest.mark.parametrize(("kind", "decodings"), [("baseline", 1), ("qfm", 2)])
def test_only_the_decoder_runs_twice(network, kind, decodings):
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    network.encoder.backbone.patch_embed.register_forward_hook(lambda *_: calls.append("pixels"))
    network.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    Objective(network, MethodConfig(kind=kind))(*next(batches()), 1.0)
    assert calls.count("encoder") == calls.count("pixels") == 1
    assert calls.count("decoder") == decodings


def test_the_ramp_rises_linearly_over_its_epochs(network):
    ramp = Objective(network, MethodConfig(kind="qfm", ramp_epochs=2.0)).ramp
    assert [ramp(epoch) for epoch in (0, 0.5, 1.0, 1.5, 2.0, 7.0)] == [0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert Objective(network, MethodConfig(kind="qfm", ramp_epochs=0.0)).ramp(0.0) == 1.0


def test_the_baseline_keeps_no_memory(network):
    objective = Objective(network, MethodConfig())
    assert objective.memory is None
    assert objective(*next(batches()), 1.0).keys() == {"loss", "regression"}
    # Nothing of the method is in what is saved.
    qfm = Objective(network, MethodConfig(kind="qfm"))
    assert qfm.state_dict().keys() == objective.state_dict().keys()


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "simclr"},
        {"memory": 0},
        {"memory": 3.0},
        {"tau": 0.0},
        {"tau": float("inf")},
        {"alpha": -0.1},
        {"w_qcc": -1.0},
        {"w_qcc": float("nan")},
        {"ramp_epochs": -1.0},
        {"beta": 1.0},
    ],
)
def test_impossible_methods_are_refused(options):
    with pytest.raises(ValidationError):
        MethodConfig(**options)
