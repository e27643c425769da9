"""Coverage of intervals on many random sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.calibration import (
    FEW,
    conformal_half_width,
    conformal_half_widths,
    coverage,
)


def drawn(seed, n):
    """Scores, and labels whose error grows with the score and is skewed."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(0, 1, n)
    return scores, scores + (0.05 + 0.3 * scores) * (draw.exponential(1, n) - 1)


@pytest.mark.parametrize(("n", "level", "place"), [(9, 0.9, 9), (19, 0.9, 18), (100, 0.5, 51)])
def test_the_reach_is_the_right_order_statistic(n, level, place):
    errors = np.random.default_rng(1).permutation(np.arange(1, n + 1)) * -1.0
    assert conformal_half_width(errors, level) == place


def test_too_few_images_for_a_level_are_refused():
    with pytest.raises(TableError, match=r"90% of images needs at least 9 rated images, .* are 8"):
        conformal_half_width(np.ones(8), 0.9)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_it_holds_as_many_further_labels_as_it_says(level):
    held, widths = [], []
    for seed in range(200):
        scores, labels = drawn(seed, 200)
        half_width = conformal_half_width(labels - scores, level)
        scores, labels = drawn(1000 + seed, 500)
        share, width = coverage(labels, scores - half_width, scores + half_width)
        held.append(share)
        widths.append(width - 2 * half_width)
    assert level - 0.005 <= np.mean(held) <= level + 0.01
    assert np.allclose(widths, 0)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_half_widths_that_depend_on_the_score_hold_as_much_everywhere(level):
    held, narrower = [], []
    for seed in range(100):
        scores, labels = drawn(seed, 400)
        knots, half_widths = conformal_half_widths(scores, labels - scores, level)
        fixed = conformal_half_width(labels - scores, level)
        scores, labels = drawn(1000 + seed, 1000)
        own = np.interp(scores, knots, half_widths)
        inside = np.abs(labels - scores) <= own
        held.append([inside[scores < 0.3].mean(), inside[scores > 0.7].mean(), inside.mean()])
        narrower.append(fixed - own.mean())
    assert np.mean(held, 0) == pytest.approx([level] * 3, abs=0.05)  # fixed: 1 and 0.7
    assert level - 0.005 <= np.mean(held, 0)[2] <= level + 0.015
    assert np.mean(narrower) > 0


@settings(max_examples=30, deadline=None)
@given(st.integers(FEW, 300), st.integers(0, 1000), st.sampled_from([1e-3, 1.0, 1e3]))
def test_both_ends_rise_with_the_score(count, seed, unit):
    draw = np.random.default_rng(seed)
    scores = draw.beta(5, 2, count).round(draw.integers(1, 6)) * unit  # with ties
    errors = draw.normal(0, 1, count) * draw.choice([0, 0.01, 1], count) * unit
    knots, half_widths = conformal_half_widths(scores, errors, 0.9)
    assert (half_widths >= 0).all()
    assert (np.diff(knots) > 0).all()
    assert (np.diff(knots - half_widths) >= -1e-9 * unit).all()
    assert (np.diff(knots + half_widths) >= -1e-9 * unit).all()


def test_a_few_images_have_one_half_width():
    scores, labels = drawn(0, FEW - 1)
    knots, half_widths = conformal_half_widths(scores, labels - scores, 0.9)
    assert len(knots) == 1
    assert half_widths == [conformal_half_width(labels - scores, 0.9)]


def test_perfect_scores_have_intervals_without_width():
    _, half_widths = conformal_half_widths(np.arange(200.0), np.zeros(200), 0.9)
    assert half_widths == pytest.approx(0)
