import pytest

from qfm_iqm.causes.severity import CAUSES, FLOOR, GOOD, KINDS, in_words, main_cause, points
from qfm_iqm.image.distortions import DISTORTIONS
from qfm_iqm.scoring.row import COLUMNS


@pytest.mark.parametrize(
    ("severities", "cause"),
    [
        ((0, 0, 0, 0, 0, 0), "none"),
        ((4.9, 0, 0, 0, 0, 0), "none"),
        ((5, 0, 0, 0, 0, 0), "blur"),
        ((6, 30, 7, 0, 0, 0), "noise"),
        ((0, 9.9, 0, 0, 0, 5), "color"),  # noise is named from 10 points on
    ],
)
def test_the_cause_that_costs_most_of_those_severe_enough(severities, cause):
    assert main_cause(severities, (5, 10, 5, 5, 5, 5)) == cause


def test_a_cause_in_words():
    assert in_words("compression", 30.4) == "compression, about 30 points"
    assert in_words("none", None) == "none"


def test_points_lie_between_a_good_photo_and_the_worst():
    assert points(1.0) == 0
    assert points(0.0) == GOOD - FLOOR


def test_each_cause_is_a_column_and_has_kinds_of_its_own():
    assert set(CAUSES) <= set(COLUMNS)
    kinds = [kind for cause in CAUSES for kind in KINDS[cause]]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) <= set(DISTORTIONS)
