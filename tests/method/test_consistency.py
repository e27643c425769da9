"""Perturbation and consistency term against loops, and where gradients do not flow."""

import numpy as np
import pytest
import torch

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
    assert np.array_equal(result[1].numpy(), tokens[1])  # untouched, not merely nearly so


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


def test_consistency_is_smooth_l1_with_a_fixed_target():
    perturbed = torch.tensor([0.0, 0.3, -4.0, 1.0], dtype=torch.float64, requires_grad=True)
    own = torch.tensor([0.0, 0.1, -1.0, 2.5], dtype=torch.float64, requires_grad=True)
    total, slopes = 0.0, []
    for p, q in zip(perturbed.tolist(), own.tolist(), strict=True):
        gap = p - q
        total += 0.5 * gap * gap if abs(gap) < 1 else abs(gap) - 0.5
        slopes.append(max(-1.0, min(1.0, gap)) / 4)
    loss = consistency(perturbed, own)
    loss.backward()
    assert loss.item() == pytest.approx(total / 4, abs=1e-15)
    assert perturbed.grad.tolist() == pytest.approx(slopes, abs=1e-15)
    assert own.grad is None
