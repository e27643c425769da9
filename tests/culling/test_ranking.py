import numpy as np
import pytest

from qfm_iqm.culling.measures import NAMES
from qfm_iqm.culling.moments import Limits
from qfm_iqm.culling.ranking import INPUTS, LEVEL, Ranking, load_ranking, order_of, reason

EVEN = Ranking(np.ones(len(INPUTS)), np.ones(len(NAMES)), Limits(30, 0.4, 0.6))


def measures(count, **values):
    found = np.zeros((count, len(NAMES)))
    for name, column in values.items():
        found[:, NAMES.index(name.replace("_", " "))] = column
    return found


def said(points, measured, photo):
    points = np.array(points, float)
    merits = EVEN.merits(points, measured)
    return reason(merits, EVEN.explained(measured), photo, order_of(merits), "best.jpg")


def test_merits_are_weighted_sums_beside_the_mean():
    draw = np.random.default_rng(0)
    weights, points, values = draw.normal(size=13), draw.normal(size=5), draw.normal(size=(5, 12))
    ranking = Ranking(weights, weights[1:], EVEN.limits)
    merits = ranking.merits(points, values)
    for i in range(5):
        for j in range(5):
            apart = weights[0] * (points[i] - points[j]) + weights[1:] @ (values[i] - values[j])
            assert merits[i] - merits[j] == pytest.approx(apart)
    apart = ranking.explained(values).sum(1)[0] - ranking.explained(values).sum(1)[1]
    assert apart == pytest.approx(weights[1:] @ (values[0] - values[1]))


def test_a_photo_that_was_not_measured_is_ranked_by_its_score():
    values = measures(3, detail_1=[1, 2, np.nan])
    values[2] = np.nan
    assert order_of(EVEN.merits(np.array([0.0, 0, 5]), values)) == [2, 1, 0]


@pytest.mark.parametrize(
    ("points", "values", "photo", "expected"),
    [
        ([0, 0, 0, 0], {"detail_1": [3, 0, 0, 0]}, 0, "sharper than the other three"),
        ([9, 0, 0, 0], {"detail_1": [3, 3, 0, 0]}, 0, "sharper than two of the other three"),
        ([0, 0], {"detail_2": [3, 0]}, 0, "sharper than the other"),
        ([0, 0], {"detail_2": [3, 0]}, 1, "less sharp than best.jpg"),
        ([0, 0, 0], {"noise": [2, 0, 0]}, 1, "noisier than best.jpg"),
        ([5, 0, 0], {}, 0, "a higher score than the other two"),
        ([5, 0, 0], {}, 1, "a lower score than best.jpg"),
        ([LEVEL / 2, 0], {"detail_1": [0, 0]}, 0, "about as good as the other"),
        ([LEVEL / 2, 0], {"detail_1": [0, 0]}, 1, "about as good as best.jpg"),
        ([0], {}, 0, "the only photo of its moment"),
    ],
)
def test_reasons(points, values, photo, expected):
    assert said(points, measures(len(points), **values), photo) == expected


def test_what_ships_ranks_a_sharp_photo_before_a_blurred_and_a_noisy_one():
    ranking = load_ranking()
    values = measures(3, detail_1=[0, -1, 0], detail_2=[0, -0.5, 0], noise=[0, -0.3, 1.5])
    points = np.array([70.0, 55, 50])
    merits = ranking.merits(points, values)
    assert order_of(merits)[0] == 0
    assert ranking.limits.together < ranking.limits.alone


def test_equal_photos_keep_their_order():
    assert order_of(np.zeros(4)) == [0, 1, 2, 3]
