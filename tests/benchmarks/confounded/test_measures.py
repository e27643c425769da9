"""The verdict for each outcome, and the measures against slow loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from confounded.measures import Gain, highest_between, score_gap, srcc_within, verdict

CLEAR = Gain(0.03, 0.01, 0.05)
NOTHING = Gain(0.0, -0.005, 0.005)


@pytest.mark.parametrize(
    ("qfm", "oracle", "over_like", "selectivity", "outcome"),
    [
        (CLEAR, CLEAR, 0.01, (0.1, 0.1), "supported"),
        (Gain(0.02, 0.001, 0.039), NOTHING, 0.01, (0.1, 0.1), "supported"),  # exactly at the limit
        (Gain(0.019, 0.01, 0.028), CLEAR, 0.01, (0.1, 0.1), "undecided"),  # too little
        (Gain(0.03, 0.0, 0.06), CLEAR, 0.01, (0.1, 0.1), "undecided"),  # not above 0
        (CLEAR, CLEAR, 0.0, (0.1, 0.1), "undecided"),  # like quality does it alone
        (CLEAR, CLEAR, 0.01, (0.1, 0.0), "undecided"),  # random is as selective
        (CLEAR, CLEAR, 0.01, (-0.1, 0.1), "undecided"),  # less selective than without
        (NOTHING, Gain(0.02, 0.01, 0.03), 0.0, (0.0, 0.0), "refuted"),
        (NOTHING, Gain(0.02, -0.01, 0.05), 0.0, (0.0, 0.0), "refuted"),
        (Gain(0.0, -0.01, 0.01), CLEAR, 0.0, (0.0, 0.0), "undecided"),  # it may gain .01
        (NOTHING, Gain(0.019, 0.01, 0.03), 0.0, (0.0, 0.0), "undecided"),  # little possible gain
        (NOTHING, NOTHING, 0.0, (0.0, 0.0), "the mechanism does nothing"),
        (NOTHING, Gain(0.01, 0.0, 0.02), 0.0, (0.0, 0.0), "the mechanism does nothing"),
    ],
)
def test_the_verdict(qfm, oracle, over_like, selectivity, outcome):
    found = verdict(qfm, oracle, over_like_quality=over_like, selectivity=selectivity)
    assert found == outcome


def test_where_the_gain_is_highest():
    assert highest_between({0.5: 0.0, 0.9: 0.03, 1.0: 0.01})
    assert not highest_between({0.5: 0.0, 0.9: 0.03, 1.0: 0.04})
    assert not highest_between({1.0: 0.0, 0.5: 0.05, 0.9: 0.03})


@given(seed=st.integers(0, 2**32), upper=st.integers(0, 1))
def test_measures_are_those_of_loops(seed, upper):
    draw = np.random.default_rng(seed)
    n = 60
    scores, labels = draw.normal(size=n), draw.integers(0, 5, n).astype(float)
    clusters, cells = draw.integers(0, 2, n), draw.integers(0, 6, n)
    for cluster, found in enumerate(srcc_within(scores, labels, clusters)):
        mine = clusters == cluster
        assert found == pytest.approx(spearmanr(scores[mine], labels[mine]).statistic)
    gaps = []
    for cell in range(6):
        errors = {0: [], 1: []}
        for i in range(n):
            if cells[i] == cell:
                errors[int(clusters[i])].append(scores[i] - labels[i])
        if errors[0] and errors[1]:
            gaps.append(np.mean(errors[upper]) - np.mean(errors[1 - upper]))
    assert score_gap(scores, labels, clusters, cells, upper) == pytest.approx(np.mean(gaps))


def test_without_a_common_cell_there_is_no_gap():
    two = np.array([0, 1])
    assert math.isnan(score_gap(np.zeros(2), np.zeros(2), two, two, 0))
