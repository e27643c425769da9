import pytest

from qfm_iqm.causes.severity import CAUSES, in_words, main_cause
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
    assert main_cause(severities, (5, 10, 5, 5, 5, 5)) == cause


def test_a_cause_in_words():
    assert in_words("compression", 30.4) == "compression, about 30 points"
    assert in_words("none", None) == "none"


def test_each_cause_is_a_column():
    assert set(CAUSES) <= set(COLUMNS)
