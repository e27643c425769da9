"""Perturbation and consistency term against loops, and where gradients do not flow."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.method.consistency import consistency, perturb


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 2.0])
def test_perturbation_adds_alpha_times_the_match_where_one_was_found(alpha):
    draw = np.random.default_rng(3)
    tokens, matched = draw.normal(size=(2, 4, 3, 5))
    found = [True, False, True, False]
    expected = tokens.copy()
    for b in range(4):
        for n in range(3):
            for d in range(5):
                if found[b]:
                    expected[b, n, d] += alpha * matched[b, n, d]
    result = perturb(torch.tensor(tokens), torch.tensor(matched), torch.tensor(found), alpha=alpha)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-15)
    assert np.array_equal(result[1].numpy(), tokens[1])  # exactly unchanged


def perturbed_by_hand(tokens, matched, found, alpha, which, renormalize):
    expected = tokens.copy()
    crops, count, width = tokens.shape
    for b in range(crops):
        for n in range(count):
            chosen = {"all": True, "patches": n >= 1, "class": n == 0}[which]
            if not (found[b] and chosen and alpha > 0):
                continue
            for d in range(width):
                expected[b, n, d] += alpha * matched[b, n, d]
            if renormalize:
                before = math.sqrt(sum(x * x for x in tokens[b, n]))
                after = math.sqrt(sum(x * x for x in expected[b, n]))
                for d in range(width):
                    expected[b, n, d] *= before / after
    return expected


@given(
    seed=st.integers(0, 2**32),
    crops=st.integers(1, 4),
    count=st.integers(1, 4),
    alpha=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    which=st.sampled_from(["all", "patches", "class"]),
    renormalize=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_which_tokens_are_perturbed_and_which_norms_restored(
    seed, crops, count, alpha, which, renormalize
):
    draw = np.random.default_rng(seed)
    tokens, matched = draw.normal(size=(2, crops, count, 5))
    found = draw.random(crops) < 0.7
    result = perturb(
        torch.tensor(tokens),
        torch.tensor(matched),
        torch.tensor(found),
        alpha=alpha,
        tokens=which,
        renormalize=renormalize,
    ).numpy()
    expected = perturbed_by_hand(tokens, matched, found, alpha, which, renormalize)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
    # If nothing is added, the bits are the same, not only the norm.
    same = (expected == tokens).all(-1)
    assert np.array_equal(result[same], tokens[same])


def test_a_token_that_was_cancelled_or_was_zero_stays_finite():
    tokens = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]], requires_grad=True)
    matched = torch.tensor([[[-1.0, -2.0], [3.0, 4.0]]])
    result = perturb(tokens, matched, torch.tensor([True]), alpha=1.0, renormalize=True)
    result.sum().backward()
    assert torch.equal(result, torch.zeros(1, 2, 2))
    assert tokens.grad.isfinite().all()


@pytest.mark.parametrize("which", ["all", "patches", "class"])
@pytest.mark.parametrize("renormalize", [False, True])
def test_gradients_into_the_own_tokens_are_numerically_right(which, renormalize):
    draw = np.random.default_rng(2)
    tokens, matched = (torch.tensor(draw.normal(size=(3, 3, 4))) for _ in range(2))
    tokens.requires_grad_()
    found = torch.tensor([True, False, True])
    assert torch.autograd.gradcheck(
        lambda own: perturb(own, matched, found, alpha=0.5, tokens=which, renormalize=renormalize),
        tokens,
    )


def test_matches_in_bfloat16_are_added_in_the_tokens_precision():
    matched = torch.tensor([[[1.0, 0.3]]]).bfloat16()
    tokens = torch.tensor([[[1e-4, 1e-4]]])
    result = perturb(tokens, matched, torch.tensor([True]), alpha=1.0)
    assert result.dtype == torch.float32
    assert torch.equal(result, tokens + matched.float())


def test_gradient_flows_into_the_own_tokens_and_not_into_the_matched():
    tokens = torch.randn(2, 3, 4, requires_grad=True)
    matched = torch.randn(2, 3, 4, requires_grad=True)
    perturb(tokens, matched, torch.tensor([True, False]), alpha=0.5).sum().backward()
    assert torch.equal(tokens.grad, torch.ones_like(tokens))
    assert matched.grad is None


@pytest.mark.parametrize("target", ["own", "own_gradient", "label"])
def test_consistency_is_smooth_l1_to_the_target_asked_for(target):
    values = torch.tensor(
        [[0.0, 0.3, -4.0, 1.0], [0.0, 0.1, -1.0, 2.5], [0.5, 0.1, -4.2, -3.0]], dtype=torch.float64
    )
    perturbed, own, labels = (row.clone().requires_grad_() for row in values)
    towards = {"own": own, "own_gradient": own, "label": labels}[target]
    total, slopes = 0.0, []
    for p, t in zip(perturbed.tolist(), towards.tolist(), strict=True):
        gap = p - t
        total += 0.5 * gap * gap if abs(gap) < 1 else abs(gap) - 0.5
        slopes.append(max(-1.0, min(1.0, gap)) / 4)
    loss = consistency(perturbed, own, labels.detach(), target=target)
    loss.backward()
    assert loss.item() == pytest.approx(total / 4, abs=1e-15)
    assert perturbed.grad.tolist() == pytest.approx(slopes, abs=1e-15)
    if target == "own_gradient":
        assert own.grad.tolist() == pytest.approx([-slope for slope in slopes], abs=1e-15)
    else:
        assert own.grad is None


def test_the_default_target_is_the_own_answer_held_fixed():
    perturbed, own = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    loss = consistency(perturbed, own, torch.randn(5))
    assert torch.equal(loss, consistency(perturbed, own, torch.randn(5), target="own"))
    loss.backward()
    assert own.grad is None
