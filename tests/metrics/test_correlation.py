"""Correlations against scipy.stats, and a logistic curve with known parameters."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from qfm_iqm.errors import TableError
from qfm_iqm.metrics import correlation
from qfm_iqm.metrics.correlation import (
    METRICS,
    Logistic4,
    check_pair,
    fit_logistic,
    krcc,
    krcc_resamples,
    plcc,
    plcc_logistic,
    plcc_rows,
    rmse,
    rmse_logistic,
    rmse_rows,
    srcc,
    srcc_rows,
)


def pair(n=60, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=n)
    scores = labels + rng.normal(size=n)
    if decimals is not None:
        scores, labels = scores.round(decimals), labels.round(decimals)
    return scores, labels


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("n", [3, 10, 200])
def test_equals_scipy_with_and_without_ties(n, decimals):
    scores, labels = pair(n, seed=n + 1, decimals=decimals)
    assert srcc(scores, labels) == pytest.approx(stats.spearmanr(scores, labels).statistic)
    assert plcc(scores, labels) == pytest.approx(stats.pearsonr(scores, labels).statistic)
    assert krcc(scores, labels) == pytest.approx(stats.kendalltau(scores, labels).statistic)
    assert rmse(scores, labels) == pytest.approx(np.sqrt(np.mean((scores - labels) ** 2)))


def test_krcc_is_tau_b_by_counting_pairs():
    scores, labels = [1, 1, 2, 3, 3, 5], [2, 1, 1, 4, 4, 3]
    concordance = ties_s = ties_y = 0
    for i in range(6):
        for j in range(i):
            s, y = np.sign(scores[i] - scores[j]), np.sign(labels[i] - labels[j])
            concordance += s * y
            ties_s, ties_y = ties_s + (s == 0), ties_y + (y == 0)
    expected = concordance / np.sqrt((15 - ties_s) * (15 - ties_y))
    assert krcc(scores, labels) == pytest.approx(expected)


def test_perfect_agreement_and_disagreement():
    values = [0.1, 0.2, 0.7, 0.9, 3.0]
    for metric in (srcc, plcc, krcc, plcc_logistic):
        assert metric(values, values) == pytest.approx(1, abs=1e-3)
    for metric in (srcc, plcc, krcc):
        assert metric(values, [-v for v in values]) == pytest.approx(-1)
    assert rmse(values, values) == 0


def test_a_falling_relation_keeps_its_sign_until_it_is_mapped():
    scores, labels = pair()
    assert srcc(scores, -labels) == pytest.approx(-srcc(scores, labels))
    assert plcc_logistic(scores, -labels) == pytest.approx(plcc_logistic(scores, labels), abs=1e-6)
    falling = fit_logistic(scores, -labels)
    assert falling.b1 < falling.b2 and falling.b4 > 0


@given(
    values=st.lists(st.integers(-50, 50), min_size=5, max_size=40, unique=True),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_ranks_alone_decide_srcc_and_krcc(values, seed):
    scores = np.array(values, dtype=float)
    labels = np.random.default_rng(seed).normal(size=scores.size)
    for metric in (srcc, krcc):
        for monotone in (lambda x: x**3, lambda x: np.exp(x / 20), lambda x: 7 * x - 1e6):
            assert metric(monotone(scores), labels) == pytest.approx(metric(scores, labels))


@given(
    scale=st.floats(1e-9, 1e9),
    offset=st.floats(-1e3, 1e3),
    flip=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_units_of_scores_do_not_matter(scale, offset, flip):
    scores, labels = pair(40)
    moved = (scores * (-1 if flip else 1) + offset) * scale
    assert abs(plcc(moved, labels)) == pytest.approx(plcc(scores, labels), abs=1e-9)
    assert rmse_logistic(moved, labels) == pytest.approx(rmse_logistic(scores, labels), abs=1e-6)


def test_a_large_offset_costs_no_digits():
    scores = 1e9 + np.array([0.0, 1.0, 2.0, 4.0])
    assert plcc(scores, [0, 1, 2, 4]) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("true", [Logistic4(90, 10, 0.4, 0.1), Logistic4(0.05, 0.95, 0.6, 0.2)])
def test_fit_recovers_known_parameters(true, unit):
    s = np.linspace(0, 1, 80)
    found = fit_logistic(s * unit, true(s))
    assert found.b1 == pytest.approx(true.b1, rel=1e-3)
    assert found.b2 == pytest.approx(true.b2, rel=1e-3)
    assert found.b3 == pytest.approx(true.b3 * unit, rel=1e-3)
    assert found.b4 == pytest.approx(true.b4 * unit, rel=1e-3)
    assert plcc_logistic(s * unit, true(s)) == pytest.approx(1)
    assert rmse_logistic(s * unit, true(s)) == pytest.approx(0, abs=1e-4 * abs(true.b1 - true.b2))


def test_fit_equals_four_parameter_least_squares():
    rng = np.random.default_rng(1)
    s = rng.normal(size=300)
    labels = Logistic4(80, 20, 0.2, 0.5)(s) + 5 * rng.normal(size=300)

    def curve(s, b1, b2, b3, b4):
        return (b1 - b2) / (1 + np.exp(-(s - b3) / abs(b4))) + b2

    reference, _ = optimize.curve_fit(curve, s, labels, p0=(80, 20, 0, 1))
    found = fit_logistic(s, labels)
    assert (found.b1, found.b2, found.b3, found.b4) == pytest.approx(tuple(reference), rel=1e-3)


@pytest.mark.parametrize("seed", [45, 100, 259, 381, 445])
def test_the_fit_is_the_best_of_several_valleys(seed):
    """For labels hardly related to the scores, where the deepest valley of the coarse
    grid is not the one with the lowest floor: held against a fine grid, all of it.
    """
    draw = np.random.default_rng(seed)
    n = int(draw.integers(30, 80))
    scores = np.sort(draw.normal(size=n))
    steps = [scores > draw.normal(), scores > draw.normal()]
    labels = 0.25 * steps[0] - 0.25 * steps[1] + 0.4 * draw.normal(size=n)
    middles, widths = np.meshgrid(np.linspace(-4, 4, 801), np.geomspace(1e-2, 10, 40))
    rises = special.expit((scores - middles[..., None]) / widths[..., None])
    rises -= rises.mean(-1, keepdims=True)
    target = labels - labels.mean()
    explained = (rises @ target) ** 2 / np.maximum((rises**2).sum(-1), 1e-9)
    least = (target @ target - explained.max()) / n
    found = np.mean((fit_logistic(scores, labels)(scores) - labels) ** 2)
    assert found <= least * (1 + 1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_mapping_is_never_worse_than_a_straight_line(seed):
    scores, labels = pair(50, seed=seed)
    assert plcc_logistic(scores, labels) >= abs(plcc(scores, labels)) - 1e-4


def test_fit_survives_a_step_ties_and_an_outlier():
    s = np.array([0.0] * 10 + [1.0] * 10)
    assert plcc_logistic(s, [1, 2] * 5 + [4, 5] * 5) == pytest.approx(
        plcc(s, [1, 2] * 5 + [4, 5] * 5)
    )
    s = np.append(np.linspace(0, 1, 30), 1e6)
    assert plcc_logistic(s, np.append(np.linspace(0, 1, 30), 1.0)) > 0.99


def test_mapping_does_not_overflow():
    curve = Logistic4(1, 0, 0, 1e-3)
    with np.errstate(all="raise", under="ignore"):
        assert curve([-1e9, 0, 1e9]).tolist() == [0, 0.5, 1]


def test_a_flat_valley_of_parameters_is_no_failure():
    """Hardly related scores: the best curve is nearly a step, and its width is free."""
    scores = [34.162899, 33.260084, 29.713219, 30.241067, 45.577598, 45.388322, 43.258287, 40.6841]
    labels = np.array([82.194, 60.347, 43.199, 21.856, 81.873, 61.47, 40.518, 19.548])
    left = np.mean((fit_logistic(scores, labels)(np.array(scores)) - labels) ** 2)
    assert left == pytest.approx(0.68373848878 * labels.var(), rel=1e-6)


def test_a_fit_that_explains_nothing_is_refused():
    with pytest.raises(TableError, match="explain nothing"):
        fit_logistic([0, 1] * 4, [0, 0, 1, 1] * 2)


def test_four_images_are_too_few_for_four_parameters():
    with pytest.raises(TableError, match="at least 5 images, not 4"):
        plcc_logistic([1, 2, 3, 4], [1, 2, 4, 3])


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5], "6 scores and 5 labels"),
        ([1, 2], [1, 2], "at least 3 images, not 2"),
        ([], [], "at least 3 images, not 0"),
        ([1, np.nan, np.inf, 4, 5], [1, 2, 3, 4, 5], "2 of 5 scores are NaN"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, -np.inf], "1 of 5 labels are NaN"),
        ([0.5] * 5, [1, 2, 3, 4, 5], r"All 5 scores are equal \(0.5\)"),
        ([1, 2, 3, 4, 5], [3] * 5, r"All 5 labels are equal \(3\)"),
        ([[1, 2, 3]], [1, 2, 3], "1-D"),
        (["a", "b", "c"], [1, 2, 3], "must be numbers"),
    ],
)
def test_what_has_no_answer_is_refused(metric, scores, labels, message):
    with pytest.raises(TableError, match=message):
        metric(scores, labels)


def test_rows_equal_one_by_one_and_are_nan_where_constant():
    rng = np.random.default_rng(2)
    scores, labels = rng.integers(0, 9, size=(2, 5, 30)).astype(float)
    labels[3] = 4.0
    for rows, metric in ((srcc_rows, srcc), (plcc_rows, plcc)):
        values = rows(scores, labels)
        assert np.isnan(values).tolist() == [False, False, False, True, False]
        for row in (0, 1, 2, 4):
            assert values[row] == pytest.approx(metric(scores[row], labels[row]))
    assert rmse_rows(scores, labels)[0] == pytest.approx(rmse(scores[0], labels[0]))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30),
    st.integers(0, 99),
)
def test_krcc_of_resamples_is_that_of_each(pairs, seed):
    scores, labels = np.array(pairs, dtype=np.float64).T / 7
    index = np.random.default_rng(seed).integers(0, len(pairs), size=(4, len(pairs)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NaN if all values are equal
        expected = [stats.kendalltau(scores[i], labels[i]).statistic for i in index]
    np.testing.assert_allclose(krcc_resamples(scores, labels, index), expected, atol=1e-12)


def test_krcc_of_many_images_is_counted_in_parts(monkeypatch):
    scores, labels = np.random.default_rng(0).normal(size=(2, 50)).round(1)
    index = np.random.default_rng(1).integers(0, 50, size=(3, 50))
    whole = krcc_resamples(scores, labels, index)
    for held in (1, 7 * 50):
        monkeypatch.setattr(correlation, "_PAIRS", held)
        assert np.array_equal(krcc_resamples(scores, labels, index), whole)


def test_check_pair_gives_float64():
    scores, labels = check_pair(np.array([1, 2, 3], dtype=np.float32), (3, 2, 1))
    assert scores.dtype == labels.dtype == np.float64
