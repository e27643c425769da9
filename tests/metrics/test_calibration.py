"""Calibration against scikit-learn's isotonic regression, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.calibration import calibrate, fit_isotonic, fit_logistic_knots


def bent(n=80, noise=0.2, seed=0):
    """Scores of 0 to 1, and ratings of 1 to 5 that saturate."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(0, 1, n)
    return scores, np.clip(1 + 4 * scores**3 + draw.normal(0, noise, n), 1, 5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(-20, 20)), min_size=3, max_size=40))
def test_the_steps_are_those_of_scikit_learn(pairs):
    scores, ratings = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    x, y = fit_isotonic(scores, ratings)
    expected = IsotonicRegression().fit_transform(scores, ratings)
    levels = sorted(set(np.round(expected, 9)))
    assert np.round(y, 9).tolist() == levels
    for middle, level in zip(x, levels, strict=True):
        inside = np.round(expected, 9) == level
        assert middle == pytest.approx(scores[inside].mean())


@pytest.mark.parametrize("kind", ["isotonic", "logistic"])
def test_a_curve_brings_scores_to_ratings(kind):
    scores, ratings = bent()
    found = calibrate(scores, ratings, 1 + 4 * scores, kind=kind)
    assert (np.diff(found.x) > 0).all()
    assert (np.diff(found.y) >= 0).all()
    assert found.after.value < 0.5 < found.before.value
    assert found.gain.value == pytest.approx(found.before.value - found.after.value)
    assert found.gain.low > 0
    assert found.before.low < found.before.value < found.before.high
    further, true = bent(seed=1)
    predicted = np.interp(further, found.x, found.y)
    error = np.sqrt(np.mean((predicted - true) ** 2))
    assert error == pytest.approx(found.after.value, rel=0.3)


def test_cross_validation_does_not_see_the_rating_it_predicts():
    scores, ratings = bent(n=60)
    found = calibrate(scores, ratings, 1 + 4 * scores)
    changed = ratings.copy()
    changed[7] += 3
    again = calibrate(scores, changed, 1 + 4 * scores)
    assert again.predicted[7] == found.predicted[7]
    assert not np.array_equal(again.predicted, found.predicted)


def test_where_nothing_is_bent_nothing_is_gained():
    draw = np.random.default_rng(5)
    scores = draw.uniform(1, 5, 60)
    ratings = scores + draw.normal(0, 0.3, 60)
    found = calibrate(scores, ratings, scores)
    assert found.gain.low < 0
    assert found.gain.high < 0.1


@pytest.mark.parametrize(
    ("scores", "ratings", "sentence"),
    [
        (np.arange(29), np.arange(29), "at least 30 ratings, but there are 29"),
        (np.arange(40), np.ones(40), "All 40 labels are equal"),
        (np.arange(40), -np.arange(40), r"fall as the scores rise \(SRCC -1.00\).*--lower-is-bet"),
        (np.arange(40), np.tile([1, 5], 20), "not related to the scores"),
    ],
)
def test_ratings_that_no_curve_can_follow_are_refused(scores, ratings, sentence):
    with pytest.raises(TableError, match=sentence):
        calibrate(scores, ratings, scores)


def test_a_logistic_curve_is_followed_by_its_knots():
    scores, ratings = bent(n=100)
    x, y = fit_logistic_knots(scores, ratings)
    assert x[0] < scores.min() - 0.5
    assert x[-1] > scores.max() + 0.5
    assert (np.diff(y) > 0).all()
