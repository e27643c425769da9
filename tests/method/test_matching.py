"""Semantic noise matching against a triple loop in float64; random draws against chance."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from qfm_iqm.method.matching import (
    gaussian_like,
    match_like_quality,
    match_quality,
    match_random,
    match_semantics,
    match_unlike_semantics,
)
from qfm_iqm.method.memory_bank import MemoryBank

WIDTH = 5

NONE = torch.empty(0)  # the random rule uses neither class tokens nor labels


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def reference(rule, semantics, labels, contents, memory, threshold, top_k):
    """For each crop: (all entries that may be chosen, found, fallback)."""
    kept = memory.tokens_MND[:, 0].double().tolist()
    kept_labels, kept_contents = memory.labels_M.tolist(), memory.contents_M.tolist()
    sign = {"quality": 1, "semantics": -1}[rule]  # the lowest is the best
    answers = []
    for s, y, c in zip(semantics.tolist(), labels.tolist(), contents.tolist(), strict=True):
        qualified, other = {}, {}
        for j, (s_j, y_j, c_j) in enumerate(zip(kept, kept_labels, kept_contents, strict=True)):
            if c_j == c:
                continue
            gap = abs(y - y_j)
            other[j] = sign * gap
            if (gap <= threshold) if rule == "quality" else (gap >= threshold):
                qualified[j] = sign * cosine(s, s_j)
        # The fallback is the single best label, whatever top-k.
        measured, k = (qualified, top_k) if qualified else (other, 1)
        worst = max(sorted(measured.values())[:k], default=math.inf)
        allowed = {j for j, value in measured.items() if value <= worst + 1e-6}
        answers.append((allowed, bool(other), bool(other) and not qualified))
    return answers


def draw_case(seed, crops, entries, contents, spread):
    """Labels on a grid of 1/8, so that a gap of exactly tau occurs and is exact in binary."""
    draw = np.random.default_rng(seed)

    def labels(n):
        return torch.tensor(draw.integers(-spread, spread + 1, n) / 8, dtype=torch.float32)

    memory = MemoryBank(max(1, entries - 2))  # wraps around
    tokens = torch.tensor(draw.normal(size=(entries, 3, WIDTH)), dtype=torch.float32)
    memory.push(tokens, labels(entries), torch.tensor(draw.integers(0, contents, entries)))
    semantics = torch.tensor(draw.normal(size=(crops, WIDTH)), dtype=torch.float32)
    return semantics, labels(crops), torch.tensor(draw.integers(0, contents, crops)), memory


@pytest.mark.parametrize("rule", ["quality", "semantics"])
@given(
    seed=st.integers(0, 2**32),
    crops=st.integers(1, 6),
    entries=st.integers(1, 20),
    contents=st.integers(1, 6),
    spread=st.integers(0, 24),
    threshold=st.sampled_from([0.125, 0.25, 1.0]),
    top_k=st.sampled_from([1, 2, 3, 30]),
)
@example(seed=0, crops=4, entries=8, contents=1, spread=4, threshold=0.25, top_k=1)  # no other
@example(seed=0, crops=4, entries=3, contents=6, spread=24, threshold=0.125, top_k=2)  # fallbacks
@settings(deadline=None, max_examples=120)
def test_matches_are_those_of_a_triple_loop(
    rule, seed, crops, entries, contents, spread, threshold, top_k
):
    case = draw_case(seed, crops, entries, contents, spread)
    options = {"top_k": top_k, "generator": seeded(seed)}
    if rule == "quality":
        matches = match_quality(*case, tau=threshold, **options)
    else:
        matches = match_semantics(*case, delta=threshold, **options)
    expected = reference(rule, *case, threshold, top_k)
    for i, (allowed, found, fallback) in enumerate(expected):
        assert matches.found_B[i].item() is found
        assert matches.fallback_B[i].item() is fallback
        if found:
            assert matches.entries_B[i].item() in allowed
        # An index even if nothing is found.
        assert 0 <= matches.entries_B[i].item() < len(case[-1])


@given(
    seed=st.integers(0, 2**32),
    crops=st.integers(1, 6),
    entries=st.integers(1, 20),
    contents=st.integers(1, 6),
    top_k=st.sampled_from([1, 3]),
)
@settings(deadline=None, max_examples=60)
def test_each_half_of_quality_is_the_whole_without_the_other(seed, crops, entries, contents, top_k):
    case = draw_case(seed, crops, entries, contents, 12)
    # With top-k above the number of entries, semantics decides nothing. With a tau that all labels
    # meet, quality decides nothing.
    for matches, threshold, k in (
        (match_like_quality(*case, tau=0.25, generator=seeded(seed)), 0.25, 10**6),
        (match_unlike_semantics(*case, top_k=top_k, generator=seeded(seed)), 10**6, top_k),
    ):
        for i, (allowed, found, fallback) in enumerate(reference("quality", *case, threshold, k)):
            assert matches.found_B[i].item() is found
            assert matches.fallback_B[i].item() is fallback
            assert not found or matches.entries_B[i].item() in allowed


def test_like_quality_is_drawn_evenly():
    memory = MemoryBank(8)
    memory.push(torch.randn(8, 2, WIDTH), torch.tensor([0.0] * 6 + [3.0] * 2), torch.arange(8))
    asked, generator = (torch.randn(3000, WIDTH), torch.zeros(3000)), seeded(1)
    entries = match_like_quality(
        *asked, torch.full((3000,), 9), memory, generator=generator
    ).entries_B
    counts = torch.bincount(entries, minlength=8)
    assert counts[6:].tolist() == [0, 0]
    assert chisquare(counts[:6].numpy()).pvalue > 1e-4


def one_hot_memory():
    """Four entries, with cosines 1, 0.6, -1 and 0 to (1, 0)."""
    class_tokens = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]])
    memory = MemoryBank(4)
    memory.push(
        torch.stack([class_tokens, torch.zeros(4, 2)], 1),
        torch.tensor([0.0, 0.2, 3.0, 0.2]),
        torch.tensor([1, 1, 1, 2]),
    )
    return memory


def test_the_rule_on_a_case_done_by_hand():
    asked = torch.tensor([[2.0, 0.0]] * 4)  # the cosine ignores the length
    labels = torch.tensor([0.0, 0.0, 1.5, 9.0])
    contents = torch.tensor([7, 2, 7, 1])
    matches = match_quality(asked, labels, contents, one_hot_memory(), tau=0.25)
    # Near in label: entries 0, 1, 3, of which 3 is farthest; entry 2 is farther, but not near.
    # Content 2 may not use entry 3, so 1. Label 1.5: none is near; 1 and 3 have the nearest labels
    # (gap 1.3). Content 1 may use only entry 3, however far.
    assert matches.entries_B.tolist()[:2] == [3, 1]
    assert matches.entries_B[2].item() in (1, 3)
    assert matches.entries_B[3].item() == 3
    assert matches.found_B.tolist() == [True] * 4
    assert matches.fallback_B.tolist() == [False, False, True, True]


def test_tau_decides_which_labels_are_near():
    asked, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([0.0])
    chosen = {
        tau: match_quality(asked, labels, torch.tensor([7]), one_hot_memory(), tau=tau)
        for tau in (0.1, 0.25, 5.0)
    }
    assert [chosen[tau].entries_B.item() for tau in chosen] == [0, 3, 2]


def test_nothing_of_other_content():
    memory = one_hot_memory()
    memory.push(torch.ones(4, 2, 2), torch.zeros(4), torch.ones(4, dtype=torch.int64))
    matches = match_quality(torch.ones(2, 2), torch.zeros(2), torch.tensor([1, 5]), memory)
    assert matches.found_B.tolist() == [False, True]
    assert matches.fallback_B.tolist() == [False, False]


def test_no_gradient_is_kept():
    semantics = torch.ones(1, 2, requires_grad=True)
    matches = match_quality(semantics, torch.zeros(1), torch.tensor([9]), one_hot_memory())
    assert not any(tensor.requires_grad for tensor in matches)


def test_the_semantic_rule_on_a_case_done_by_hand():
    asked = torch.tensor([[2.0, 0.0]] * 4)
    labels = torch.tensor([0.0, 1.5, 2.0, 0.5])
    contents = torch.tensor([7, 7, 7, 1])
    matches = match_semantics(asked, labels, contents, one_hot_memory(), delta=1.5)
    # Label 0: only entry 2 is far enough. Label 1.5: 0 and 2 are; 0 is nearer in semantics.
    # Label 2: 0, 1, 3. Content 1 may use only entry 3, which is not far: a fallback.
    assert matches.entries_B.tolist() == [2, 0, 0, 3]
    assert matches.fallback_B.tolist() == [False, False, False, True]


def test_delta_decides_which_labels_are_far():
    asked, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([0.0])
    chosen = {
        delta: match_semantics(asked, labels, torch.tensor([7]), one_hot_memory(), delta=delta)
        for delta in (0.1, 2.0, 9.0)
    }
    assert [chosen[delta].entries_B.item() for delta in chosen] == [1, 2, 2]
    assert [chosen[delta].fallback_B.item() for delta in chosen] == [False, False, True]


def test_cosines_are_compared_in_full_precision_under_autocast():
    case = draw_case(3, 40, 500, 50, 1)  # labels so close that the cosine decides

    def matched():
        return match_quality(*case, tau=1.0), match_semantics(*case, delta=0.1)

    expected = matched()
    with torch.autocast("cpu", torch.bfloat16):
        found = matched()
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.entries_B, other.entries_B)
        assert not one.fallback_B.any()


# Draws: each is repeated many times with fixed seeds, as one batch of equal crops.

TIMES = 3000


def chi_square(counts, expected=None):
    """Probability that chance gives counts as uneven as these."""
    return chisquare(counts, expected).pvalue


def crowd():
    """A memory of 20 entries, 5 of them of content 3, and one crop's request."""
    draw = np.random.default_rng(6)
    memory = MemoryBank(20)
    contents = torch.arange(20) % 4
    labels = torch.tensor(np.where(np.arange(20) < 12, 0.0, 2.0), dtype=torch.float32)
    tokens = torch.tensor(draw.normal(size=(20, 2, WIDTH)), dtype=torch.float32)
    memory.push(tokens, labels, contents)
    return memory, torch.tensor(draw.normal(size=WIDTH), dtype=torch.float32)


def asked_often(content=3, label=0.0):
    memory, semantics = crowd()
    ids = torch.full((TIMES,), content)
    return semantics.repeat(TIMES, 1), torch.full((TIMES,), label), ids, memory


@pytest.mark.parametrize(("rule", "eligible"), [("quality", 9), ("semantics", 6)])
@pytest.mark.parametrize("top_k", [2, 4, 6])
def test_top_k_draws_evenly_among_the_k_best_and_reaches_each(rule, eligible, top_k):
    case = asked_often()
    match = {"quality": match_quality, "semantics": match_semantics}[rule]
    entries = match(*case, top_k=top_k, generator=seeded(1)).entries_B
    threshold = {"quality": 0.25, "semantics": 1.0}[rule]
    one = tuple(tensor[:1] for tensor in case[:3])
    [(best, _, _)] = reference(rule, *one, case[3], threshold, top_k)
    assert len(best) == top_k <= eligible
    assert set(entries.tolist()) == best
    assert chi_square([entries.tolist().count(j) for j in best]) > 1e-3


@pytest.mark.parametrize(("rule", "eligible"), [("quality", 9), ("semantics", 6)])
@pytest.mark.parametrize("top_k", [15, 20, 10**6])
def test_top_k_beyond_what_qualifies_draws_among_what_does(rule, eligible, top_k):
    match = {"quality": match_quality, "semantics": match_semantics}[rule]
    entries = match(*asked_often(), top_k=top_k, generator=seeded(1)).entries_B
    near = {j for j in range(20) if j % 4 != 3 and j < 12}
    far = {j for j in range(20) if j % 4 != 3 and j >= 12}
    assert set(entries.tolist()) == {"quality": near, "semantics": far}[rule]
    assert chi_square([entries.tolist().count(j) for j in set(entries.tolist())]) > 1e-3
    assert len(set(entries.tolist())) == eligible


def test_the_fallback_is_the_nearest_label_whatever_top_k():
    asked = torch.tensor([[2.0, 0.0]] * 20)
    matches = match_quality(
        asked,
        torch.full((20,), 9.0),
        torch.full((20,), 7),
        one_hot_memory(),
        top_k=4,
        generator=seeded(0),
    )
    assert matches.fallback_B.all()
    assert set(matches.entries_B.tolist()) == {2}


def test_the_random_control_draws_evenly_over_other_content():
    *_, contents, memory = asked_often()
    matches = match_random(NONE, NONE, contents, memory, generator=seeded(2))
    other = [j for j in range(20) if j % 4 != 3]
    assert set(matches.entries_B.tolist()) == set(other)
    assert chi_square([matches.entries_B.tolist().count(j) for j in other]) > 1e-3
    assert matches.found_B.all()
    assert not matches.fallback_B.any()


def test_the_random_control_draws_for_each_crop_apart():
    memory, _ = crowd()
    table = np.zeros((20, 20))
    for step in range(TIMES):
        first, second = match_random(
            NONE, NONE, torch.tensor([3, 3]), memory, generator=seeded(step)
        ).entries_B.tolist()
        table[first, second] += 1
    other = [j for j in range(20) if j % 4 != 3]
    assert table.sum() == table[np.ix_(other, other)].sum()
    assert chi_square(table[np.ix_(other, other)].ravel()) > 1e-3


@given(
    seed=st.integers(0, 2**32), crops=st.integers(1, 9), entries=st.integers(1, 12),
    contents=st.integers(1, 4),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_the_random_control_never_meets_its_own_content(seed, crops, entries, contents):
    _, _, ids, memory = draw_case(seed, crops, entries, contents, 8)
    matches = match_random(NONE, NONE, ids, memory, generator=seeded(seed))
    for content, entry, found in zip(
        ids.tolist(), matches.entries_B.tolist(), matches.found_B.tolist(), strict=True
    ):
        assert found == any(kept != content for kept in memory.contents_M.tolist())
        assert not found or memory.contents_M[entry].item() != content


def test_the_same_seed_draws_the_same_and_another_does_not():
    case = asked_often()

    def drawn(seed):
        return (
            match_quality(*case, top_k=3, generator=seeded(seed)).entries_B,
            match_semantics(*case, top_k=3, generator=seeded(seed)).entries_B,
            match_random(*case, generator=seeded(seed)).entries_B,
        )

    for first, again, other in zip(drawn(1), drawn(1), drawn(2), strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


# The control without semantics


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gaussian_noise_has_each_matched_tokens_norm(dtype):
    matched = torch.tensor(np.random.default_rng(8).normal(size=(6, 5, 64)) * 3).to(dtype)
    matched[2, 3] = 0
    noise = gaussian_like(matched, generator=seeded(3))
    assert noise.shape == matched.shape
    for b in range(6):
        for n in range(5):
            expected = math.sqrt(sum(x * x for x in matched[b, n].double().tolist()))
            found = math.sqrt(sum(x * x for x in noise[b, n].double().tolist()))
            assert found == pytest.approx(expected, rel=1e-5)


def test_gaussian_noise_points_anywhere_and_not_at_the_match():
    matched = torch.ones(1000, 2, 16)
    noise = gaussian_like(matched, generator=seeded(4)).reshape(-1, 16).double()
    # Directions on a sphere of 16 dimensions: mean 0, covariance 1/16 of the squared norm.
    assert noise.mean(0).abs().max() < 5 / math.sqrt(2000)
    covariance = noise.T @ noise / 2000
    torch.testing.assert_close(covariance, torch.eye(16).double(), rtol=0, atol=0.15)


def test_gaussian_noise_is_the_same_for_the_same_seed():
    matched = torch.ones(2, 3, 4)
    first, again, other = (gaussian_like(matched, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
