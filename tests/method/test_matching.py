"""Semantic noise matching against a triple loop in float64."""

import math

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qfm_iqm.method.matching import match_quality
from qfm_iqm.method.memory import FeatureMemory

WIDTH = 5


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def reference(semantics, labels, contents, memory, tau):
    """For each crop: (all entries that may be chosen, found, fallback)."""
    kept = memory.tokens_MND[:, 0].double().tolist()
    kept_labels, kept_contents = memory.labels_M.tolist(), memory.contents_M.tolist()
    answers = []
    for s, y, c in zip(semantics.tolist(), labels.tolist(), contents.tolist(), strict=True):
        near, other = {}, {}
        for j, (s_j, y_j, c_j) in enumerate(zip(kept, kept_labels, kept_contents, strict=True)):
            if c_j == c:
                continue
            other[j] = abs(y - y_j)
            if abs(y - y_j) <= tau:
                near[j] = cosine(s, s_j)
        measured = near or other
        best = min(measured.values(), default=math.inf)
        allowed = {j for j, value in measured.items() if value <= best + 1e-6}
        answers.append((allowed, bool(other), bool(other) and not near))
    return answers


def draw_case(seed, crops, entries, contents, spread):
    """Labels on a grid of 1/8, so that a gap of exactly tau occurs and is exact in binary."""
    draw = np.random.default_rng(seed)

    def labels(n):
        return torch.tensor(draw.integers(-spread, spread + 1, n) / 8, dtype=torch.float32)

    memory = FeatureMemory(max(1, entries - 2))  # it has wrapped around
    tokens = torch.tensor(draw.normal(size=(entries, 3, WIDTH)), dtype=torch.float32)
    memory.push(tokens, labels(entries), torch.tensor(draw.integers(0, contents, entries)))
    semantics = torch.tensor(draw.normal(size=(crops, WIDTH)), dtype=torch.float32)
    return semantics, labels(crops), torch.tensor(draw.integers(0, contents, crops)), memory


@given(
    seed=st.integers(0, 2**32),
    crops=st.integers(1, 6),
    entries=st.integers(1, 20),
    contents=st.integers(1, 6),
    spread=st.integers(0, 24),
    tau=st.sampled_from([0.125, 0.25, 1.0]),
)
@example(seed=0, crops=4, entries=8, contents=1, spread=4, tau=0.25)  # nothing of other content
@example(seed=0, crops=4, entries=3, contents=6, spread=24, tau=0.125)  # mostly fallbacks
@settings(deadline=None, max_examples=150)
def test_matches_are_those_of_a_triple_loop(seed, crops, entries, contents, spread, tau):
    semantics, labels, ids, memory = draw_case(seed, crops, entries, contents, spread)
    matches = match_quality(semantics, labels, ids, memory, tau=tau)
    expected = reference(semantics, labels, ids, memory, tau)
    for i, (allowed, found, fallback) in enumerate(expected):
        assert matches.found_B[i].item() is found
        assert matches.fallback_B[i].item() is fallback
        if found:
            assert matches.entries_B[i].item() in allowed
        assert 0 <= matches.entries_B[i].item() < len(memory)  # an index even if nothing is found


def one_hot_memory():
    """Four entries, with cosines 1, 0.6, -1 and 0 to (1, 0)."""
    class_tokens = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]])
    memory = FeatureMemory(4)
    memory.push(
        torch.stack([class_tokens, torch.zeros(4, 2)], 1),
        torch.tensor([0.0, 0.2, 3.0, 0.2]),
        torch.tensor([1, 1, 1, 2]),
    )
    return memory


def test_the_rule_on_a_case_done_by_hand():
    asked = torch.tensor([[2.0, 0.0]] * 4)  # a length other than 1: the cosine ignores it
    labels = torch.tensor([0.0, 0.0, 1.5, 9.0])
    contents = torch.tensor([7, 2, 7, 1])
    matches = match_quality(asked, labels, contents, one_hot_memory(), tau=0.25)
    # Near in label: entries 0, 1, 3, of which 3 is farthest; entry 2 is farther, but not near.
    # Content 2 has no entry 3, so 1. Label 1.5: nothing near; 1 and 3 are the nearest labels (1.3).
    # Content 1 has only entry 3, however far.
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
