import pytest

from qfm_iqm.causes.severity import CAUSES, Causes, worst_cause
from qfm_iqm.scoring.row import COLUMNS


@pytest.mark.parametrize(
    ("severities", "cause"),
    [
        ((0, 0, 0, 0, 0, 0), "none"),
        ((4.9, 0, 0, 0, 0, 0), "none"),
        ((5, 0, 0, 0, 0, 0), "blur"),
        ((6, 30, 7, 0, 0, 0), "noise"),
        ((0, 9.9, 0, 0, 0, 5), "color"),  # noise is named only from 10 points
    ],
)
def test_the_cause_that_costs_most_of_those_severe_enough(severities, cause):
    assert worst_cause(severities, (5, 10, 5, 5, 5, 5)) == cause


def test_the_second_cause_is_another():
    severities = (30, 6, 7, 0, 0, 0)
    assert worst_cause(severities, (5,) * 6, but="blur") == "compression"
    assert worst_cause(severities, (9,) * 6, but="blur") == "none"


def test_causes_in_words():
    severities = {"compression": 30.4, "noise": 9.6}
    assert str(Causes("compression", "none", severities)) == "compression, about 30 points"
    both = "compression, about 30 points; noise, about 10 points"
    assert str(Causes("compression", "noise", severities)) == both
    assert str(Causes("none", "none", {})) == "none"


def test_each_cause_is_a_column():
    assert set(CAUSES) <= set(COLUMNS)
