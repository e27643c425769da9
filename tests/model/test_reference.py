import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats
from scipy.spatial.distance import mahalanobis

from qfm_iqm.model.reference import Curve, OODDetector, ReferenceStatistics


def test_a_curve_is_straight_between_its_knots_and_flat_beyond():
    curve = Curve(x=(0, 1, 3), y=(10, 20, 20))
    assert curve([-5, 0, 0.5, 2, 9]).tolist() == [10, 10, 15, 20, 20]
    assert Curve(x=(0, 1), y=(5, 1))(0.25) == 4


@pytest.mark.parametrize(
    ("x", "y"), [((0, 0), (1, 2)), ((1, 0), (1, 2)), ((0, 1, 2), (1, 3, 2)), ((0, 1), (1,))]
)
def test_what_is_no_monotone_curve_is_refused(x, y):
    with pytest.raises(ValidationError, match="a curve"):
        Curve(x=x, y=y)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=200), st.floats(-120, 120))
def test_the_share_below_is_that_of_the_population(scores, score):
    quantiles = np.quantile(scores, np.linspace(0, 1, 101))
    reference = ReferenceStatistics(
        population="p", images=len(scores), quantiles=tuple(quantiles.tolist())
    )
    share = reference.share_below(score)
    assert 0 <= share <= 1
    below = stats.percentileofscore(quantiles, score, kind="strict") / 100
    up_to = stats.percentileofscore(quantiles, score, kind="weak") / 100
    assert below - 0.011 <= share <= up_to + 0.011


def test_the_distance_is_mahalanobis():
    draw = np.random.default_rng(0)
    photos = draw.normal(size=(300, 3)) @ draw.normal(size=(3, 3)) + 5
    covariance = np.cov(photos.T)
    inverse = np.linalg.inv(covariance)
    whitening = np.linalg.cholesky(inverse).T
    detector = OODDetector(
        names=("a", "b", "c"), mean=tuple(photos.mean(0)), limit=3, false_alarms=0.01, images=300,
        whitening=tuple(map(tuple, whitening)),
    )  # fmt: skip
    for place in ([5, 5, 5], [0, 9, 1]):
        expected = mahalanobis(place, photos.mean(0), inverse)
        assert detector.distance(place) == pytest.approx(expected)
