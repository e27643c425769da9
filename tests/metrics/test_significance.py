"""Against the papers' examples, R's cocor (whose authors checked them too), and scipy."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.bootstrap import resamples
from qfm_iqm.metrics.correlation import METRICS
from qfm_iqm.metrics.significance import (
    compare_methods,
    holm,
    meng_test,
    paired_bootstrap,
    steiger_test,
)

CORRELATIONS = st.floats(-0.95, 0.95)


def test_meng_rosenthal_rubins_own_example():
    z, p = meng_test(0.63, -0.03, -0.19, 15)
    assert round(z, 2) == 1.68
    assert round(p / 2, 3) == 0.047  # one-sided in the paper


@pytest.mark.parametrize(
    ("r_12", "z"),
    # May and Hittner (1997), r = .5 and .2, n = 50.
    [(0, 1.62), (0.1, 1.70), (0.2, 1.80), (0.3, 1.91), (0.4, 2.06), (0.6, 2.50), (0.8, 3.50)],
)
def test_may_and_hittners_table_for_mengs_test(r_12, z):
    assert round(meng_test(0.5, 0.2, r_12, 50).z, 2) == z


def test_values_of_silver_hittner_and_may():
    """The example of their program DEPCOR (2006): r = .3, .4, .5, n = 100."""
    meng, steiger = meng_test(0.3, 0.4, 0.5, 100), steiger_test(0.3, 0.4, 0.5, 100)
    assert (round(meng.z, 4), round(meng.p, 4)) == (-1.0707, 0.2843)
    assert (round(steiger.z, 4), round(steiger.p, 4)) == (-1.0718, 0.2838)


def test_steigers_own_example():
    """Case A, page 249: -.8913 there, with intermediate values rounded; cocor has -.8887185."""
    z = steiger_test(0.4, 0.5, 0.1, 103).z
    assert z == pytest.approx(-0.8887185, abs=5e-8)
    assert z == pytest.approx(-0.8913, abs=3e-3)


@settings(max_examples=50, deadline=None)
@given(CORRELATIONS, CORRELATIONS, st.floats(-0.5, 0.95), st.integers(10, 5000))
def test_tests_turn_their_sign_with_the_methods(r_1, r_2, r_12, n):
    assume(1 - r_1**2 - r_2**2 - r_12**2 + 2 * r_1 * r_2 * r_12 > 1e-3)
    for test in (meng_test, steiger_test):
        there, back = test(r_1, r_2, r_12, n), test(r_2, r_1, r_12, n)
        assert there.z == pytest.approx(-back.z, abs=1e-9)
        assert there.p == pytest.approx(back.p)
        assert there.p == pytest.approx(2 * stats.norm.sf(abs(there.z)), abs=1e-12)


@pytest.mark.parametrize("test", [meng_test, steiger_test])
def test_false_alarms_come_as_often_as_they_should(test):
    """Two equally good methods: p < .05 in a twentieth of 800 experiments."""
    draw = np.random.default_rng(3)
    covariance = np.array([[1, 0.7, 0.7], [0.7, 1, 0.6], [0.7, 0.6, 1]])
    alarms = 0
    for _ in range(800):
        r = np.corrcoef(draw.multivariate_normal(np.zeros(3), covariance, 60).T)
        alarms += test(r[0, 1], r[0, 2], r[1, 2], 60).p < 0.05
    assert 0.025 < alarms / 800 < 0.075


def test_impossible_correlations_are_refused():
    for arguments in ((1.0, 0.5, 0.2, 50), (0.5, float("nan"), 0.2, 50)):
        with pytest.raises(TableError, match="between -1 and 1"):
            meng_test(*arguments)
    with pytest.raises(TableError, match=r"No three variables .* 0\.9, -0\.9 and 0\.9"):
        meng_test(0.9, -0.9, 0.9, 50)
    with pytest.raises(TableError, match="at least 4 images, not 3"):
        steiger_test(0.5, 0.4, 0.3, 3)


def test_holms_own_steps():
    """p .01, .02, .03, .005 of four: 4 x .005, 3 x .01, 2 x .02, then no lower than that."""
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_sequential_procedure_rejects(p_values):
    """Reference: reject the smallest while it is below level / (number left); stop at the first."""
    level, rejected = 0.05, set()
    for step, i in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[i] > level / (len(p_values) - step):
            break
        rejected.add(int(i))
    found = {i for i, p in enumerate(holm(p_values)) if p <= level * (1 + 1e-12)}
    assert found == rejected


def methods(n=80, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.normal(size=n)
    return labels, labels + draw.normal(0, 0.4, n), labels + draw.normal(0, 1.5, n)


@pytest.mark.parametrize("metric", ["srcc", "plcc"])
def test_paired_bootstrap_is_the_slow_loop_over_the_same_resamples(metric):
    labels, good, poor = methods()
    reference = {"srcc": stats.spearmanr, "plcc": stats.pearsonr}[metric]
    differences = [
        reference(good[rows], labels[rows]).statistic
        - reference(poor[rows], labels[rows]).statistic
        for index_BN in resamples(80, 200, 4)
        for rows in index_BN
    ]
    low, high, p = paired_bootstrap(good, poor, labels, metric, n_boot=200, seed=4)
    assert (low, high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    assert p == pytest.approx(2 / 201)


def test_paired_bootstrap_agrees_with_scipys():
    labels, good, poor = methods()

    def correlation(x, y):
        x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
        return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))

    expected = stats.bootstrap(
        (good, poor, labels),
        lambda one, two, y, axis: correlation(one, y) - correlation(two, y),
        paired=True, vectorized=True, n_resamples=4000, method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    low, high, _ = paired_bootstrap(good, poor, labels, "plcc", n_boot=4000)
    assert (low, high) == pytest.approx(tuple(expected), abs=0.025)


def test_a_method_does_not_differ_from_itself():
    labels, good, _ = methods()
    low, high, p = paired_bootstrap(good, good, labels, n_boot=200)
    assert (low, high, p) == (0, 0, 1)
    (one,) = compare_methods({"a": good, "b": 2 * good + 1}, labels, n_boot=200)
    assert (one.difference, one.p_test, one.p_bootstrap) == (0, 1, 1)


@pytest.mark.parametrize("metric", ["srcc", "plcc"])
def test_equal_and_opposite_orders_are_compared_whatever_their_correlation_is_rounded_to(metric):
    rng = np.random.default_rng(4)
    for n in range(5, 60):
        labels, scores = rng.normal(size=(2, n))
        same = {"one": scores, "same": 3 * scores + 1}
        assert compare_methods(same, labels, metric=metric, n_boot=9)[0].p_test == 1
        opposite = {"one": labels + scores / 2, "opposite": -3 * (labels + scores / 2)}
        (found,) = compare_methods(opposite, labels, metric=metric, n_boot=9)
        expected = 1 - found.value_1 > 1e-9  # a perfect order has no test
        assert (found.p_test is not None) == expected
        assert not expected or n < 15 or found.p_test < 0.05


def test_a_perfect_order_has_no_test_and_the_others_keep_theirs():
    labels, good, poor = methods()
    scores = {"perfect": labels, "good": good, "poor": poor}
    with_perfect, _, others = compare_methods(scores, labels, n_boot=9)
    assert with_perfect.p_test is None
    assert with_perfect.p_test_holm is None
    assert 0 < others.p_test <= others.p_test_holm


def test_all_pairs_are_compared_and_corrected():
    labels, good, poor = methods()
    draw = np.random.default_rng(5)
    scores = {"good": good, "poor": poor, "like good": good + draw.normal(0, 0.05, labels.size)}
    found = compare_methods(scores, labels, metric="plcc", test="steiger", n_boot=500)
    assert [(one.first, one.second) for one in found] == [
        ("good", "poor"), ("good", "like good"), ("poor", "like good"),
    ]  # fmt: skip
    for one in found:
        assert one.value_1 == METRICS["plcc"](scores[one.first], labels)
        assert one.difference == one.value_1 - one.value_2
        assert one.ci_low <= one.difference <= one.ci_high
        assert one.p_test_holm >= one.p_test
    by_hand = steiger_test(
        found[0].value_1, found[0].value_2, np.corrcoef(good, poor)[0, 1], labels.size
    )
    assert found[0].p_test == pytest.approx(by_hand.p)
    assert found[0].p_test_holm < 0.01 < found[1].p_test_holm
    assert [one.p_bootstrap_holm for one in found] == holm([one.p_bootstrap for one in found])


@pytest.mark.parametrize("metric", ["srcc", "plcc"])
def test_methods_correlate_with_each_other_by_the_metric_that_is_compared(metric):
    draw = np.random.default_rng(6)
    labels = draw.normal(size=60)
    one = np.exp(labels + draw.normal(0, 1, 60))  # skewed: ranks and values differ
    two = one + draw.normal(0, 2, 60)
    by = {"srcc": stats.spearmanr, "plcc": stats.pearsonr}[metric]
    between, *each = (by(x, y).statistic for x, y in ((one, two), (one, labels), (two, labels)))
    expected = steiger_test(*each, between, 60).p
    assert 0.01 < expected < 0.9
    (found,) = compare_methods(
        {"a": one, "b": two}, labels, metric=metric, test="steiger", n_boot=50
    )
    assert found.p_test == pytest.approx(expected, rel=1e-9)


def test_a_metric_without_a_test_has_the_bootstrap_alone():
    labels, good, poor = methods()
    (one,) = compare_methods({"a": good, "b": poor}, labels, metric="krcc", n_boot=100)
    assert one.p_test is None
    assert one.p_test_holm is None
    assert one.p_bootstrap < 0.05


def test_mistakes_are_named():
    labels, good, poor = methods()
    with pytest.raises(TableError, match="at least two methods, not 1"):
        compare_methods({"a": good}, labels)
    with pytest.raises(TableError, match="79 scores and 80 labels"):
        compare_methods({"a": good, "b": poor[1:]}, labels)
